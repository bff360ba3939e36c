//! Scales of the operands of a product of activations by the error of the product.

use super::candidates::{ROUNDS, least_of_groups, reach, shares};
use super::check_shape;
use super::product::{Rows, transposed, weighted_errors};
use super::twin::{SignedCodes, fake_quantize_twin_softmax, quantize_signed, widest};
use crate::quantizer::error::QuantizerError;
use crate::terms::Bits;
use rayon::prelude::*;

/// Boundaries 2^0 to 2^-19 are tried.
const BOUNDARIES: i32 = 20;

/// A product per sample and head, `[samples, heads, rows, inner] · [samples, heads, inner, columns]`.
#[derive(Debug, Clone, Copy)]
pub struct Heads<'a> {
    /// The left operand.
    pub lhs: &'a [f32],
    /// The right operand.
    pub rhs: &'a [f32],
    /// `[samples, heads, rows, columns]`: the derivative of the loss by the product; see
    /// [`Layer::gradient`](super::Layer::gradient).
    pub gradient: &'a [f32],
    /// Heads per sample.
    pub heads: usize,
    /// Rows of the left operand.
    pub rows: usize,
    /// The summed dimension.
    pub inner: usize,
    /// Columns of the right operand.
    pub columns: usize,
    /// The largest magnitudes of both operands in every head, if these are a sample of them.
    pub reach: Option<[&'a [f32]; 2]>,
    /// Codes of the signed grids.
    pub codes: SignedCodes,
}

/// What [`search_attention`] finds.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionScales {
    /// Where the two regions of the probabilities meet.
    pub boundary: f32,
    /// A scale of the values per head.
    pub rhs: Vec<f32>,
}

/// All heads of all samples, the right operands as rows.
struct Pieces<'a> {
    shape: &'a Heads<'a>,
    count: usize,
    /// `[count, columns, inner]`.
    rhs: Vec<f32>,
    /// `[count, rows, columns]`.
    expected: Vec<f32>,
}

/// The Hessian-weighted search of PTQ4ViT for queries times keys: signed scales of both operands per head, 100 shares
/// of the first scales, the left operand and then the right one, three times.
pub fn search_matmul(
    product: &Heads<'_>,
    lhs_bits: Bits,
    rhs_bits: Bits,
) -> Result<(Vec<f32>, Vec<f32>), QuantizerError> {
    let pieces = Pieces::new(product)?;
    let (first_lhs, first_rhs) = (first(product, 0, lhs_bits), first(product, 1, rhs_bits));
    let left = |scales: &[f32]| pieces.signed(product.lhs, scales, lhs_bits);
    let right = |scales: &[f32]| pieces.signed(&pieces.rhs, scales, rhs_bits);
    let (mut lhs, mut rhs) = (first_lhs.clone(), first_rhs.clone());
    for _ in 0..ROUNDS {
        let before = (lhs.clone(), rhs.clone());
        let fixed = right(&rhs)?;
        lhs = choose(&first_lhs, |scales| pieces.errors(&left(scales)?, &fixed))?;
        let fixed = left(&lhs)?;
        rhs = choose(&first_rhs, |scales| pieces.errors(&fixed, &right(scales)?))?;
        // Every further round would find the same.
        if before == (lhs.clone(), rhs.clone()) {
            break;
        }
    }
    Ok((lhs, rhs))
}

