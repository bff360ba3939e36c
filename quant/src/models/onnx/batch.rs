//! From a file that was exported with a fixed batch to a graph for one sample.
//!
//! Shapes of such a file hold the batch size in many places (`[2, 17, 32]`, `[8, 9, 8]` for two samples of four heads).
//! Where it stands is followed through the steps: of each value, the axis whose slowest part counts samples. Then
//! those axes are divided. Tables that were repeated for every sample are cut to the first one, after a check that all
//! samples have the same. A file that mixes samples cannot be cut, and that is an error.

use std::sync::Arc;

use super::flow::{Flow, Id, Op};
use super::tensor::{Data, numbers};

/// Cuts a flow for `batch` samples to one.
pub(super) fn one_sample(flow: &mut Flow, batch: usize) -> Result<(), String> {
    if batch <= 1 {
        return Ok(());
    }
    let needed = flow.needed();
    let count = flow.steps.len();
    let mut cut = Cut { flow, batch, axes: vec![vec![]; count] };
    for (index, needed) in needed.iter().enumerate() {
        if *needed && !matches!(cut.flow.steps[index].op, Op::Constant(_)) {
            cut.step(Id(index)).map_err(|message| {
                format!(
                    "node `{}`: {message}; export the model with a batch of 1",
                    cut.flow.steps[index].name
                )
            })?;
        }
    }
    let axes = std::mem::take(&mut cut.axes);
    for (index, axes) in axes.iter().enumerate() {
        for &axis in axes {
            flow.steps[index].shape[axis] /= batch;
        }
        let step = &mut flow.steps[index];
        match &mut step.op {
            Op::Reshape(to) | Op::Expand(to) => to.clone_from(&step.shape),
            Op::Resize(spec) => spec.to.clone_from(&step.shape),
            _ => {}
        }
    }
    Ok(())
}

struct Cut<'f> {
    flow: &'f mut Flow,
    batch: usize,
    /// By step: the axes that count samples.
    axes: Vec<Vec<usize>>,
}

