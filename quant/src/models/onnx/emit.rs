//! From a [`Flow`] to a [`Graph`], through the builder that all architectures use.

use super::encodings::{self, Encoding};
use super::flow::{self, Binary, Coordinates, Flow, Function, Id, Interpolation, Nearest, Op, Unary, Window};
use super::modules::Modules;
use super::names::Names;
use super::tensor::Dtype;
use crate::exec::kernels::activation::Activation;
use crate::exec::kernels::pool::Pooling;
use crate::exec::kernels::resize::{self, Rounding, Sampling};
use crate::graph::{Builder, Conv, Graph, NodeId, Scope};
use crate::models::ModelError;
use crate::terms::{SiteId, Slot};

/// Builds the graph and lists the encodings of its sites.
pub(super) fn emit(file: &str, flow: Flow) -> Result<(Graph, Vec<Encoding>), ModelError> {
    let names = Names::of(&flow);
    let needed = flow.needed();
    let mut modules = Modules::default();
    for (index, _) in needed.iter().enumerate().filter(|(_, needed)| **needed) {
        modules.add(&flow, &names, Id(index));
    }
    let weights = modules.weights(file)?;
    let mut builder = Builder::new(&weights);
    let mut emitter = Emitter {
        flow: &flow,
        names: &names,
        modules: &modules,
        scope: builder.root(),
        made: vec![None; flow.steps.len()],
        layers: Vec::new(),
    };
    for (index, _) in needed.iter().enumerate().filter(|(_, needed)| **needed) {
        emitter.step(Id(index))?;
    }
    let mut outputs = Vec::new();
    for (name, id) in &flow.outputs {
        outputs.push((name.clone(), emitter.value(*id, 0)?));
    }
    let layers = emitter.layers;
    for (name, node) in outputs {
        builder.output(&name, node);
    }
    let graph = builder.finish(|_| false)?;
    let mut all = Vec::new();
    for (id, node) in layers {
        let step = flow.step(id);
        let slots = if matches!(step.op, Op::MatMul { .. }) {
            [Slot::Lhs, Slot::Rhs]
        } else {
            [Slot::Input, Slot::Weight]
        };
        for (slot, &operand) in slots.into_iter().zip(&step.inputs) {
            if let Some(code) = encodings::of(&flow, operand) {
                let site = SiteId { layer: graph.node(node).name.clone(), slot };
                all.push(Encoding::new(site, code));
            }
        }
    }
    Ok((graph, all))
}

struct Emitter<'e, 'b, 'w> {
    flow: &'e Flow,
    names: &'e Names,
    modules: &'e Modules,
    scope: Scope<'b, 'w>,
    made: Vec<Option<NodeId>>,
    layers: Vec<(Id, NodeId)>,
}

impl<'w> Emitter<'_, '_, 'w> {
    /// The node of a value; tables become constants when they are first used. A number is given `rank` axes.
    fn value(&mut self, id: Id, rank: usize) -> Result<NodeId, ModelError> {
        if let Some(node) = self.made[id.0] {
            return Ok(node);
        }
        let step = self.flow.step(id);
        let Op::Constant(data) = &step.op else {
            return Err(ModelError::Graph {
                node: step.name.to_string(),
                message: "it is used before it is made".into(),
            });
        };
        let auto = step.name.is_empty() || step.name.contains("::") || step.name.starts_with("val_");
        let scope = self.names.scope(self.flow, id);
        let name = match (auto, scope.as_str()) {
            (false, "") => self.names.tensor(&step.name).to_owned(),
            (_, "") => "constant".to_owned(),
            (_, scope) => format!("{scope}.constant"),
        };
        let shape = if step.shape.is_empty() && rank > 0 { vec![1] } else { step.shape.clone() };
        let node = self.scope.constant(&name, &shape, data.to_floats().to_vec())?;
        if !step.shape.is_empty() {
            self.made[id.0] = Some(node);
        }
        Ok(node)
    }

