//! Scales of a linear layer's or a convolution's operands by the error of its output.

use super::candidates::{ROUNDS, least_of_groups, reach, shares};
use super::check_shape;
use super::product::{Rows, weighted_errors};
use super::twin::{SignedCodes, fake_quantize_twin_gelu, negative_step, quantize_signed, widest};
use crate::quantizer::error::QuantizerError;
use crate::terms::Bits;
use rayon::prelude::*;

/// How the input of a layer is quantized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputGrid {
    /// Not at all (the image of a patch embedding).
    Float,
    /// Signed, symmetric.
    Signed,
    /// Two regions, after GELU.
    TwinGelu,
}

/// A layer with the rows of its calibration input.
#[derive(Debug, Clone, Copy)]
pub struct Layer<'a> {
    /// `[rows, inner]`.
    pub input: &'a [f32],
    /// `[out, inner]`.
    pub weight: &'a [f32],
    /// `[rows, out]`: the derivative of the loss by the output of the layer.
    ///
    /// PTQ4ViT and PTQ4RIS take the divergence of the model's output from itself as the loss: in full precision it is zero
    /// and so is its derivative, and what they square is the rounding of f32. To get weights that mean something, callers
    /// take the derivative of a model that is perturbed or quantized elsewhere; with all ones the search is that
    /// of least squares.
    pub gradient: &'a [f32],
    /// The summed dimension.
    pub inner: usize,
    /// The largest magnitude of the input, above zero for [`InputGrid::TwinGelu`], if `input` is a sample of its rows.
    pub reach: Option<f32>,
    /// Codes of the signed grids.
    pub codes: SignedCodes,
}

/// What [`search_linear`] finds.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearScales {
    /// A scale per part of the weight's rows.
    pub weight: Vec<f32>,
    /// The scale of the input, of its values above zero for [`InputGrid::TwinGelu`]; 0 if it is not quantized.
    pub input: f32,
    /// The step of values below zero for [`InputGrid::TwinGelu`].
    pub input_negative: Option<f32>,
}

/// The Hessian-weighted search of PTQ4ViT (Yuan et al. 2022, §3.3) and of PTQ4RIS's visual encoder (spec §3.1): the
/// scales that minimise `Σ (G · (Y - Yq))²`, a diagonal of squared gradients standing for the Hessian.
///
/// All grids are signed, without zero point. The rows of the weight fall into `parts` parts of equal size, each with a
/// scale (3 for the queries, keys and values of one projection, one per row for convolutions). 100 shares of
/// the scale at which the largest magnitude fits are tried, for the weight with the input quantized as it is, then for
/// the input with the weight, three times. The bias stays as it is and so cancels.
pub fn search_linear(
    layer: &Layer<'_>,
    parts: usize,
    input: InputGrid,
    weight_bits: Bits,
    input_bits: Bits,
) -> Result<LinearScales, QuantizerError> {
    let inner = layer.inner.max(1);
    let (rows, out) = (layer.input.len() / inner, layer.weight.len() / inner);
    check_shape(layer.input.len(), rows, inner)?;
    check_shape(layer.weight.len(), out, inner)?;
    check_shape(layer.gradient.len(), rows, out)?;
    if parts == 0 || !out.is_multiple_of(parts) || out == 0 {
        return Err(QuantizerError::Channels { expected: out, found: parts });
    }
    let part = out / parts * inner;
    let first: Vec<f32> =
        layer.weight.chunks_exact(part).map(|part| widest(reach(part), weight_bits)).collect();
    let largest = layer.reach.unwrap_or_else(|| {
        if input == InputGrid::TwinGelu {
            layer.input.iter().copied().fold(0.0, f32::max)
        } else {
            reach(layer.input)
        }
    });
    let first_input = widest(largest, input_bits);
    let quantize_input = |scale: f32| {
        let mut values = layer.input.to_vec();
        match input {
            InputGrid::Float => {}
            InputGrid::Signed => quantize_signed(&mut values, scale, input_bits, layer.codes),
            InputGrid::TwinGelu => fake_quantize_twin_gelu(&mut values, scale, input_bits),
        }
        Rows::new(values, 1, inner)
    };
    let quantize_weight = |scales: &[f32]| {
        let mut values = layer.weight.to_vec();
        for (part, &scale) in values.chunks_exact_mut(part).zip(scales) {
            quantize_signed(part, scale, weight_bits, layer.codes);
        }
        Rows::new(values, 1, inner)
    };
    let as_is = |values: &[f32]| Rows::new(values.to_vec(), 1, inner);
    let expected = as_is(layer.input)?.times(&as_is(layer.weight)?, <[f32]>::to_vec)?;
    let errors = |input: &Rows, weight: &Rows, groups: usize| {
        input.times(weight, |found| weighted_errors(&expected, found, layer.gradient, out, groups))
    };
    let candidates: Vec<f32> = shares().collect();
    let (mut weight, mut scale) = (first.clone(), first_input);
    for _ in 0..ROUNDS {
        let before = (weight.clone(), scale);
        let values = quantize_input(scale)?;
        let tried: Vec<Vec<f64>> = candidates
            .par_iter()
            .map(|share| {
                let scales: Vec<f32> = first.iter().map(|first| share * first).collect();
                errors(&values, &quantize_weight(&scales)?, parts)
            })
            .collect::<Result<_, _>>()?;
        let best = least_of_groups(&tried, parts);
        weight = best.iter().zip(&first).map(|(&at, first)| candidates[at] * first).collect();
        // A float input makes every round the same, as do scales that were found before.
        if input == InputGrid::Float {
            break;
        }
        let weights = quantize_weight(&weight)?;
        let tried: Vec<Vec<f64>> = candidates
            .par_iter()
            .map(|share| errors(&quantize_input(share * first_input)?, &weights, 1))
            .collect::<Result<_, _>>()?;
        scale = candidates[least_of_groups(&tried, 1)[0]] * first_input;
        if before == (weight.clone(), scale) {
            break;
        }
    }
    let input_negative = (input == InputGrid::TwinGelu).then(|| negative_step(input_bits));
    Ok(LinearScales { weight, input: if input == InputGrid::Float { 0.0 } else { scale }, input_negative })
}

