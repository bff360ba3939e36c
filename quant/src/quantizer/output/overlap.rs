//! Clipping by the overlap of attention maps.

use super::check_shape;
use super::product::rows_by_rows;
use crate::quantizer::error::QuantizerError;
use crate::quantizer::grid::Grid;
use crate::quantizer::params::Params;
use crate::quantizer::quantile::Sorted;
use crate::quantizer::scheme::{Family, RangeSearch, Scheme};
use crate::terms::Bits;

/// The percentiles SAQ-SAM chooses from.
pub const OVERLAP_PERCENTILES: [f64; 29] = [
    0.85, 0.87, 0.88, 0.89, 0.90, 0.91, 0.92, 0.93, 0.94, 0.95, 0.960, 0.965, 0.970, 0.975, 0.980, 0.983,
    0.985, 0.987, 0.989, 0.99, 0.993, 0.995, 0.997, 0.999, 0.9993, 0.9995, 0.9997, 0.9999, 0.99999,
];
/// Share of a row's largest probability above which a key counts as attended to (`FFC_threshold`).
const THRESHOLD: f32 = 0.5;
/// Keeps an empty union from dividing by zero.
const EPSILON: f64 = 1e-6;

/// What [`least_overlap_loss`] finds.
#[derive(Debug, Clone, PartialEq)]
pub struct Overlap {
    /// The grid of the operand.
    pub params: Params,
    /// The percentile it is clipped at.
    pub percentile: f64,
    /// The loss at every one of [`OVERLAP_PERCENTILES`].
    pub losses: Vec<f64>,
}

/// Perceptual-consistency clipping (SAQ-SAM, Zhang et al. 2025; spec §3.1): the operand is clipped from percentile
/// `1 - p` to `p`, and of 29 `p` the first with the least [`overlap_loss`] of the attention is taken.
///
/// `attention` makes the attention map `[maps, queries, keys]` from the quantized values: with the product of queries and
/// keys ([`attention_map`]) if these are what is quantized, through the projection if it is its input. Other
/// quantizers that have been found are on in it. `reference` is the map in full precision.
pub fn least_overlap_loss(
    values: &[f32],
    bits: Bits,
    reference: &[f32],
    queries: usize,
    keys: usize,
    mut attention: impl FnMut(&[f32]) -> Result<Vec<f32>, QuantizerError>,
) -> Result<Overlap, QuantizerError> {
    if bits.is_float() {
        return Err(QuantizerError::Float);
    }
    let finite: Vec<f32> = values.iter().copied().filter(|x| x.is_finite()).collect();
    let sorted = Sorted::new(&finite);
    let mut losses = Vec::with_capacity(OVERLAP_PERCENTILES.len());
    let mut best: Option<(f64, f64, Grid)> = None;
    for p in OVERLAP_PERCENTILES {
        let grid = Grid::containing_zero(sorted.quantile(1.0 - p), sorted.quantile(p), bits, false);
        let mut quantized = values.to_vec();
        grid.apply_all(&mut quantized);
        let loss = overlap_loss(&attention(&quantized)?, reference, queries, keys)?;
        losses.push(loss);
        if best.is_none_or(|(least, ..)| loss < least) {
            best = Some((loss, p, grid));
        }
    }
    let (_, percentile, grid) = best.ok_or(QuantizerError::NoData)?;
    let params = Params {
        scheme: Scheme::new(Family::Uniform, RangeSearch::Percentile(vec![percentile])),
        bits,
        scale: vec![grid.step],
        zero_point: vec![grid.zero],
        extra: std::collections::BTreeMap::new(),
    };
    Ok(Overlap { params, percentile, losses })
}