    fn step(&mut self, id: Id) -> Result<(), ModelError> {
        let step = self.flow.step(id);
        if matches!(step.op, Op::Constant(_)) {
            return Ok(());
        }
        let node = self.operation(id)?;
        let made = self.scope.shape(node);
        if made != step.shape {
            let message = format!("its value has shape {made:?}, expected {:?}", step.shape);
            return Err(ModelError::Graph { node: step.name.to_string(), message });
        }
        self.made[id.0] = Some(node);
        Ok(())
    }

    /// The scope that steps without a module are named in.
    fn within(&mut self, id: Id) -> Scope<'_, 'w> {
        let path = self.names.scope(self.flow, id);
        self.scope.at(path)
    }

    fn operand(&mut self, id: Id, index: usize) -> Result<NodeId, ModelError> {
        let step = self.flow.step(id);
        self.value(step.inputs[index], step.shape.len())
    }

    fn operation(&mut self, id: Id) -> Result<NodeId, ModelError> {
        let flow = self.flow;
        let step = flow.step(id);
        let shape = &step.shape;
        match &step.op {
            Op::Input => self.scope.input(&step.name, shape),
            Op::Constant(_) => self.value(id, 0),
            Op::Linear | Op::Conv(_) | Op::ConvTranspose(_) | Op::MatMul { .. } => self.layer(id),
            Op::LayerNorm { .. } | Op::BatchNorm { .. } | Op::InstanceNorm { .. } => self.norm(id),
            Op::Unary(function) => {
                let x = self.operand(id, 0)?;
                self.unary(id, *function, x)
            }
            Op::Binary(kind) => self.binary(id, *kind),
            Op::Cast(to) => {
                let x = self.operand(id, 0)?;
                match (flow.dtype(step.inputs[0]), *to) {
                    (Dtype::Float, Dtype::Int { .. }) => self.within(id).function(Function::Truncate, x),
                    (Dtype::Float | Dtype::Int { .. }, Dtype::Bool) => {
                        let x = self.within(id).function(Function::Not, x)?;
                        self.within(id).function(Function::Not, x)
                    }
                    _ => Ok(x),
                }
            }
            Op::Where => {
                let operands = [self.operand(id, 0)?, self.operand(id, 1)?, self.operand(id, 2)?];
                self.within(id).select(operands[0], operands[1], operands[2])
            }
            Op::Reduce { kind, axes } => {
                let x = self.operand(id, 0)?;
                self.within(id).reduce(*kind, x, axes, true)
            }
            Op::ArgMax { axis } => {
                let x = self.operand(id, 0)?;
                let y = self.within(id).arg_max(x, *axis)?;
                self.within(id).reshape(y, shape)
            }
            Op::CumSum { axis, exclusive, reverse } => {
                let x = self.operand(id, 0)?;
                self.within(id).cumulative_sum(x, *axis, *exclusive, *reverse)
            }
            Op::Gather { axis } => {
                let (x, at) = (self.operand(id, 0)?, self.value(step.inputs[1], 0)?);
                self.within(id).gather(x, at, *axis)
            }
            Op::Embedding => {
                let ids = self.operand(id, 1)?;
                let name = self.modules.name(id).map_or("", String::as_str);
                self.scope.embedding(name, ids)
            }
            Op::Reshape(_) => {
                let x = self.operand(id, 0)?;
                self.within(id).reshape(x, shape)
            }
            Op::Permute(order) => {
                let x = self.operand(id, 0)?;
                self.within(id).permute(x, order)
            }
            Op::Expand(_) => {
                let x = self.operand(id, 0)?;
                self.within(id).expand(x, shape)
            }
            Op::Slice { axis, start, len } => {
                let x = self.operand(id, 0)?;
                self.within(id).narrow(x, *axis, *start, *len)
            }
            Op::Concat { axis } => {
                let parts: Vec<NodeId> = step
                    .inputs
                    .iter()
                    .map(|&part| self.value(part, shape.len()))
                    .collect::<Result<_, _>>()?;
                self.within(id).concat(&parts, *axis)
            }
            Op::Pad(ends) => {
                // Everything behind, then turned so that a part of it comes before.
                let x = self.operand(id, 0)?;
                let behind: Vec<(usize, usize)> = ends.iter().map(|(a, b)| a + b).enumerate().collect();
                let y = self.within(id).pad(x, &behind)?;
                let turns: Vec<(usize, isize)> = ends
                    .iter()
                    .enumerate()
                    .filter(|(_, e)| e.0 > 0)
                    .map(|(i, e)| (i, e.0 as isize))
                    .collect();
                if turns.is_empty() { Ok(y) } else { self.within(id).roll(y, &turns) }
            }
            Op::Softmax => {
                let x = self.operand(id, 0)?;
                let name = self.names.softmax(flow, id);
                self.scope.softmax(&name, x)
            }
            Op::Pool(kind, window) => {
                let x = self.operand(id, 0)?;
                let pooling = Pooling {
                    kind: *kind,
                    kernel: window.kernel,
                    stride: window.stride,
                    padding: window.pads,
                };
                let (x, from) = self.one_image(id, x)?;
                let y = self.within(id).pool("pool", x, pooling, (shape[2], shape[3]))?;
                self.several_images(id, y, from)
            }
            Op::Resize(spec) => {
                let x = self.operand(id, 0)?;
                let (x, from) = self.one_image(id, x)?;
                let rank = shape.len();
                let to = if rank == 3 { (1, shape[2]) } else { (shape[2], shape[3]) };
                let y = self.within(id).resample(x, to, sampling(spec))?;
                self.several_images(id, y, from)
            }
        }
    }

