//! An ONNX graph in few, typed operations with known shapes: what operators of all versions are translated to,
//! where constants are folded and patterns are recognised, before it becomes a [`Graph`](crate::graph::Graph).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::bounds::Bounds;
pub(super) use super::op::{
    Binary, Coordinates, Function, Interpolation, Nearest, Op, PoolKind, Reduce, Resize, Unary, Window,
    is_comparison,
};
use super::tensor::{Data, Dtype, numbers};
use super::{fold, shape};

/// More values than this in one tensor are taken for a broken file (8 GiB of f32).
const MAX_NUMBERS: usize = 1 << 31;
/// More values than this in all folded tensors, likewise (1 GiB of integers); a file with more weights may have
/// [`FOLDED_PER_WEIGHT`] times as many.
const MAX_FOLDED: usize = 1 << 27;
const FOLDED_PER_WEIGHT: usize = 4;
/// Values read and written while folding: bounds the time that a small file can cost.
const MAX_WORK: usize = 1 << 31;
const WORK_PER_WEIGHT: usize = 16;
/// More steps than this are taken for an attack.
const MAX_STEPS: usize = 1 << 18;
/// Products of a matrix product that is still computed while the file is read.
const MAX_PRODUCTS: usize = 1 << 30;

/// Index of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Id(pub(super) usize);

/// One operation.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) op: Op,
    pub(super) inputs: Vec<Id>,
    pub(super) shape: Vec<usize>,
    pub(super) dtype: Dtype,
    /// The file's name of the node, or of the constant.
    pub(super) name: Arc<str>,
    /// The module path that the exporter noted.
    pub(super) scope: Option<Arc<str>>,
}

/// A quantized tensor's encoding as the file gives it: `value = scale · (code − zero_point)`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Code {
    pub(super) bits: u8,
    pub(super) signed: bool,
    /// One, or one per entry of `axis`.
    pub(super) scale: Vec<f32>,
    pub(super) zero_point: Vec<i64>,
    pub(super) axis: Option<usize>,
    /// Whether the scale is found anew for every value (`DynamicQuantizeLinear`).
    pub(super) dynamic: bool,
}

impl Code {
    /// The lowest and the highest code.
    pub(super) fn ends(&self) -> (i64, i64) {
        let count = 1_i64 << self.bits.min(62);
        if self.signed { (-count / 2, count / 2 - 1) } else { (0, count - 1) }
    }
}

/// Steps in execution order.
#[derive(Debug, Default)]
pub(super) struct Flow {
    pub(super) steps: Vec<Step>,
    pub(super) outputs: Vec<(String, Id)>,
    /// Encodings that values carry.
    pub(super) codes: HashMap<Id, Code>,
    /// Tables that are the sum of two.
    pub(super) sums: HashMap<Id, [Id; 2]>,
    /// Of these, those that stay sums.
    pub(super) kept: HashSet<Id>,
    /// The node that is being translated.
    pub(super) name: Arc<str>,
    pub(super) scope: Option<Arc<str>>,
    /// What a person should know of a file that opens all the same.
    pub(super) warnings: Vec<String>,
    /// Bounds of the first steps; see [`Flow::bounds`].
    pub(super) bounds: Vec<Bounds>,
    /// Values of the file's own tensors.
    pub(super) stored: usize,
    folded: usize,
    work: usize,
}

impl Flow {
    pub(super) fn step(&self, id: Id) -> &Step {
        &self.steps[id.0]
    }

    pub(super) fn shape(&self, id: Id) -> &[usize] {
        &self.steps[id.0].shape
    }

    pub(super) fn dtype(&self, id: Id) -> Dtype {
        self.steps[id.0].dtype
    }

    /// The values of a constant.
    pub(super) fn data(&self, id: Id) -> Option<&Data> {
        if let Op::Constant(data) = &self.steps[id.0].op { Some(data) } else { None }
    }

    /// The value of a constant that holds one number.
    pub(super) fn scalar(&self, id: Id) -> Option<f32> {
        let data = self.data(id).filter(|data| data.len() == 1)?;
        Some(match data {
            Data::Float(values) => values[0],
            Data::Int(values) => values[0] as f32,
        })
    }

    /// A constant with the name of the node that is being translated.
    pub(super) fn constant(&mut self, shape: Vec<usize>, dtype: Dtype, data: Data) -> Result<Id, String> {
        self.reserve(&shape)?;
        let name = Arc::clone(&self.name);
        Ok(self.named_constant(name, shape, dtype, data))
    }

