//! The numbers of rewrites, from fitted grids and reaches of channels.

use super::params::Params;

/// RepQ-ViT's LayerNorm reparameterization.
#[derive(Debug, Clone, PartialEq)]
pub struct Reparameterized {
    /// What every channel is divided by, `r_c = d_c / d*`.
    pub scale: Vec<f32>,
    /// What every channel is then lowered by, `u_c = d* (z* - z_c)`.
    pub shift: Vec<f32>,
    /// The step of the grid that serves all channels, `d* = mean d_c`.
    pub step: f32,
    /// Its zero point, `z* = mean z_c`, usually no whole number.
    pub zero_point: f32,
}

/// Turns one grid per channel into one for all and the change of the channels that makes it fit (RepQ-ViT, Li et al.
/// 2023, eq. 6–9).
pub fn reparameterize(params: &Params) -> Reparameterized {
    let channels = params.scale.len().max(1) as f64;
    let mean = |values: &[f32]| (values.iter().map(|&x| f64::from(x)).sum::<f64>() / channels) as f32;
    let (step, zero_point) = (mean(&params.scale), mean(&params.zero_point));
    let scale: Vec<f32> = params.scale.iter().map(|d| d / step).collect();
    // In the order of the released code: -z d / r + z* d*.
    let shift = params
        .scale
        .iter()
        .zip(&params.zero_point)
        .zip(&scale)
        .map(|((d, z), r)| (-z * d) / r - (-zero_point * step))
        .collect();
    Reparameterized { scale, shift, step, zero_point }
}

/// Largest and smallest factor of [`smoothing`]: a channel of zero weights would have one without bounds.
const BOUNDS: (f32, f32) = (1e-5, 1e5);

/// SmoothQuant's factors `s_c = a_c^alpha / w_c^(1 - alpha)` of every channel, at least 1e-5 (Xiao et al. 2023, eq. 4).
/// `reach` holds the largest magnitude `a_c` of every channel, `weights` are those of the layers that read it,
/// `[out, channels]` each; `w_c`, their largest magnitude, counts as at least 1e-5.
pub fn smoothing(reach: &[f32], weights: &[&[f32]], alpha: f32) -> Vec<f32> {
    let channels = reach.len();
    let mut largest = vec![0.0_f32; channels];
    for row in weights.iter().flat_map(|weight| weight.chunks_exact(channels.max(1))) {
        largest.iter_mut().zip(row).for_each(|(most, w)| *most = most.max(w.abs()));
    }
    let (least, most) = BOUNDS;
    let factor = |(a, w): (&f32, f32)| (a.powf(alpha) / w.max(least).powf(1.0 - alpha)).clamp(least, most);
    reach.iter().zip(largest).map(factor).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantizer::{Family, RangeSearch, Scheme};
    use crate::terms::Bits;

    #[test]
    fn the_merged_grid_gives_what_the_channels_grids_gave() {
        let params = Params {
            scheme: Scheme::new(Family::Uniform, RangeSearch::repq()).per_channel(),
            bits: Bits::new(4).unwrap(),
            scale: vec![0.1, 2.0, 0.5],
            zero_point: vec![3.0, 12.0, 7.0],
            extra: std::collections::BTreeMap::new(),
        };
        let merged = reparameterize(&params);
        for c in 0..3 {
            for x in [-1.0_f32, 0.0, 0.3, 2.5] {
                let own = (x / params.scale[c]).round_ties_even() + params.zero_point[c];
                let y = x / merged.scale[c] - merged.shift[c];
                let shared = y / merged.step + merged.zero_point;
                assert!((shared - (x / params.scale[c] + params.zero_point[c])).abs() < 1e-4, "{own}");
            }
        }
    }

    #[test]
    fn smoothing_is_bounded() {
        let s = smoothing(&[1e6, 0.0, 2.0], &[&[0.0, 1.0, 0.5]], 0.5);
        assert!(s.iter().all(|s| (1e-5..=1e5).contains(s)), "{s:?}");
        assert_eq!(s[2], 2.0);
    }
}