    /// `[N, C, (H,) W]` as `[1, N · C, H, W]`, for what works on each channel alone.
    fn one_image(&mut self, id: Id, x: NodeId) -> Result<(NodeId, bool), ModelError> {
        let shape = self.scope.shape(x);
        let flat = match shape.as_slice() {
            [1, _, _, _] => return Ok((x, false)),
            &[n, c, w] => [1, n * c, 1, w],
            &[n, c, h, w] => [1, n * c, h, w],
            _ => {
                let node = self.flow.step(id).name.to_string();
                return Err(ModelError::Graph { node, message: format!("an operand of shape {shape:?}") });
            }
        };
        Ok((self.within(id).reshape(x, &flat)?, true))
    }

    fn several_images(&mut self, id: Id, y: NodeId, joined: bool) -> Result<NodeId, ModelError> {
        let shape = self.flow.step(id).shape.clone();
        if joined { self.within(id).reshape(y, &shape) } else { Ok(y) }
    }

    fn layer(&mut self, id: Id) -> Result<NodeId, ModelError> {
        let flow = self.flow;
        let step = flow.step(id);
        let x = self.value(step.inputs[0], 0)?;
        let name = self.modules.name(id).cloned().unwrap_or_else(|| self.names.layer(flow, id));
        let geometry =
            |w: &Window| Conv { stride: w.stride, padding: w.pads, dilation: w.dilation, groups: w.groups };
        let node = match &step.op {
            Op::MatMul { transpose_rhs, alpha } => {
                let y = self.value(step.inputs[1], 0)?;
                self.scope.matmul(&name, (x, y), *transpose_rhs, *alpha)?
            }
            Op::Conv(window) => self.scope.conv(&name, x, geometry(window))?,
            Op::ConvTranspose(window) => {
                self.scope.conv_transpose(&name, x, geometry(window), window.extra)?
            }
            _ => self.scope.linear(&name, x)?,
        };
        self.layers.push((id, node));
        Ok(node)
    }

    fn norm(&mut self, id: Id) -> Result<NodeId, ModelError> {
        let flow = self.flow;
        let step = flow.step(id);
        let x = self.value(step.inputs[0], 0)?;
        let name = self.modules.name(id).cloned().unwrap_or_else(|| self.names.layer(flow, id));
        match &step.op {
            Op::LayerNorm { eps } => self.scope.layer_norm(&name, x, *eps),
            Op::BatchNorm { eps } => self.scope.batch_norm(&name, x, *eps),
            Op::InstanceNorm { eps } => {
                let shape = self.scope.shape(x);
                let channels = shape[0] * shape[1];
                let flat = self.within(id).reshape(x, &[1, channels, shape[2..].iter().product()])?;
                let y = self.scope.instance_norm(&name, flat, *eps)?;
                self.within(id).reshape(y, &shape)
            }
            _ => Ok(x),
        }
    }

