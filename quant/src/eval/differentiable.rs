//! The losses of [`output_loss`](super::output_loss) in candle's operations, to be differentiated.

use candle_core::{D, DType, Result, Tensor};

use super::output_loss::{OutputLoss, all_outputs, mean_square};
use crate::models::{MaskRule, Task};

/// Outputs by name.
type Outputs = [(String, Tensor)];

/// [`between_outputs`](super::output_loss::between_outputs) of tensors, as a tensor of one number. An output that is
/// missing is an error.
pub fn between_outputs(task: &Task, reference: &Outputs, other: &Outputs) -> Result<Tensor> {
    let by = |loss, name: &str| between(loss, find(reference, name)?, find(other, name)?);
    match task {
        Task::Mask { logits, rule: MaskRule::Second } => by(OutputLoss::PixelDivergence, logits),
        Task::Mask { logits, .. } => by(OutputLoss::BitDivergence, logits),
        Task::Classes { logits, .. } => by(OutputLoss::ClassDivergence, logits),
        Task::Boxes { logits, boxes, .. } => {
            by(OutputLoss::ClassDivergence, logits)?.add(&by(OutputLoss::Distances, boxes)?)
        }
        Task::Letters { scores, .. } => by(OutputLoss::ClassDivergence, scores),
        Task::Embeddings { .. } | Task::Tensors => {
            let names = all_outputs(task, reference);
            let [first, rest @ ..] = names.as_slice() else { candle_core::bail!("the model has no output") };
            if rest.is_empty() {
                return by(OutputLoss::Squares, first);
            }
            let share = |name: &str| {
                let values = find(reference, name)?.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
                let of_all = names.len() as f64 * mean_square(&values);
                by(OutputLoss::Squares, name)?.affine(1.0 / of_all, 0.0)
            };
            rest.iter().try_fold(share(first)?, |sum, name| sum.add(&share(name)?))
        }
    }
}

/// What PTQ4ViT and PTQ4RIS differentiate: the sum over the last axis of the divergence of probabilities over that
/// axis, whatever it holds (for a mask the columns of the picture, not the classes), of one sample.
pub fn released_divergence(task: &Task, reference: &Outputs, other: &Outputs) -> Result<Tensor> {
    let name = main(task, reference)?;
    divergence(find(reference, name)?, find(other, name)?)?.sum_all()
}

/// The output that counts most.
fn main<'o>(task: &'o Task, outputs: &'o Outputs) -> Result<&'o str> {
    match task {
        Task::Mask { logits, .. } | Task::Classes { logits, .. } | Task::Boxes { logits, .. } => Ok(logits),
        Task::Letters { scores, .. } => Ok(scores),
        Task::Embeddings { outputs } if !outputs.is_empty() => Ok(&outputs[0]),
        Task::Embeddings { .. } | Task::Tensors => match outputs.first() {
            Some((name, _)) => Ok(name),
            None => candle_core::bail!("the model has no output"),
        },
    }
}

fn find<'o>(outputs: &'o Outputs, name: &str) -> Result<&'o Tensor> {
    match outputs.iter().find(|(known, _)| known == name) {
        Some((_, value)) => Ok(value),
        None => candle_core::bail!("the model has no output `{name}`"),
    }
}

fn between(loss: OutputLoss, reference: &Tensor, other: &Tensor) -> Result<Tensor> {
    match loss {
        OutputLoss::PixelDivergence => {
            let classes_last = |t: &Tensor| t.transpose(1, D::Minus1)?.contiguous();
            divergence(&classes_last(reference)?, &classes_last(other)?)?.mean_all()
        }
        OutputLoss::ClassDivergence => divergence(reference, other)?.mean_all(),
        OutputLoss::BitDivergence => {
            // As in `output_loss`: ln(1 - sigmoid(x)) = -(max(x, 0) + ln(1 + e^-|x|)).
            let not = |x: &Tensor| x.relu()?.add(&x.abs()?.neg()?.exp()?.affine(1.0, 1.0)?.log()?)?.neg();
            let p = reference.neg()?.exp()?.affine(1.0, 1.0)?.recip()?;
            let not = not(reference)?.sub(&not(other)?)?;
            let set = p.mul(&reference.sub(other)?.add(&not)?)?;
            set.add(&p.affine(-1.0, 1.0)?.mul(&not)?)?.mean_all()
        }
        OutputLoss::Distances => reference.sub(other)?.abs()?.mean_all(),
        OutputLoss::Squares => reference.sub(other)?.sqr()?.mean_all(),
    }
}

/// Over the last axis: `Σ p (ln p - ln q)`.
fn divergence(reference: &Tensor, other: &Tensor) -> Result<Tensor> {
    let log_p = log_softmax(reference)?;
    log_p.exp()?.mul(&log_p.sub(&log_softmax(other)?)?)?.sum(D::Minus1)
}

fn log_softmax(x: &Tensor) -> Result<Tensor> {
    let x = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?;
    x.broadcast_sub(&x.exp()?.sum_keepdim(D::Minus1)?.log()?)
}

#[cfg(test)]
mod tests {
    use super::between;
    use crate::eval::output_loss::OutputLoss;
    use crate::exec::Value;
    use candle_core::{Device, Tensor};

    #[test]
    fn losses_are_those_of_values() {
        let shape = [1, 3, 4, 5];
        let numbers = |seed: f32| (0..60).map(|i| (i as f32 * 1.7 + seed).sin() * 3.0).collect::<Vec<f32>>();
        let (a, b) = (numbers(0.0), numbers(1.0));
        let tensor = |x: &[f32]| Tensor::from_slice(x, &shape, &Device::Cpu).unwrap();
        let value = |x: &[f32]| Value::new(shape.to_vec(), x.to_vec());
        for loss in [
            OutputLoss::PixelDivergence,
            OutputLoss::ClassDivergence,
            OutputLoss::BitDivergence,
            OutputLoss::Distances,
            OutputLoss::Squares,
        ] {
            let found: f32 = between(loss, &tensor(&a), &tensor(&b)).unwrap().to_scalar().unwrap();
            let expected = loss.between(&value(&a), &value(&b));
            assert!((f64::from(found) - expected).abs() < 1e-5 * expected, "{loss:?}: {found} {expected}");
        }
    }
}