impl Cut<'_> {
    /// Finds the axes of a step and cuts tables that it uses.
    fn step(&mut self, id: Id) -> Result<(), String> {
        let step = self.flow.step(id).clone();
        let own = |operand: usize| step.inputs.get(operand).map_or(&[][..], |id| self.of(*id));
        let first = own(0).to_vec();
        let rank = step.shape.len();
        let kept = |axes: &[usize], forbidden: &[usize]| {
            if axes.iter().any(|axis| forbidden.contains(axis)) {
                Err("it works across samples".to_owned())
            } else {
                Ok(axes.to_vec())
            }
        };
        let last = rank.saturating_sub(1);
        let axes = match &step.op {
            Op::Input => vec![0],
            Op::Constant(_) => vec![],
            Op::Linear | Op::LayerNorm { .. } | Op::Softmax | Op::Conv(_) | Op::BatchNorm { .. }
                if self.flow.data(step.inputs[0]).is_some() =>
            {
                self.repeated_table(id)
            }
            Op::Unary(_) | Op::Cast(_) => first,
            Op::Binary(_) if step.inputs.iter().all(|&input| self.flow.data(input).is_some()) => {
                self.repeated_sum(id)
            }
            Op::Binary(_) | Op::Where => self.joined(id, rank, None)?,
            Op::Concat { axis } => self.joined(id, rank, Some(*axis))?,
            Op::Softmax | Op::LayerNorm { .. } | Op::Linear => kept(&first, &[last])?,
            Op::Reduce { axes, .. } => kept(&first, axes)?,
            Op::ArgMax { axis } | Op::CumSum { axis, .. } | Op::Slice { axis, .. } => kept(&first, &[*axis])?,
            Op::Pad(ends) => {
                let padded: Vec<usize> = (0..rank).filter(|&axis| ends[axis] != (0, 0)).collect();
                kept(&first, &padded)?
            }
            Op::Conv(_)
            | Op::ConvTranspose(_)
            | Op::Pool(..)
            | Op::InstanceNorm { .. }
            | Op::BatchNorm { .. } => kept(&first, &(1..rank).collect::<Vec<_>>())?,
            Op::Resize(_) => kept(&first, &[rank.saturating_sub(2), last])?,
            Op::Permute(order) => {
                first.iter().filter_map(|axis| order.iter().position(|from| from == axis)).collect()
            }
            Op::Expand(to) => {
                let lead = to.len() - self.flow.shape(step.inputs[0]).len();
                first.iter().map(|axis| axis + lead).collect()
            }
            Op::Reshape(to) => {
                let from = self.flow.shape(step.inputs[0]);
                first.iter().map(|&axis| self.moved(from, axis, to)).collect::<Result<_, _>>()?
            }
            Op::MatMul { transpose_rhs, .. } => self.product(id, *transpose_rhs)?,
            Op::Gather { axis } => self.gathered(id, *axis)?,
            Op::Embedding => {
                if first.is_empty() {
                    own(1).to_vec()
                } else {
                    return Err("its table differs by sample".into());
                }
            }
        };
        if axes.iter().any(|&axis| !step.shape[axis].is_multiple_of(self.batch)) {
            return Err(format!("{:?} is not made of {} samples", step.shape, self.batch));
        }
        self.axes[id.0] = axes;
        Ok(())
    }

    fn of(&self, id: Id) -> &[usize] {
        self.axes.get(id.0).map_or(&[], Vec::as_slice)
    }

    /// Where an axis of `from` that counts samples lies in `to`: the axis with as many values before it.
    fn moved(&self, from: &[usize], axis: usize, to: &[usize]) -> Result<usize, String> {
        let before: usize = from[..axis].iter().product();
        let found = (0..to.len())
            .find(|&i| to[..i].iter().product::<usize>() == before && to[i].is_multiple_of(self.batch));
        found.ok_or_else(|| format!("{from:?} to {to:?} joins samples"))
    }

    /// Operands that are joined value by value, or one after another along `along`.
    fn joined(&mut self, id: Id, rank: usize, along: Option<usize>) -> Result<Vec<usize>, String> {
        let inputs = self.flow.step(id).inputs.clone();
        let mut axes: Vec<usize> = Vec::new();
        for &input in &inputs {
            let lead = rank - self.flow.shape(input).len();
            for axis in self.of(input).iter().map(|axis| axis + lead).collect::<Vec<_>>() {
                if !axes.contains(&axis) {
                    axes.push(axis);
                }
            }
        }
        if along.is_some_and(|along| axes.contains(&along)) {
            return Err("it joins samples".into());
        }
        for (operand, &input) in inputs.iter().enumerate() {
            let lead = rank - self.flow.shape(input).len();
            for &axis in &axes {
                let inside = axis.checked_sub(lead);
                let size = inside.map_or(1, |axis| self.flow.shape(input)[axis]);
                let marked = inside.is_some_and(|axis| self.of(input).contains(&axis));
                if let (Some(inside), false, true) = (inside, marked, size > 1) {
                    self.first_of_table(id, operand, inside)?;
                }
            }
        }
        Ok(axes)
    }

    /// Cuts the table that is operand `operand` of a step to the part of the first sample along `axis`.
    fn first_of_table(&mut self, id: Id, operand: usize, axis: usize) -> Result<(), String> {
        let input = self.flow.step(id).inputs[operand];
        let step = self.flow.step(input).clone();
        let Op::Constant(data) = &step.op else {
            return Err("it joins values of one sample with values of all".into());
        };
        if !step.shape[axis].is_multiple_of(self.batch) {
            return Err(format!("a table of shape {:?} is not made of {} samples", step.shape, self.batch));
        }
        let part = step.shape[axis] / self.batch;
        let outer: usize = step.shape[..axis].iter().product();
        let inner: usize = step.shape[axis + 1..].iter().product();
        let row = part * inner;
        let place = |o: usize, sample: usize| (o * self.batch + sample) * row;
        // Integers may number the samples themselves; the first has number 0.
        if let Data::Float(values) = data {
            let same = (0..outer).all(|o| {
                let first = &values[place(o, 0)..][..row];
                (1..self.batch).all(|sample| &values[place(o, sample)..][..row] == first)
            });
            if !same {
                return Err("a table differs by sample".into());
            }
        }
        let mut shape = step.shape.clone();
        shape[axis] = part;
        self.flow.reserve(&shape)?;
        let first = data.pick((0..outer).flat_map(|o| place(o, 0)..place(o, 0) + row));
        let id_new = self.flow.named_constant(Arc::clone(&step.name), shape, step.dtype, first);
        self.flow.steps[id.0].inputs[operand] = id_new;
        Ok(())
    }

    /// A layer whose operand is a table: one row of it per sample, or one for all.
    fn repeated_table(&mut self, id: Id) -> Vec<usize> {
        let shape = self.flow.shape(self.flow.step(id).inputs[0]);
        if shape.len() < 3 || shape[0] != self.batch {
            return vec![];
        }
        if self.first_of_table(id, 0, 0).is_ok() { vec![0] } else { vec![] }
    }

    /// A sum of tables: those that have one row per sample are cut.
    fn repeated_sum(&mut self, id: Id) -> Vec<usize> {
        let step = self.flow.step(id).clone();
        if step.shape.len() < 3 || step.shape[0] != self.batch {
            return vec![];
        }
        for (operand, &input) in step.inputs.iter().enumerate() {
            let shape = self.flow.shape(input);
            let repeated = shape.len() == step.shape.len() && shape[0] == self.batch;
            if repeated && self.first_of_table(id, operand, 0).is_err() {
                return vec![];
            }
        }
        vec![0]
    }

    fn product(&mut self, id: Id, transpose_rhs: bool) -> Result<Vec<usize>, String> {
        let step = self.flow.step(id).clone();
        let rank = step.shape.len();
        let (row, column) = (rank - 2, rank - 1);
        let rhs_column = if transpose_rhs { row } else { column };
        let mut axes = Vec::new();
        for (operand, &input) in step.inputs.iter().enumerate() {
            let free = if operand == 0 { row } else { rhs_column };
            for &axis in self.of(input) {
                let axis = match axis {
                    axis if axis == free => {
                        if operand == 0 {
                            row
                        } else {
                            column
                        }
                    }
                    axis if axis < row => axis,
                    _ => return Err("it sums over samples".into()),
                };
                if !axes.contains(&axis) {
                    axes.push(axis);
                }
            }
        }
        for (operand, &input) in step.inputs.iter().enumerate() {
            for &axis in axes.iter().filter(|&&axis| axis < row) {
                if !self.of(input).contains(&axis) {
                    self.first_of_table(id, operand, axis)?;
                }
            }
        }
        Ok(axes)
    }

    fn gathered(&mut self, id: Id, axis: usize) -> Result<Vec<usize>, String> {
        let step = self.flow.step(id).clone();
        let (table, places) = (self.of(step.inputs[0]).to_vec(), self.of(step.inputs[1]).to_vec());
        let deep = self.flow.shape(step.inputs[1]).len();
        let from_places = places.iter().map(|place| place + axis);
        if table.contains(&axis) {
            // Rows of all samples under one another, and a place per sample that counts from its own rows on.
            let own_rows =
                numbers(self.flow.shape(step.inputs[0])).is_some_and(|n| n > self.batch) && table == [axis];
            if own_rows && !places.is_empty() {
                return Ok(from_places.collect());
            }
            return Err("it picks among samples".into());
        }
        let moved = table.iter().map(|&at| if at < axis { at } else { at + deep - 1 });
        Ok(moved.chain(from_places).collect())
    }
}