    fn unary(&mut self, id: Id, function: Unary, x: NodeId) -> Result<NodeId, ModelError> {
        match function {
            Unary::Function(function) => self.within(id).function(function, x),
            Unary::Activation(act) => {
                let name = match act {
                    Activation::None => "identity",
                    Activation::Relu => "relu",
                    Activation::Gelu | Activation::GeluTanh | Activation::QuickGelu => "gelu",
                    Activation::Tanh => "tanh",
                    Activation::Sigmoid => "sigmoid",
                    Activation::Silu => "silu",
                };
                self.within(id).activation(name, act, x)
            }
            Unary::HardSigmoid { alpha, beta } => {
                if (alpha - 1.0 / 6.0).abs() < 1e-6 && beta == 0.5 {
                    return self.within(id).function(Function::HardSigmoid, x);
                }
                let y = self.within(id).affine(x, alpha, beta)?;
                let low = self.within(id).constant("constant", &[1], vec![0.0])?;
                let y = self.within(id).combine(Binary::Max, y, low)?;
                let high = self.within(id).constant("constant", &[1], vec![1.0])?;
                self.within(id).combine(Binary::Min, y, high)
            }
        }
    }

    /// Sums and products with one number keep the operand's shape and need no second one.
    fn binary(&mut self, id: Id, kind: Binary) -> Result<NodeId, ModelError> {
        let flow = self.flow;
        let step = flow.step(id);
        let (a, b) = (step.inputs[0], step.inputs[1]);
        let number = |number: Id, other: Id| flow.scalar(number).filter(|_| flow.shape(other) == step.shape);
        let affine = match (kind, number(a, b), number(b, a)) {
            (Binary::Add, _, Some(c)) => Some((a, 1.0, c)),
            (Binary::Add, Some(c), _) => Some((b, 1.0, c)),
            (Binary::Sub, _, Some(c)) => Some((a, 1.0, -c)),
            (Binary::Sub, Some(c), _) => Some((b, -1.0, c)),
            (Binary::Mul, _, Some(c)) => Some((a, c, 0.0)),
            (Binary::Mul, Some(c), _) => Some((b, c, 0.0)),
            _ => None,
        };
        if let Some((x, mul, add)) = affine.filter(|(x, ..)| flow.data(*x).is_none()) {
            let x = self.value(x, 0)?;
            return self.within(id).affine(x, mul, add);
        }
        let rank = step.shape.len();
        let (x, y) = (self.value(a, rank)?, self.value(b, rank)?);
        let result = self.within(id).combine(kind, x, y)?;
        // Integers are divided towards zero.
        if kind == Binary::Div && step.dtype.is_int() {
            return self.within(id).function(Function::Truncate, result);
        }
        Ok(result)
    }
}

/// A resize in the kernel's words; what it does not have was refused before.
fn sampling(spec: &flow::Resize) -> Sampling {
    let interpolation = match spec.interpolation {
        Interpolation::Nearest(rule) => resize::Interpolation::Nearest(match rule {
            Nearest::Floor => Rounding::Floor,
            Nearest::Ceil => Rounding::Ceil,
            Nearest::PreferFloor => Rounding::HalfDown,
            Nearest::PreferCeil => Rounding::HalfUp,
        }),
        Interpolation::Linear => resize::Interpolation::Bilinear,
        Interpolation::Cubic { .. } => resize::Interpolation::Bicubic,
    };
    let coordinates = match spec.coordinates {
        Coordinates::HalfPixel => resize::Coordinates::HalfPixel,
        Coordinates::PytorchHalfPixel => resize::Coordinates::HalfPixelFromStart,
        Coordinates::AlignCorners => resize::Coordinates::AlignCorners,
        Coordinates::Asymmetric => resize::Coordinates::Asymmetric,
    };
    Sampling { interpolation, coordinates }
}
