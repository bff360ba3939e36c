//! Scales of the operands of a product of activations by the error of the product.

use super::candidates::{ROUNDS, least_of_groups, reach, shares};
use super::check_shape;
use super::product::{rows_by_rows, transposed, weighted_errors};
use super::twin::{fake_quantize_signed, fake_quantize_twin_softmax, widest};
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
}

/// What [`search_attention`] finds.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionScales {
    /// Where the two regions of the probabilities meet.
    pub boundary: f32,
    /// A scale of the values per head.
    pub rhs: Vec<f32>,
}

/// One head of one sample, the right operand as rows.
struct Piece<'a> {
    head: usize,
    lhs: &'a [f32],
    rhs: Vec<f32>,
    gradient: &'a [f32],
    expected: Vec<f32>,
}

/// The Hessian-weighted search of PTQ4ViT for queries times keys: signed scales of both operands per head, 100 shares
/// of the first scales, the left operand and then the right one, three times.
pub fn search_matmul(
    product: &Heads<'_>,
    lhs_bits: Bits,
    rhs_bits: Bits,
) -> Result<(Vec<f32>, Vec<f32>), QuantizerError> {
    let pieces = pieces(product)?;
    let first_lhs = first(product.lhs, product.rows * product.inner, product.heads, lhs_bits);
    let first_rhs = first(product.rhs, product.inner * product.columns, product.heads, rhs_bits);
    let candidates: Vec<f32> = shares().collect();
    let (mut lhs, mut rhs) = (first_lhs.clone(), first_rhs.clone());
    for _ in 0..ROUNDS {
        let fixed = quantized(&pieces, |piece| (&piece.rhs, rhs[piece.head]), rhs_bits);
        lhs = choose(&pieces, product, &candidates, &first_lhs, |at, piece, scale| {
            rows_by_rows(&signed(piece.lhs, scale, lhs_bits), &fixed[at], product.inner)
        })?;
        let fixed = quantized(&pieces, |piece| (piece.lhs, lhs[piece.head]), lhs_bits);
        rhs = choose(&pieces, product, &candidates, &first_rhs, |at, piece, scale| {
            rows_by_rows(&fixed[at], &signed(&piece.rhs, scale, rhs_bits), product.inner)
        })?;
    }
    Ok((lhs, rhs))
}

/// The same for probabilities times values: first the boundary 2^-i of the two regions of the probabilities, one for
/// all heads, with the values as they are, then a signed scale of the values per head. Nothing
/// changes in a second round. `paper`: both regions added, as released.
pub fn search_attention(
    product: &Heads<'_>,
    lhs_bits: Bits,
    rhs_bits: Bits,
    paper: bool,
) -> Result<AttentionScales, QuantizerError> {
    let pieces = pieces(product)?;
    let twin = |values: &[f32], boundary: f32| {
        let mut values = values.to_vec();
        fake_quantize_twin_softmax(&mut values, boundary, lhs_bits, paper);
        values
    };
    let tried: Vec<Vec<f64>> = (0..BOUNDARIES)
        .into_par_iter()
        .map(|i| {
            let mut sum = 0.0;
            for piece in &pieces {
                let found = rows_by_rows(&twin(piece.lhs, 2_f32.powi(-i)), &piece.rhs, product.inner)?;
                sum += piece.error(&found, product.columns);
            }
            Ok(vec![sum])
        })
        .collect::<Result<_, QuantizerError>>()?;
    let boundary = 2_f32.powi(-(least_of_groups(&tried, 1)[0] as i32));
    let first_rhs = first(product.rhs, product.inner * product.columns, product.heads, rhs_bits);
    let fixed: Vec<Vec<f32>> = pieces.iter().map(|piece| twin(piece.lhs, boundary)).collect();
    let candidates: Vec<f32> = shares().collect();
    let rhs = choose(&pieces, product, &candidates, &first_rhs, |at, piece, scale| {
        rows_by_rows(&fixed[at], &signed(&piece.rhs, scale, rhs_bits), product.inner)
    })?;
    Ok(AttentionScales { boundary, rhs })
}