/// The same for probabilities times values: first the boundary 2^-i of the two regions of the probabilities, one for
/// all heads, with the values as they are, then a signed scale of the values per head. Nothing
/// changes in a second round. `paper`: both regions added, as released; otherwise boundaries are left out below which
/// larger probabilities would get smaller levels.
pub fn search_attention(
    product: &Heads<'_>,
    lhs_bits: Bits,
    rhs_bits: Bits,
    paper: bool,
) -> Result<AttentionScales, QuantizerError> {
    let pieces = Pieces::new(product)?;
    let twin = |boundary: f32| {
        let mut values = product.lhs.to_vec();
        fake_quantize_twin_softmax(&mut values, boundary, lhs_bits, paper);
        Rows::new(values, pieces.count, product.inner)
    };
    let half_step = 0.5 / (lhs_bits.levels().unwrap_or(4) as f32 / 2.0 - 1.0);
    let boundaries = (0..BOUNDARIES).filter(|i| paper || 2_f32.powi(-i) >= half_step).count() as i32;
    let as_is = Rows::new(pieces.rhs.clone(), pieces.count, product.inner)?;
    let tried: Vec<Vec<f64>> = (0..boundaries)
        .into_par_iter()
        .map(|i| Ok(vec![pieces.errors(&twin(2_f32.powi(-i))?, &as_is)?.iter().sum()]))
        .collect::<Result<_, QuantizerError>>()?;
    let boundary = 2_f32.powi(-(least_of_groups(&tried, 1)[0] as i32));
    let fixed = twin(boundary)?;
    let rhs = choose(&first(product, 1, rhs_bits), |scales| {
        pieces.errors(&fixed, &pieces.signed(&pieces.rhs, scales, rhs_bits)?)
    })?;
    Ok(AttentionScales { boundary, rhs })
}

impl<'a> Pieces<'a> {
    fn new(shape: &'a Heads<'a>) -> Result<Self, QuantizerError> {
        let Heads { lhs, rhs, gradient, heads, rows, inner, columns, .. } = *shape;
        let size = |a: usize, b: usize| a.checked_mul(b).filter(|n| *n > 0).unwrap_or(usize::MAX);
        let (left, right, out) = (size(rows, inner), size(inner, columns), size(rows, columns));
        let count = lhs.len() / left;
        check_shape(lhs.len(), count, left)?;
        check_shape(rhs.len(), count, right)?;
        check_shape(gradient.len(), count, out)?;
        let all_reached = shape.reach.is_none_or(|reach| reach.iter().all(|of| of.len() == heads));
        if heads == 0 || !all_reached || count == 0 || !count.is_multiple_of(heads) {
            return Err(QuantizerError::Channels { expected: count, found: heads });
        }
        let rhs: Vec<f32> = rhs.chunks_exact(right).flat_map(|rhs| transposed(rhs, columns)).collect();
        let as_rows = |values: &[f32]| Rows::new(values.to_vec(), count, inner);
        let expected = as_rows(lhs)?.times(&as_rows(&rhs)?, <[f32]>::to_vec)?;
        Ok(Self { shape, count, rhs, expected })
    }

    /// An operand with a scale for every head.
    fn signed(&self, values: &[f32], scales: &[f32], bits: Bits) -> Result<Rows, QuantizerError> {
        let mut values = values.to_vec();
        let size = values.len() / self.count;
        for (piece, scale) in values.chunks_exact_mut(size).zip(scales.iter().cycle()) {
            quantize_signed(piece, *scale, bits, self.shape.codes);
        }
        Rows::new(values, self.count, self.shape.inner)
    }

    /// The weighted error of every head.
    fn errors(&self, lhs: &Rows, rhs: &Rows) -> Result<Vec<f64>, QuantizerError> {
        let Heads { heads, rows, columns, gradient, .. } = *self.shape;
        let size = rows * columns;
        lhs.times(rhs, |found| {
            let mut errors = vec![0.0; heads];
            let pieces = self.expected.chunks_exact(size).zip(found.chunks_exact(size));
            for (at, ((expected, found), gradient)) in pieces.zip(gradient.chunks_exact(size)).enumerate() {
                errors[at % heads] += weighted_errors(expected, found, gradient, columns, 1)[0];
            }
            errors
        })
    }
}

