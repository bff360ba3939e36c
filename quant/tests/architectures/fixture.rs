//! A folder of `tests/fixtures`: a miniature model with inputs and everything recorded from the original code.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bitloupe_quant::exec::reference::Reference;
use bitloupe_quant::exec::{Cancel, Engine, Quantization, Tap, Value};
use bitloupe_quant::graph::{Graph, NodeId, Op};
use bitloupe_quant::models::{InputShapes, Model, ModelFiles, open_for};
use candle_core::{DType, Device};
use safetensors::{Dtype, SafeTensors};

/// Tensors of a file as f32, with their shapes.
pub(crate) type Tensors = HashMap<String, (Vec<usize>, Vec<f32>)>;

pub(crate) struct Fixture {
    folder: PathBuf,
    pub(crate) inputs: Tensors,
    pub(crate) recorded: Tensors,
}

/// A model, run on every sample of a fixture's batch.
pub(crate) struct Run {
    pub(crate) model: Model,
    pub(crate) inputs: Vec<Vec<Value>>,
    values: Vec<HashMap<usize, Value>>,
}

/// Reads a file; integers become floats.
fn tensors(path: &Path) -> Tensors {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.iter()
        .filter_map(|(name, view)| {
            let data = match view.dtype() {
                Dtype::F32 => view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
                Dtype::I64 => {
                    view.data().as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b) as f32).collect()
                }
                _ => return None,
            };
            Some((name.to_owned(), (view.shape().to_vec(), data)))
        })
        .collect()
}

impl Fixture {
    pub(crate) fn open(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name);
        let recorded = tensors(&folder.join("outputs.safetensors"));
        Self { inputs: tensors(&folder.join("inputs.safetensors")), recorded, folder }
    }

    pub(crate) fn files(&self) -> ModelFiles {
        ModelFiles::Path(self.folder.clone())
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// Opens the model for the inputs that `given` names, as (input of the graph, tensor of the fixture), and runs every
    /// sample of the batch, keeping all values.
    pub(crate) fn run(&self, given: &[(&str, &str)]) -> Run {
        self.run_file(self.files(), given)
    }

    /// The same with another file of the model.
    pub(crate) fn run_file(&self, files: ModelFiles, given: &[(&str, &str)]) -> Run {
        let tensor = |name: &str| self.inputs.get(name).unwrap_or_else(|| panic!("no input {name}"));
        let shapes: InputShapes =
            given.iter().map(|(input, name)| ((*input).to_owned(), tensor(name).0.clone())).collect();
        let model = open_for(&files, None, &shapes).unwrap_or_else(|e| panic!("{files:?}: {e}"));
        let engine = Engine::new(model.graph.clone());
        let graph = &*model.graph;
        let batch = tensor(given[0].1).0[0];
        let sample = |i: usize| -> Vec<Value> {
            let of_node = |id: &NodeId| {
                let node = graph.node(*id);
                let len: usize = node.shape.iter().product();
                let (_, name) = given
                    .iter()
                    .find(|(input, _)| *input == node.name)
                    .unwrap_or_else(|| panic!("the graph wants `{}`, which is not given", node.name));
                Value::new(node.shape.clone(), tensor(name).1[i * len..][..len].to_vec())
            };
            graph.inputs().iter().map(of_node).collect()
        };
        let inputs: Vec<Vec<Value>> = (0..batch).map(sample).collect();
        let none = Quantization::none(graph);
        let run = |inputs: &Vec<Value>| {
            let mut tap = Everything(HashMap::new());
            engine.run(inputs, &none, None, &mut tap, &Cancel::default()).unwrap();
            tap.0
        };
        let values = inputs.iter().map(run).collect();
        Run { model, inputs, values }
    }

    /// Compares every recorded activation, found by its name, or by the name of the node that `alias` gives. Some must be
    /// there: `at_least`.
    pub(crate) fn compare_activations(
        &self,
        run: &Run,
        tolerance: f32,
        at_least: usize,
        alias: impl Fn(&str) -> Option<String>,
    ) {
        let listed = std::fs::read(self.path("activations.json")).unwrap();
        let listed: Vec<serde_json::Value> = serde_json::from_slice(&listed).unwrap();
        let (mut compared, mut worst, mut bad) = (0, 0.0_f32, Vec::new());
        for entry in &listed {
            let name = entry["name"].as_str().unwrap();
            // Also those that were dropped for their size must be found.
            let node = alias(name).map_or_else(
                || node_of(&run.model.graph, name),
                |node| run.model.graph.find(&node).unwrap_or_else(|| panic!("no node {node} for {name}")),
            );
            let Some(tensor) = entry["tensor"].as_str() else { continue };
            let gap = run.gap(node, &self.recorded[tensor].1, name);
            worst = worst.max(gap);
            compared += 1;
            if gap.is_nan() || gap > tolerance {
                // Maps of hundreds: the recorded f32 may itself be further than that from f64. Ours must not be.
                let [ours, theirs] = run.distances_from_exact(node, &self.recorded[tensor].1);
                if ours <= theirs.min(tolerance) {
                    println!("{name}: {ours:e} from f64, {theirs:e} as recorded");
                    continue;
                }
                bad.push(format!("{name}: {gap:e}"));
            }
        }
        assert!(bad.is_empty(), "{} of {compared} differ:\n{}", bad.len(), bad.join("\n"));
        assert!(compared >= at_least, "only {compared} compared");
        println!("{compared} activations, largest difference {worst:e}");
    }

    /// Compares the value of a node with a recorded tensor.
    pub(crate) fn compare_node(&self, run: &Run, node: NodeId, recorded: &str, tolerance: f32) {
        let expected = self.recorded.get(recorded).unwrap_or_else(|| panic!("{recorded} was not recorded"));
        let gap = run.gap(node, &expected.1, recorded);
        assert!(gap <= tolerance, "{recorded}: {gap:e}");
        println!("{recorded}: {gap:e}");
    }

    /// Compares a named result of the graph with a recorded tensor.
    pub(crate) fn compare_output(&self, run: &Run, output: &str, recorded: &str, tolerance: f32) {
        let graph = &run.model.graph;
        let (_, node) = graph
            .outputs()
            .iter()
            .find(|(name, _)| name == output)
            .unwrap_or_else(|| panic!("no output {output} in {:?}", graph.outputs()));
        let expected = self.recorded.get(recorded).unwrap_or_else(|| panic!("{recorded} was not recorded"));
        let gap = run.gap(*node, &expected.1, output);
        assert!(gap <= tolerance, "{output}: {gap:e}");
        println!("{output}: {gap:e}");
    }
}