impl Piece<'_> {
    fn error(&self, found: &[f32], columns: usize) -> f64 {
        weighted_errors(&self.expected, found, self.gradient, columns, 1)[0]
    }
}

fn pieces<'a>(product: &Heads<'a>) -> Result<Vec<Piece<'a>>, QuantizerError> {
    let Heads { lhs, rhs, gradient, heads, rows, inner, columns } = *product;
    let size = |a: usize, b: usize| a.checked_mul(b).filter(|n| *n > 0).unwrap_or(usize::MAX);
    let (left, right, out) = (size(rows, inner), size(inner, columns), size(rows, columns));
    let count = lhs.len() / left;
    check_shape(lhs.len(), count, left)?;
    check_shape(rhs.len(), count, right)?;
    check_shape(gradient.len(), count, out)?;
    if heads == 0 || count == 0 || !count.is_multiple_of(heads) {
        return Err(QuantizerError::Channels { expected: count, found: heads });
    }
    let operands = lhs.chunks_exact(left).zip(rhs.chunks_exact(right)).zip(gradient.chunks_exact(out));
    operands
        .enumerate()
        .map(|(at, ((lhs, rhs), gradient))| {
            let rhs = transposed(rhs, columns);
            let expected = rows_by_rows(lhs, &rhs, inner)?;
            Ok(Piece { head: at % heads, lhs, rhs, gradient, expected })
        })
        .collect()
}

/// The scale of every head at which its largest magnitude fits.
fn first(values: &[f32], size: usize, heads: usize, bits: Bits) -> Vec<f32> {
    let mut most = vec![0.0_f32; heads];
    for (at, piece) in values.chunks_exact(size.max(1)).enumerate() {
        most[at % heads] = most[at % heads].max(reach(piece));
    }
    most.into_iter().map(|reach| widest(reach, bits)).collect()
}

fn signed(values: &[f32], scale: f32, bits: Bits) -> Vec<f32> {
    let mut values = values.to_vec();
    fake_quantize_signed(&mut values, scale, bits);
    values
}

fn quantized<'p>(
    pieces: &'p [Piece<'_>],
    operand: impl Fn(&'p Piece<'_>) -> (&'p [f32], f32),
    bits: Bits,
) -> Vec<Vec<f32>> {
    pieces.iter().map(operand).map(|(values, scale)| signed(values, scale, bits)).collect()
}

/// The best scale of every head among the shares of the first ones.
fn choose(
    pieces: &[Piece<'_>],
    product: &Heads<'_>,
    candidates: &[f32],
    first: &[f32],
    found: impl Fn(usize, &Piece<'_>, f32) -> Result<Vec<f32>, QuantizerError> + Sync,
) -> Result<Vec<f32>, QuantizerError> {
    let tried: Vec<Vec<f64>> = candidates
        .par_iter()
        .map(|share| {
            let mut errors = vec![0.0; first.len()];
            for (at, piece) in pieces.iter().enumerate() {
                let found = found(at, piece, share * first[piece.head])?;
                errors[piece.head] += piece.error(&found, product.columns);
            }
            Ok(errors)
        })
        .collect::<Result<_, QuantizerError>>()?;
    let best = least_of_groups(&tried, first.len());
    Ok(best.iter().zip(first).map(|(&at, first)| candidates[at] * first).collect())
}

#[cfg(test)]
mod tests {
    use super::{Heads, search_attention, search_matmul};
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
        let product = Heads { lhs: &lhs, rhs: &rhs, gradient: &gradient, heads, rows, inner, columns };
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
        let product = Heads { lhs: &lhs, rhs: &rhs, gradient: &gradient, heads, rows, inner, columns };
        let bits = Bits::new(8).unwrap();
        let sound = search_attention(&product, bits, bits, false).unwrap();
        let released = search_attention(&product, bits, bits, true).unwrap();
        assert!(released.boundary < sound.boundary, "{released:?} {sound:?}");
    }
}
