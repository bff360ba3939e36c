//! A fitted plan made ready for running.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::step::LayerWeight;
use super::{Engine, ExecError};
use crate::graph::Graph;
use crate::quantizer::Params;

/// Which sites are fake-quantized and how. Sites that are not named stay in full precision.
#[derive(Debug, Clone)]
pub struct Quantization {
    /// By node: its quantized weight.
    weights: Vec<Option<Arc<LayerWeight>>>,
    /// By node: quantizers of its operands.
    operands: Vec<[Option<Operand>; 2]>,
    /// By node: stands for all of the above; 0 without quantizers.
    hashes: Vec<u64>,
}

/// A quantizer at an operand of a layer.
#[derive(Debug, Clone)]
pub(super) struct Operand {
    pub(super) site: usize,
    pub(super) params: Arc<Params>,
}

impl Quantization {
    /// Full precision everywhere.
    pub fn none(graph: &Graph) -> Self {
        let n = graph.nodes().len();
        Self { weights: vec![None; n], operands: vec![[None, None]; n], hashes: vec![0; n] }
    }

    /// Fake-quantization with fitted parameters, one entry per site of the graph (`None`: full precision).
    pub fn new(engine: &Engine, sites: &[Option<Arc<Params>>]) -> Result<Self, ExecError> {
        let graph = engine.graph();
        let mut made = Self::none(graph);
        for (index, (site, params)) in graph.sites().iter().zip(sites).enumerate() {
            let Some(params) = params else { continue };
            let channels = params.scale.len();
            if channels != 1 && channels != site.layout.channels {
                let message = format!("{channels} scales for {} channels", site.layout.channels);
                return Err(ExecError::Quantizer { site: site.id.to_string(), message });
            }
            let hash = hash(params);
            let node = site.node.index();
            match site.operand {
                Some(operand) => {
                    made.operands[node][operand] = Some(Operand { site: index, params: Arc::clone(params) });
                }
                None => made.weights[node] = Some(engine.quantized_weight(index, params, hash)?),
            }
            let mut hasher = DefaultHasher::new();
            (made.hashes[node], site.operand, hash).hash(&mut hasher);
            made.hashes[node] = hasher.finish();
        }
        Ok(made)
    }

    pub(super) fn weight(&self, node: usize) -> Option<&LayerWeight> {
        self.weights[node].as_deref()
    }

    pub(super) fn operand(&self, node: usize, operand: usize) -> Option<&Operand> {
        self.operands[node][operand].as_ref()
    }

    pub(super) fn node_hash(&self, node: usize) -> u64 {
        self.hashes[node]
    }
}

/// Stands for quantizer parameters, by the bits of their numbers.
fn hash(params: &Params) -> u64 {
    let mut hasher = DefaultHasher::new();
    params.scheme.hash(&mut hasher);
    params.bits.hash(&mut hasher);
    for (name, numbers) in params.parameters() {
        name.hash(&mut hasher);
        for x in numbers {
            x.to_bits().hash(&mut hasher);
        }
    }
    hasher.finish()
}
