//! A fitted plan made ready for running.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::kernels::gemm::AQuant;
use super::step::LayerWeight;
use super::{Engine, ExecError};
use crate::graph::{Graph, Op, Site};
use crate::quantizer::{Family, Params};

/// Which sites are fake-quantized and how. Sites that are not named stay in full precision.
#[derive(Debug, Clone)]
pub struct Quantization {
    /// By node: its quantized weight.
    weights: Vec<Option<Arc<LayerWeight>>>,
    /// By node: quantizers of its operands.
    operands: Vec<[Option<Arc<Operand>>; 2]>,
    /// By node: stands for all of the above; 0 without quantizers.
    hashes: Vec<u64>,
}

/// A quantizer at an operand of a layer.
#[derive(Debug)]
pub(super) struct Operand {
    pub(super) site: usize,
    pub(super) params: Arc<Params>,
    packing: Packing,
}

/// What the product kernels need to apply the grid while they pack the operand, if they can.
#[derive(Debug)]
enum Packing {
    /// The operand goes through its quantizer before.
    No,
    /// Lowest code 0; zero points as many as scales.
    Uniform { zero_point: Vec<f32>, q_max: f32 },
}

impl Operand {
    fn new(graph: &Graph, index: usize, site: &Site, params: Arc<Params>) -> Self {
        let packing = Packing::of(graph, site, &params);
        Self { site: index, params, packing }
    }

    /// The grid for packing; `None` if the quantizer must run before. Left operands may have one per channel.
    pub(super) fn while_packing(&self, left: bool) -> AQuant<'_> {
        match &self.packing {
            Packing::Uniform { zero_point, q_max } => {
                match (self.params.scale.as_slice(), zero_point.as_slice()) {
                    (&[scale], &[zero_point]) => AQuant::Uniform { scale, zero_point, q_max: *q_max },
                    (scale, zero_point) if left => AQuant::UniformPerK { scale, zero_point, q_max: *q_max },
                    _ => AQuant::None,
                }
            }
            Packing::No => AQuant::None,
        }
    }
}

impl Packing {
    fn of(graph: &Graph, site: &Site, params: &Params) -> Self {
        let Some(levels) = params.bits.levels() else { return Self::No };
        let per_channel = params.scale.len() > 1;
        // A channel of a product lies along the summed axis, one of a convolution is a plane.
        let along = site.layout_of(params.scheme.granularity).inner == 1
            || matches!(graph.node(site.node).op, Op::Conv { .. } | Op::ConvTranspose { .. });
        if params.scheme.family != Family::Uniform
            || params.zero_point.len() != params.scale.len()
            || (per_channel && !(along && site.operand == Some(0)))
        {
            return Self::No;
        }
        Self::from_zero(params, levels)
    }

    /// Symmetric grids leave the lowest code out: then all codes move down by one.
    fn from_zero(params: &Params, levels: u32) -> Self {
        let lowest = if params.scheme.symmetric { 1.0 } else { 0.0 };
        let zero_point = params.zero_point.iter().map(|zero| zero - lowest).collect();
        Self::Uniform { zero_point, q_max: (levels - 1) as f32 - lowest }
    }
}

impl Quantization {
    /// Full precision everywhere.
    pub fn none(graph: &Graph) -> Self {
        let n = graph.nodes().len();
        Self { weights: vec![None; n], operands: vec![[None, None]; n], hashes: vec![0; n] }
    }

    /// Fake-quantization with fitted parameters, one entry per site of the graph (`None`: full precision).
    pub fn new(engine: &Engine, sites: &[Option<Arc<Params>>]) -> Result<Self, ExecError> {
        let mut made = Self::none(engine.graph());
        for (index, params) in sites.iter().enumerate() {
            if let Some(params) = params {
                made.set(engine, index, params)?;
            }
        }
        Ok(made)
    }

    /// The same with other parameters: `before` are those that this was made of, on this engine. Only layers at which
    /// they are not the same values in memory are made anew.
    pub fn changed(
        &self,
        engine: &Engine,
        before: &[Option<Arc<Params>>],
        after: &[Option<Arc<Params>>],
    ) -> Result<Self, ExecError> {
        let same = |a: &Option<Arc<Params>>, b: &Option<Arc<Params>>| match (a, b) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        };
        let graph = engine.graph();
        let mut made = self.clone();
        for layer in graph.layers() {
            let of = |sites: &[Option<Arc<Params>>], site: usize| sites.get(site).cloned().flatten();
            if layer.sites.iter().all(|&site| same(&of(before, site), &of(after, site))) {
                continue;
            }
            let node = layer.node.index();
            (made.weights[node], made.operands[node], made.hashes[node]) = (None, [None, None], 0);
            for &site in &layer.sites {
                if let Some(params) = of(after, site) {
                    made.set(engine, site, &params)?;
                }
            }
        }
        Ok(made)
    }

    /// Quantizes one more site, which must not be quantized yet.
    pub(super) fn set(
        &mut self,
        engine: &Engine,
        index: usize,
        params: &Arc<Params>,
    ) -> Result<(), ExecError> {
        let graph = engine.graph();
        let Some(site) = graph.sites().get(index) else { return Ok(()) };
        params
            .check(site.layout_of(params.scheme.granularity))
            .map_err(|e| ExecError::Quantizer { site: site.id.to_string(), message: e.to_string() })?;
        let hash = hash(params);
        let node = site.node.index();
        match site.operand {
            Some(operand) => {
                let operand_of = Operand::new(graph, index, site, Arc::clone(params));
                self.operands[node][operand] = Some(Arc::new(operand_of));
            }
            None => self.weights[node] = Some(engine.quantized_weight(index, params, hash)?),
        }
        let mut hasher = DefaultHasher::new();
        (self.hashes[node], site.operand, hash).hash(&mut hasher);
        self.hashes[node] = hasher.finish();
        Ok(())
    }

    pub(super) fn weight(&self, node: usize) -> Option<&LayerWeight> {
        self.weights[node].as_deref()
    }

    pub(super) fn operand(&self, node: usize, operand: usize) -> Option<&Operand> {
        self.operands[node][operand].as_deref()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::kernels::fake_quant;
    use crate::quantizer::{Distribution, RangeSearch, Scheme, quantizer};
    use crate::terms::{Bits, Layout};

    #[test]
    fn packing_gives_what_the_quantizer_gives_outside_of_the_fitted_range_too() {
        let fitted: Vec<f32> = (0..100).map(|i| (i as f32 * 0.7).sin() + 0.2).collect();
        let x: Vec<f32> = (-400..400).map(|i| i as f32 / 100.0).collect();
        let layout = Layout::tensor(fitted.len());
        for symmetric in [false, true] {
            for bits in 2..=8 {
                let scheme = Scheme { symmetric, ..Scheme::new(Family::Uniform, RangeSearch::MinMax) };
                let data = Distribution::Raw { values: &fitted, layout };
                let uniform = quantizer(Family::Uniform);
                let params = uniform.fit(&data, &scheme, Bits::new(bits).unwrap()).unwrap();
                let Packing::Uniform { zero_point, q_max } = Packing::from_zero(&params, 1 << bits) else {
                    panic!("uniform grids are packed")
                };
                let (mut ours, mut theirs) = (x.clone(), x.clone());
                fake_quant::uniform(&mut ours, params.scale[0], zero_point[0], q_max);
                uniform.fake_quantize(&mut theirs, Layout::tensor(x.len()), &params);
                assert_eq!(ours, theirs, "{bits} bits, symmetric {symmetric}");
            }
        }
    }
}