    /// A constant from the file.
    pub(super) fn named_constant(
        &mut self,
        name: Arc<str>,
        shape: Vec<usize>,
        dtype: Dtype,
        data: Data,
    ) -> Id {
        let op = Op::Constant(data);
        self.steps.push(Step { op, inputs: vec![], shape, dtype, name, scope: None });
        Id(self.steps.len() - 1)
    }

    /// One float.
    pub(super) fn float(&mut self, value: f32) -> Id {
        let name = Arc::clone(&self.name);
        self.named_constant(name, vec![], Dtype::Float, Data::floats(vec![value]))
    }

    /// A list of integers.
    pub(super) fn ints(&mut self, values: Vec<i64>) -> Result<Id, String> {
        self.constant(vec![values.len()], Dtype::INT, Data::ints(values))
    }

    /// Takes room for a constant of this shape, before anything of its size is allocated.
    pub(super) fn reserve(&mut self, shape: &[usize]) -> Result<(), String> {
        let most = MAX_FOLDED.max(self.stored.saturating_mul(FOLDED_PER_WEIGHT));
        let all = numbers(shape).and_then(|n| n.checked_add(self.folded)).filter(|&n| n <= most);
        self.folded = all.ok_or_else(|| format!("a constant of shape {shape:?} would be made"))?;
        Ok(())
    }

    /// Adds a step; computes it now if all its operands are constants.
    pub(super) fn push(&mut self, op: Op, inputs: &[Id]) -> Result<Id, String> {
        let known: Vec<(&[usize], Dtype)> =
            inputs.iter().map(|&id| (self.shape(id), self.dtype(id))).collect();
        let (shape, dtype) = shape::of(&op, &known)?;
        if numbers(&shape).is_none_or(|n| n > MAX_NUMBERS) {
            return Err(format!("its value would have shape {shape:?}"));
        }
        if self.steps.len() > MAX_STEPS {
            return Err(format!("the graph has more than {MAX_STEPS} steps"));
        }
        if let Some(same) = self.nothing_done(&op, inputs, &shape) {
            return Ok(same);
        }
        let step = Step {
            op,
            inputs: inputs.to_vec(),
            shape,
            dtype,
            name: Arc::clone(&self.name),
            scope: self.scope.clone(),
        };
        // A Linear is a layer of the model even where its operand is a table; see `patterns::constants`.
        let deferred = matches!(step.op, Op::Linear);
        if !deferred && let Some(data) = self.evaluate(&step)? {
            // A weight that is turned or reshaped keeps its name.
            let name = match step.op {
                Op::Reshape(_) | Op::Permute(_) | Op::Cast(_) | Op::Slice { .. } | Op::Binary(_) => {
                    let largest = inputs.iter().max_by_key(|id| self.data(**id).map_or(0, Data::len));
                    Arc::clone(&self.step(*largest.unwrap_or(&inputs[0])).name)
                }
                _ => step.name,
            };
            let id = self.named_constant(name, step.shape, step.dtype, data);
            self.carry_code(&step.op, inputs, id);
            if let (Op::Binary(Binary::Add), &[x, y]) = (&step.op, inputs) {
                self.sums.insert(id, [x, y]);
            }
            return Ok(id);
        }
        if step.shape.contains(&0) {
            return Err(format!("its value would have shape {:?}", step.shape));
        }
        self.steps.push(step);
        Ok(Id(self.steps.len() - 1))
    }

    /// The values of a step whose operands are all constants; none if it must run.
    pub(super) fn evaluate(&mut self, step: &Step) -> Result<Option<Data>, String> {
        let constant = |id: &Id| matches!(self.steps[id.0].op, Op::Constant(_));
        if step.inputs.is_empty() || !step.inputs.iter().all(constant) || !fold::can(&step.op) {
            return Ok(None);
        }
        let out = numbers(&step.shape).unwrap_or(usize::MAX);
        if let Op::MatMul { .. } | Op::Linear = step.op {
            let inner = self.shape(step.inputs[0]).last().copied().unwrap_or(1);
            let products = out.saturating_mul(inner);
            if products > MAX_PRODUCTS {
                return Ok(None);
            }
            self.work = self.work.saturating_add(products);
        }
        let read: usize = step.inputs.iter().filter_map(|&id| self.data(id)).map(Data::len).sum();
        self.work = self.work.saturating_add(read).saturating_add(out);
        if self.work > MAX_WORK.max(self.stored.saturating_mul(WORK_PER_WEIGHT)) {
            return Err("its constants take too long to compute".into());
        }
        // A reshape shares the values of its operand.
        if !matches!(step.op, Op::Reshape(_)) {
            self.reserve(&step.shape)?;
        }
        let operands: Vec<fold::Operand<'_>> = step
            .inputs
            .iter()
            .filter_map(|&id| Some(fold::Operand { shape: self.shape(id), data: self.data(id)? }))
            .collect();
        fold::evaluate(&step.op, &operands, &step.shape, step.dtype).map(Some)
    }