/// One minus the overlap (intersection over union) of what two attention maps `[maps, queries, keys]` attend to, the
/// mean over maps. A query attends to the keys with more than half of its largest probability.
///
/// The paper's formula has the largest probability of the whole map instead; this is what its code does.
pub fn overlap_loss(
    found: &[f32],
    reference: &[f32],
    queries: usize,
    keys: usize,
) -> Result<f64, QuantizerError> {
    let size = queries.checked_mul(keys).filter(|n| *n > 0).unwrap_or(usize::MAX);
    let maps = reference.len() / size;
    check_shape(reference.len(), maps, size)?;
    check_shape(found.len(), maps, size)?;
    if maps == 0 {
        return Ok(0.0);
    }
    let attended = |row: &[f32]| {
        let bound = THRESHOLD * row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        row.iter().map(|x| *x > bound).collect::<Vec<bool>>()
    };
    let loss = |(found, reference): (&[f32], &[f32])| {
        let (mut both, mut either) = (0_u64, 0_u64);
        for (found, reference) in found.chunks_exact(keys).zip(reference.chunks_exact(keys)) {
            for (a, b) in attended(found).into_iter().zip(attended(reference)) {
                both += u64::from(a && b);
                either += u64::from(a || b);
            }
        }
        1.0 - both as f64 / (either as f64 + EPSILON)
    };
    let losses = found.chunks_exact(size).zip(reference.chunks_exact(size)).map(loss);
    Ok(losses.sum::<f64>() / maps as f64)
}

/// `softmax(q kᵀ · scale)` of `maps` maps: `q` is `[maps, queries, inner]`, `k` is `[maps, keys, inner]`.
pub fn attention_map(
    q: &[f32],
    k: &[f32],
    maps: usize,
    inner: usize,
    scale: f32,
) -> Result<Vec<f32>, QuantizerError> {
    let rows = |len: usize| len.checked_div(maps).and_then(|n| n.checked_div(inner)).unwrap_or(0);
    let (queries, keys) = (rows(q.len()), rows(k.len()));
    let size = |rows: usize| rows.saturating_mul(inner);
    check_shape(q.len(), maps, size(queries))?;
    check_shape(k.len(), maps, size(keys))?;
    if queries == 0 || keys == 0 {
        return Ok(Vec::new());
    }
    let mut map = Vec::with_capacity(maps * queries * keys);
    for (q, k) in q.chunks_exact(size(queries)).zip(k.chunks_exact(size(keys))) {
        let mut logits = rows_by_rows(q, k, inner)?;
        for row in logits.chunks_exact_mut(keys) {
            let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            for x in row.iter_mut() {
                *x = ((*x - most) * scale).exp();
            }
            let sum: f32 = row.iter().sum();
            for x in row {
                *x /= sum;
            }
        }
        map.extend(logits);
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::{attention_map, least_overlap_loss, overlap_loss};
    use crate::terms::{Bits, Layout};

    #[test]
    fn the_overlap_is_counted_per_map() {
        let reference = [0.6, 0.3, 0.1, 0.4, 0.4, 0.2];
        assert!(overlap_loss(&reference, &reference, 1, 3).unwrap() < 1e-6);
        // The first map now attends to two keys; the second to the other of its two.
        let found = [0.5, 0.4, 0.1, 0.1, 0.8, 0.1];
        assert!((overlap_loss(&found, &reference, 1, 3).unwrap() - 0.5).abs() < 1e-6);
        assert_eq!(overlap_loss(&[], &[], 1, 3), Ok(0.0));
        for (queries, keys) in [(0, 3), (4, 3), (usize::MAX, 2)] {
            assert!(overlap_loss(&found, &reference, queries, keys).is_err());
        }
        assert!(overlap_loss(&found[3..], &reference, 1, 3).is_err());
    }

    #[test]
    fn outliers_are_clipped_where_attention_does_not_need_them() {
        // One key of sixteen has a huge component that no query looks at.
        let inner = 2;
        let mut k: Vec<f32> = (0..32).flat_map(|i| [(i as f32 * 0.7).sin(), 0.0]).collect();
        k[7] = 500.0;
        let q: Vec<f32> = (0..16).flat_map(|i| [3.0 + i as f32 * 0.1, 0.0]).collect();
        let reference = attention_map(&q, &k, 1, inner, 1.0).unwrap();
        let found = least_overlap_loss(&k, Bits::new(4).unwrap(), &reference, 16, 32, |k| {
            attention_map(&q, k, 1, inner, 1.0)
        })
        .unwrap();
        assert!(found.percentile < 0.99 && found.params.scale[0] < 1.0, "{found:?}");
        assert!(found.losses[28] > found.losses.iter().copied().fold(1.0, f64::min));
        assert!(found.params.check(Layout::tensor(64)).is_ok());
        assert!(least_overlap_loss(&k, Bits::FLOAT, &reference, 16, 32, |k| Ok(k.to_vec())).is_err());
        assert!(attention_map(&q, &k, 3, inner, 1.0).is_err());
        assert!(attention_map(&q, &k, 0, 0, 1.0).is_err());
    }
}