impl Run {
    /// The values of a node in all samples, one after another.
    pub(crate) fn values(&self, node: NodeId) -> Vec<f32> {
        self.values.iter().flat_map(|values| values[&node.index()].as_slice().to_vec()).collect()
    }

    /// The node of a name.
    pub(crate) fn node(&self, name: &str) -> NodeId {
        self.model.graph.find(name).unwrap_or_else(|| panic!("no node `{name}`"))
    }

    /// What a node of this name reads first.
    pub(crate) fn before(&self, name: &str) -> NodeId {
        self.model.graph.node(self.node(name)).inputs[0]
    }

    /// The largest difference of a node's values from recorded ones; NaN if one is.
    fn gap(&self, node: NodeId, theirs: &[f32], name: &str) -> f32 {
        let ours = self.values(node);
        // What does not depend on the sample is recorded once.
        let once = ours.len() == theirs.len() * self.values.len();
        assert!(ours.len() == theirs.len() || once, "{name}: {} and {}", ours.len(), theirs.len());
        let worse = |worst: f32, gap: f32| if gap > worst || gap.is_nan() { gap } else { worst };
        // Equal infinities have no difference.
        let gap = |(a, b): (&f32, &f32)| if a == b { 0.0 } else { (a - b).abs() };
        ours.iter().zip(theirs.iter().cycle()).map(gap).fold(0.0, worse)
    }

    /// The largest distance of a node's values from candle's in f64, and that of recorded ones.
    fn distances_from_exact(&self, node: NodeId, recorded: &[f32]) -> [f32; 2] {
        let graph = &self.model.graph;
        let mut exact = Vec::new();
        for inputs in &self.inputs {
            let values = Reference::new(graph, Device::Cpu, DType::F64).run(inputs).unwrap();
            let values: Vec<f64> = values[node.index()].flatten_all().unwrap().to_vec1().unwrap();
            exact.extend(values);
        }
        let worst = |values: &[f32]| {
            let gaps = values.iter().zip(&exact).map(|(x, exact)| (f64::from(*x) - exact).abs() as f32);
            gaps.fold(0.0, |a: f32, b| if b > a || b.is_nan() { b } else { a })
        };
        [worst(&self.values(node)), worst(recorded)]
    }

    /// Compares the fused kernels with candle in f64, node by node: within `tolerance` of the node's largest value.
    pub(crate) fn compare_reference(&self, tolerance: f64) {
        let graph = &self.model.graph;
        let exact = Reference::new(graph, Device::Cpu, DType::F64).run(&self.inputs[0]).unwrap();
        for (index, node) in graph.nodes().iter().enumerate() {
            if matches!(node.op, Op::Input | Op::Constant(_)) {
                continue;
            }
            let theirs: Vec<f64> = exact[index].flatten_all().unwrap().to_vec1().unwrap();
            let ours = self.values[0][&index].as_slice();
            let scale = theirs.iter().fold(1.0_f64, |m, x| m.max(x.abs()));
            let gap = ours.iter().zip(&theirs).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
            assert!(gap <= tolerance * scale, "{} ({}): {gap:e} of {scale}", node.name, node.op.kind());
        }
    }
}

/// Keeps everything.
struct Everything(HashMap<usize, Value>);

impl Tap for Everything {
    fn wants(&self, _: NodeId) -> bool {
        true
    }

    fn value(&mut self, node: NodeId, value: &Value) {
        self.0.insert(node.index(), value.clone());
    }
}

/// The node whose value a recorded activation is: `act.<module>.input`, `act.<module>.output` (with `#k` for a further
/// call of the module), `attn.<module>`.
pub(crate) fn node_of(graph: &Graph, recorded: &str) -> NodeId {
    let find = |name: String| graph.find(&name).unwrap_or_else(|| panic!("no node `{name}` for {recorded}"));
    let (base, call) =
        recorded.split_once('#').map_or((recorded, String::new()), |(b, k)| (b, format!("#{k}")));
    if let Some(path) = base.strip_prefix("attn.") {
        return find(format!("{path}.softmax{call}"));
    }
    let path = base.strip_prefix("act.").unwrap_or_else(|| panic!("{recorded}"));
    let (module, end) = path.rsplit_once('.').unwrap_or_else(|| panic!("{recorded}"));
    let id = find(format!("{module}{call}"));
    if end == "output" { id } else { graph.node(id).inputs[0] }
}
