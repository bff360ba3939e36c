//! Derivatives of a loss by the outputs of layers.

use candle_core::{Tensor, Var};

use super::Reference;
use crate::exec::kernels::elementwise::BinaryOp;
use crate::exec::kernels::function::Function;
use crate::exec::{Cancel, ExecError, Value};
use crate::graph::{Graph, Node, NodeId, Op};

impl Reference<'_> {
    /// Runs the graph and gives `visit` the derivative of a loss by the output of every layer that the loss depends
    /// on, the last layer first; the result is the loss.
    ///
    /// `loss` makes one number of the outputs, by name in the order of [`Graph::outputs`], with candle's operations.
    /// Nodes are differentiated one at a time: of the run all values are held, of the way back what one node needs
    /// and the derivatives by values whose own node is still to come.
    ///
    /// What only chooses (the condition of `Where`, the indices of `Gather`, tokens) has no derivative and is passed
    /// over. Steps (rounding, comparison, sign, first place of the largest) would be passed over with all that comes
    /// before them: if a layer is, that is an error, as is a derivative that is not finite.
    pub fn gradients(
        &self,
        inputs: &[Value],
        cancel: &Cancel,
        loss: impl FnOnce(&[(String, Tensor)]) -> candle_core::Result<Tensor>,
        mut visit: impl FnMut(NodeId, &Tensor) -> Result<(), ExecError>,
    ) -> Result<f64, ExecError> {
        let reached = behind_layers(self.graph);
        let mut values = self.run_until(inputs, cancel)?;
        let (loss, mut gradients) = self.of_outputs(&values, &reached, loss)?;
        for (index, node) in self.graph.nodes().iter().enumerate().rev() {
            if cancel.is_cancelled() {
                return Err(ExecError::Cancelled);
            }
            values.truncate(index);
            let Some(gradient) = gradients[index].take() else { continue };
            if node.op.slots().is_some() {
                check(node, &gradient)?;
                visit(NodeId(index as u32), &gradient)?;
            }
            let wanted: Vec<bool> = node.inputs.iter().map(|id| reached[id.index()]).collect();
            if !wanted.contains(&true) {
                continue;
            }
            let operands: Vec<&Tensor> = node.inputs.iter().map(|id| &values[id.index()]).collect();
            let back = self.back(node, &operands, &gradient, &wanted)?;
            for (id, gradient) in node.inputs.iter().zip(back) {
                add(&mut gradients[id.index()], gradient)?;
            }
        }
        Ok(loss)
    }

    /// The loss, and by node its derivative by the value, of outputs alone.
    fn of_outputs(
        &self,
        values: &[Tensor],
        reached: &[bool],
        loss: impl FnOnce(&[(String, Tensor)]) -> candle_core::Result<Tensor>,
    ) -> Result<(f64, Vec<Option<Tensor>>), ExecError> {
        let outputs = self.graph.outputs();
        let variables = outputs.iter().map(|(_, id)| Var::from_tensor(&values[id.index()]));
        let variables: Vec<Var> = variables.collect::<Result<_, _>>()?;
        let named: Vec<(String, Tensor)> = outputs
            .iter()
            .zip(&variables)
            .map(|((name, _), v)| (name.clone(), v.as_tensor().clone()))
            .collect();
        let loss = loss(&named)?;
        let found = loss.backward()?;
        let mut gradients = vec![None; values.len()];
        for ((_, id), variable) in outputs.iter().zip(&variables) {
            if reached[id.index()] {
                add(&mut gradients[id.index()], found.get(variable).map(Tensor::detach))?;
            }
        }
        Ok((loss.to_dtype(candle_core::DType::F64)?.to_scalar()?, gradients))
    }

    /// The derivatives by the wanted operands of a node, given that by its value.
    fn back(
        &self,
        node: &Node,
        x: &[&Tensor],
        gradient: &Tensor,
        wanted: &[bool],
    ) -> Result<Vec<Option<Tensor>>, ExecError> {
        let failed = |problem| ExecError::Gradient { node: node.name.clone(), op: node.op.kind(), problem };
        match &node.op {
            // Candle would make the derivatives by the weights, too.
            Op::Linear { weight, .. } => {
                let weight = self.param(*weight)?;
                let (out, inner) = weight.dims2()?;
                let rows = gradient.contiguous()?.reshape(((), out))?;
                let back = rows.matmul(&weight)?.reshape(x[0].dims())?;
                debug_assert_eq!(x[0].dims().last(), Some(&inner));
                Ok(vec![Some(back)])
            }
            Op::MatMul { transpose_rhs, alpha } => {
                let gradient = gradient.affine(f64::from(*alpha), 0.0)?;
                let product = |a: &Tensor, b: &Tensor| a.contiguous()?.matmul(&b.contiguous()?);
                let by_lhs =
                    || if *transpose_rhs { product(&gradient, x[1]) } else { product(&gradient, &x[1].t()?) };
                let by_rhs = || {
                    if *transpose_rhs {
                        product(&gradient.t()?, x[0])
                    } else {
                        product(&x[0].t()?, &gradient)
                    }
                };
                Ok(vec![wanted[0].then(by_lhs).transpose()?, wanted[1].then(by_rhs).transpose()?])
            }
            Op::Affine { mul, .. } => Ok(vec![Some(gradient.affine(f64::from(*mul), 0.0)?)]),
            op if is_step(op) => {
                Err(failed("steps have no derivative, and layers before it would count for nothing"))
            }
            op => {
                let chosen_by = |at: usize| match op {
                    Op::Where | Op::Embedding { .. } => at == 0,
                    Op::Gather { .. } => at == 1,
                    _ => false,
                };
                let mut variables: Vec<Option<Var>> = Vec::with_capacity(x.len());
                for (at, x) in x.iter().enumerate() {
                    let variable = wanted[at] && !chosen_by(at);
                    variables.push(if variable { Some(Var::from_tensor(x)?) } else { None });
                }
                let operands: Vec<&Tensor> =
                    variables.iter().zip(x).map(|(v, x)| v.as_ref().map_or(*x, Var::as_tensor)).collect();
                let found = self.node(node, &operands)?.mul(gradient)?.sum_all()?.backward()?;
                let of = |variable: &Option<Var>| match variable {
                    Some(variable) => {
                        let gradient = found.get(variable).map(Tensor::detach);
                        gradient.map(Some).ok_or_else(|| failed("candle has no derivative of it"))
                    }
                    None => Ok(None),
                };
                variables.iter().map(of).collect()
            }
        }
    }
}