    /// The operand itself where a step would not change it.
    fn nothing_done(&self, op: &Op, inputs: &[Id], shape: &[usize]) -> Option<Id> {
        let &first = inputs.first()?;
        let same = self.shape(first) == shape;
        let idle = match op {
            Op::Reshape(_) | Op::Expand(_) | Op::Slice { .. } | Op::Pad(_) => same,
            Op::Permute(order) => order.iter().enumerate().all(|(i, &axis)| i == axis),
            Op::Concat { .. } => inputs.len() == 1,
            Op::Cast(to) => *to == self.dtype(first),
            Op::Reduce { axes, kind } => {
                axes.is_empty() && !matches!(kind, Reduce::L1 | Reduce::L2 | Reduce::SumSquares)
            }
            _ => false,
        };
        idle.then_some(first)
    }

    /// Codes turned into floats step by step (`Cast`, `Sub`, `Mul` of an integer constant) keep their encoding.
    fn carry_code(&mut self, op: &Op, inputs: &[Id], result: Id) {
        let first = inputs[0];
        let other = inputs.get(1).copied();
        let vector = |id: Option<Id>| id.and_then(|id| self.data(id)).map(|data| data.to_floats().to_vec());
        let code = match op {
            Op::Cast(Dtype::Float) => match self.dtype(first) {
                from @ Dtype::Int { bits, signed } if from.is_code() => {
                    Some(Code { bits, signed, scale: vec![], zero_point: vec![], axis: None, dynamic: false })
                }
                _ => self.codes.get(&first).cloned(),
            },
            Op::Reshape(_) if self.codes.get(&first).is_some_and(|c| c.axis.is_none()) => {
                self.codes.get(&first).cloned()
            }
            Op::Permute(order) => self.codes.get(&first).cloned().map(|mut code| {
                code.axis = code.axis.and_then(|axis| order.iter().position(|&o| o == axis));
                code
            }),
            Op::Binary(Binary::Sub) => {
                self.codes.get(&first).cloned().filter(|c| c.scale.is_empty()).and_then(|mut code| {
                    code.zero_point = vector(other)?.iter().map(|&x| x as i64).collect();
                    Some(code)
                })
            }
            Op::Binary(Binary::Mul) => {
                let (coded, by) =
                    if self.codes.contains_key(&first) { (Some(first), other) } else { (other, Some(first)) };
                let code = coded.and_then(|id| self.codes.get(&id)).filter(|c| c.scale.is_empty()).cloned();
                code.and_then(|mut code| {
                    code.scale = vector(by)?;
                    let shape = self.shape(result);
                    let by_shape = self.shape(by?);
                    let long = by_shape.iter().rposition(|&n| n > 1);
                    code.axis = long.map(|axis| axis + shape.len() - by_shape.len());
                    Some(code)
                })
            }
            _ => None,
        };
        if let Some(code) = code {
            self.codes.insert(result, code);
        }
    }

    /// How often each value is used by steps that results need.
    pub(super) fn uses(&self) -> Vec<u32> {
        let needed = self.needed();
        let mut uses = vec![0; self.steps.len()];
        for step in self.steps.iter().zip(needed).filter_map(|(step, needed)| needed.then_some(step)) {
            for id in &step.inputs {
                uses[id.0] += 1;
            }
        }
        for (_, id) in &self.outputs {
            uses[id.0] += 1;
        }
        uses
    }

    /// Steps that results need.
    pub(super) fn needed(&self) -> Vec<bool> {
        let mut needed = vec![false; self.steps.len()];
        for (_, id) in &self.outputs {
            needed[id.0] = true;
        }
        for index in (0..self.steps.len()).rev() {
            if needed[index] {
                for id in &self.steps[index].inputs {
                    needed[id.0] = true;
                }
            }
        }
        needed
    }
}