/// The patches of images `[n, channels, height, width]` that a convolution without padding multiplies, as rows
/// `[n · rows · columns, channels · kernel · kernel]`: a convolution is then a linear layer, its weight
/// `[out, channels, kernel, kernel]` the same numbers.
pub fn unfold(
    images: &[f32],
    [channels, height, width]: [usize; 3],
    kernel: usize,
    stride: usize,
) -> Result<Vec<f32>, QuantizerError> {
    let size = channels.checked_mul(height).and_then(|n| n.checked_mul(width)).unwrap_or(0);
    if size == 0
        || kernel == 0
        || stride == 0
        || kernel > height.min(width)
        || !images.len().is_multiple_of(size)
    {
        return Err(QuantizerError::Product { len: images.len(), other: size, inner: kernel });
    }
    let mut rows = Vec::new();
    for image in images.chunks_exact(size) {
        for top in (0..=height - kernel).step_by(stride) {
            for left in (0..=width - kernel).step_by(stride) {
                for channel in image.chunks_exact(height * width) {
                    for y in top..top + kernel {
                        rows.extend_from_slice(&channel[y * width + left..y * width + left + kernel]);
                    }
                }
            }
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::{InputGrid, Layer, SignedCodes, search_linear, unfold};
    use crate::quantizer::output::{fake_quantize_signed, fake_quantize_twin_gelu};
    use crate::stats::tests::shapes::{Random, gelu};
    use crate::terms::Bits;

    #[test]
    fn outputs_get_better_where_the_gradient_is() {
        let mut random = Random::new(5);
        let (rows, inner, out) = (40, 16, 12);
        let input: Vec<f32> = (0..rows * inner).map(|_| gelu(random.normal()) as f32).collect();
        let weight: Vec<f32> = (0..out * inner).map(|_| random.student(4) as f32).collect();
        let gradient: Vec<f32> = (0..rows * out).map(|i| if i % out < 4 { 1.0 } else { 0.01 }).collect();
        let codes = SignedCodes::All;
        let layer = Layer { input: &input, weight: &weight, gradient: &gradient, inner, reach: None, codes };
        let bits = Bits::new(4).unwrap();
        let found = search_linear(&layer, 3, InputGrid::TwinGelu, bits, bits).unwrap();
        assert_eq!(found.weight.len(), 3);
        let error = |scales: &[f32], scale: f32| {
            let (mut x, mut w) = (input.clone(), weight.clone());
            fake_quantize_twin_gelu(&mut x, scale, bits);
            w.chunks_exact_mut(4 * inner).zip(scales).for_each(|(w, s)| fake_quantize_signed(w, *s, bits));
            let dot = |x: &[f32], w: &[f32]| x.iter().zip(w).map(|(a, b)| a * b).sum::<f32>();
            (0..rows * out)
                .map(|i| {
                    let (r, o) = (i / out * inner, i % out * inner);
                    let exact = dot(&input[r..r + inner], &weight[o..o + inner]);
                    f64::from(gradient[i] * (exact - dot(&x[r..r + inner], &w[o..o + inner]))).powi(2)
                })
                .sum::<f64>()
        };
        let most = |values: &[f32]| values.iter().fold(0.0_f32, |m, x| m.max(x.abs())) / 7.5;
        let widest: Vec<f32> = weight.chunks_exact(4 * inner).map(most).collect();
        assert!(error(&found.weight, found.input) < 0.9 * error(&widest, most(&input)));
        let bad = Layer { gradient: &gradient[1..], ..layer };
        assert!(search_linear(&bad, 3, InputGrid::Signed, bits, bits).is_err());
        assert!(search_linear(&layer, 5, InputGrid::Signed, bits, bits).is_err());
        assert!(search_linear(&layer, 0, InputGrid::Signed, bits, bits).is_err());
    }

    #[test]
    fn zeros_and_what_is_not_finite_end_in_positive_scales() {
        let bits = Bits::new(8).unwrap();
        for value in [0.0, f32::NAN, f32::INFINITY] {
            let values = [value; 4];
            let (reach, codes) = (None, SignedCodes::Mirrored);
            let layer = Layer { input: &values, weight: &values, gradient: &values, inner: 2, reach, codes };
            let found = search_linear(&layer, 1, InputGrid::Signed, bits, bits).unwrap();
            assert!(found.weight[0] >= 0.0 && found.input >= 0.0, "{found:?}");
        }
    }

    #[test]
    fn patches_are_rows() {
        let image: Vec<f32> = (0..16).map(|i| i as f32).collect();
        let rows = unfold(&image, [1, 4, 4], 2, 2).unwrap();
        assert_eq!(rows, [0., 1., 4., 5., 2., 3., 6., 7., 8., 9., 12., 13., 10., 11., 14., 15.]);
        assert!(unfold(&image, [1, 4, 4], 5, 2).is_err());
        assert!(unfold(&image, [1, 4, 3], 2, 2).is_err());
    }
}