/// By node: whether it is a layer or depends on one.
fn behind_layers(graph: &Graph) -> Vec<bool> {
    let mut reached = Vec::with_capacity(graph.nodes().len());
    for node in graph.nodes() {
        let is = node.op.slots().is_some() || node.inputs.iter().any(|id| reached[id.index()]);
        reached.push(is);
    }
    reached
}

/// Whether the value only changes in steps.
fn is_step(op: &Op) -> bool {
    match op {
        Op::ArgMax { .. } => true,
        Op::Function(f) => matches!(
            f,
            Function::Sign
                | Function::Floor
                | Function::Ceil
                | Function::Round
                | Function::Truncate
                | Function::Not
        ),
        Op::Binary(op) => matches!(
            op,
            BinaryOp::Equal
                | BinaryOp::Less
                | BinaryOp::LessOrEqual
                | BinaryOp::Greater
                | BinaryOp::GreaterOrEqual
                | BinaryOp::And
                | BinaryOp::Or
                | BinaryOp::Xor
        ),
        _ => false,
    }
}

/// That all numbers are finite.
fn check(node: &Node, gradient: &Tensor) -> Result<(), ExecError> {
    let magnitude: f64 = gradient.abs()?.sum_all()?.to_dtype(candle_core::DType::F64)?.to_scalar()?;
    if magnitude.is_finite() {
        return Ok(());
    }
    let problem = "the derivative of the loss by its output is not finite";
    Err(ExecError::Gradient { node: node.name.clone(), op: node.op.kind(), problem })
}

fn add(sum: &mut Option<Tensor>, more: Option<Tensor>) -> candle_core::Result<()> {
    if let Some(more) = more {
        *sum = Some(match sum.take() {
            Some(sum) => sum.add(&more)?,
            None => more,
        });
    }
    Ok(())
}