/// The scale of every head at which the largest magnitude of an operand fits.
fn first(product: &Heads<'_>, operand: usize, bits: Bits) -> Vec<f32> {
    let Heads { heads, rows, inner, columns, .. } = *product;
    if let Some(reach) = product.reach {
        return reach[operand].iter().map(|&reach| widest(reach, bits)).collect();
    }
    let (values, size) =
        if operand == 0 { (product.lhs, rows * inner) } else { (product.rhs, inner * columns) };
    let mut most = vec![0.0_f32; heads];
    for (at, piece) in values.chunks_exact(size.max(1)).enumerate() {
        most[at % heads] = most[at % heads].max(reach(piece));
    }
    most.into_iter().map(|reach| widest(reach, bits)).collect()
}

/// The best scale of every head among the shares of the first ones, given the errors of scales.
fn choose(
    first: &[f32],
    errors: impl Fn(&[f32]) -> Result<Vec<f64>, QuantizerError> + Sync,
) -> Result<Vec<f32>, QuantizerError> {
    let candidates: Vec<f32> = shares().collect();
    let tried: Vec<Vec<f64>> = candidates
        .par_iter()
        .map(|share| errors(&first.iter().map(|first| share * first).collect::<Vec<f32>>()))
        .collect::<Result<_, QuantizerError>>()?;
    let best = least_of_groups(&tried, first.len());
    Ok(best.iter().zip(first).map(|(&at, first)| candidates[at] * first).collect())
}

#[cfg(test)]
mod tests {
    use super::{Heads, SignedCodes, search_attention, search_matmul};
    use crate::stats::tests::shapes::{Random, softmax};
    use crate::terms::Bits;

    #[test]
    fn heads_have_scales_of_their_own_and_shapes_are_checked() {
        let mut random = Random::new(9);
        let (samples, heads, rows, inner, columns) = (2, 2, 6, 4, 5);
        let scale = |at: usize, size: usize| if (at / size).is_multiple_of(heads) { 1.0 } else { 100.0 };
        let lhs: Vec<f32> = (0..samples * heads * rows * inner)
            .map(|at| (random.normal() * scale(at, rows * inner)) as f32)
            .collect();
        let rhs: Vec<f32> = (0..samples * heads * inner * columns).map(|_| random.normal() as f32).collect();
        let gradient = vec![1.0; samples * heads * rows * columns];
        let (reach, codes) = (None, SignedCodes::All);
        let product =
            Heads { lhs: &lhs, rhs: &rhs, gradient: &gradient, heads, rows, inner, columns, reach, codes };
        let bits = Bits::new(6).unwrap();
        let (left, right) = search_matmul(&product, bits, bits).unwrap();
        assert!(left[1] > 20.0 * left[0] && right.len() == 2);
        for bad in [
            Heads { heads: 3, ..product },
            Heads { heads: 0, ..product },
            Heads { rows: 5, ..product },
            Heads { inner: 0, ..product },
            Heads { columns: usize::MAX, ..product },
            Heads { gradient: &gradient[1..], ..product },
        ] {
            assert!(search_matmul(&bad, bits, bits).is_err());
            assert!(search_attention(&bad, bits, bits, false).is_err());
        }
    }

    #[test]
    fn adding_both_regions_drives_the_boundary_towards_zero() {
        let mut random = Random::new(3);
        let (heads, rows, inner, columns) = (2, 16, 16, 8);
        let lhs = softmax(&mut random, heads * rows, inner, 3.0);
        let rhs: Vec<f32> = (0..heads * inner * columns).map(|_| random.normal() as f32 + 1.0).collect();
        let gradient = vec![1.0; heads * rows * columns];
        let (reach, codes) = (None, SignedCodes::All);
        let product =
            Heads { lhs: &lhs, rhs: &rhs, gradient: &gradient, heads, rows, inner, columns, reach, codes };
        let bits = Bits::new(8).unwrap();
        let sound = search_attention(&product, bits, bits, false).unwrap();
        let released = search_attention(&product, bits, bits, true).unwrap();
        assert!(released.boundary < sound.boundary, "{released:?} {sound:?}");
    }
}
