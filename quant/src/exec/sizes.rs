//! One model for pictures of many sizes: a graph for each, made when the first picture of that size comes.
//!
//! All of them have the same nodes in the same places and share their weights, so sites, quantizers and kept values mean
//! the same in each (see [`Graph::difference`]).

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Engine, ExecError, Value};
use crate::graph::Graph;
use crate::models::{InputShapes, ModelError};

/// Graphs of other sizes kept at most.
const KEPT: usize = 16;
/// Bytes of their constants together at most; the newest one stays in any case.
const KEPT_BYTES: usize = 256 << 20;

/// Makes the graph of a model for inputs of other shapes.
pub trait Resized: Send + Sync {
    /// The graph for these shapes.
    fn graph(&self, shapes: &InputShapes) -> Result<Graph, ModelError>;
}

/// Shapes of all inputs, in the order of [`Graph::inputs`].
type Shapes = Vec<Vec<usize>>;

/// The sizes of a model, shared by it and what rewrites make of it.
pub(super) struct Sizes {
    /// As the model was opened.
    base: Arc<Graph>,
    maker: Box<dyn Resized>,
    /// Without weights, newest last.
    kept: Mutex<Vec<(Shapes, Arc<Graph>)>>,
}

impl std::fmt::Debug for Sizes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sizes({} kept)", lock(&self.kept).len())
    }
}

impl Sizes {
    pub(super) fn new(base: Arc<Graph>, maker: Box<dyn Resized>) -> Self {
        Self { base, maker, kept: Mutex::default() }
    }

    /// The sizes of the graph for these shapes.
    fn of(&self, shapes: &Shapes) -> Result<Arc<Graph>, ExecError> {
        if let Some(found) = newest(&self.kept, shapes) {
            return Ok(found);
        }
        // Not under the lock: building hands work to the thread pool, and a thread that waits for it may take up another
        // sample of this size. Two that build at once make the same.
        let names = self.base.inputs().iter().map(|&id| self.base.node(id).name.as_str());
        let asked: InputShapes = names.zip(shapes.iter().cloned()).collect();
        let failed = |message| ExecError::Size { shapes: shapes.clone(), message };
        let made = self.maker.graph(&asked).map_err(|error| failed(error.to_string()))?;
        if let Some(difference) = self.base.difference(&made) {
            return Err(failed(format!("it is another graph: {difference}")));
        }
        for (&id, asked) in made.inputs().iter().zip(shapes) {
            let node = made.node(id);
            if node.shape != *asked {
                return Err(failed(format!(
                    "input `{}` would be {:?} beside the others",
                    node.name, node.shape
                )));
            }
        }
        let made = Arc::new(self.base.at_size_of(&made).without_weights());
        keep(&self.kept, shapes, &made, |graph| graph.constant_bytes_beside(&self.base));
        Ok(made)
    }
}

/// Engines of one rewritten form for other sizes, newest last.
#[derive(Debug, Default)]
pub(super) struct Siblings(Mutex<Vec<(Shapes, Arc<Engine>)>>);

impl Engine {
    /// The same for pictures of all sizes: `maker` makes the graphs of others than this one's.
    #[must_use]
    pub fn with_sizes(mut self, maker: Box<dyn Resized>) -> Self {
        self.sizes = Some(Arc::new(Sizes::new(Arc::clone(self.graph()), maker)));
        self
    }

    /// The engine for the size of these inputs (in the order of [`Graph::inputs`]); none if it is this one.
    pub fn at_size_of(&self, inputs: &[Value]) -> Result<Option<Arc<Self>>, ExecError> {
        let graph = self.graph();
        let Some(sizes) = &self.sizes else { return Ok(None) };
        let own = |(id, value): (&crate::graph::NodeId, &Value)| graph.node(*id).shape == value.shape();
        if inputs.len() != graph.inputs().len() || graph.inputs().iter().zip(inputs).all(own) {
            return Ok(None);
        }
        let shapes: Shapes = inputs.iter().map(|value| value.shape().to_vec()).collect();
        if let Some(found) = newest(&self.siblings.0, &shapes) {
            return Ok(Some(found));
        }
        let sized = graph.at_size_of(&*sizes.of(&shapes)?);
        let mut hasher = DefaultHasher::new();
        shapes.hash(&mut hasher);
        let made = Arc::new(self.sibling(Arc::new(sized), hasher.finish()));
        keep(&self.siblings.0, &shapes, &made, |engine| engine.graph().constant_bytes_beside(graph));
        Ok(Some(made))
    }

    /// Whether an input may have this shape: that of the graph, or one of the same rank where pictures have sizes of their
    /// own.
    pub(super) fn takes(&self, expected: &[usize], found: &[usize]) -> bool {
        found == expected
            || self.sizes.is_some()
                && found.len() == expected.len()
                && found.len() > 2
                && found[..found.len() - 2] == expected[..expected.len() - 2]
    }
}

/// What is kept for these shapes; it counts as new again.
fn newest<T>(kept: &Mutex<Vec<(Shapes, Arc<T>)>>, shapes: &Shapes) -> Option<Arc<T>> {
    let mut kept = lock(kept);
    let at = kept.iter().position(|(known, _)| known == shapes)?;
    let found = kept.remove(at);
    let value = Arc::clone(&found.1);
    kept.push(found);
    Some(value)
}

/// Keeps one more and forgets the oldest that are too many.
fn keep<T>(
    kept: &Mutex<Vec<(Shapes, Arc<T>)>>,
    shapes: &Shapes,
    value: &Arc<T>,
    bytes: impl Fn(&T) -> usize,
) {
    let mut kept = lock(kept);
    kept.retain(|(known, _)| known != shapes);
    kept.push((shapes.clone(), Arc::clone(value)));
    let total = |kept: &[(Shapes, Arc<T>)]| kept.iter().map(|(_, one)| bytes(one)).sum::<usize>();
    while kept.len() > 1 && (kept.len() > KEPT || total(&kept) > KEPT_BYTES) {
        kept.remove(0);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
