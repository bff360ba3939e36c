//! The signed and the two-region grids that the Hessian-weighted searches try (PTQ4ViT; spec of PTQ4RIS §3.1).
//!
//! With `q = 2^(b-1)`:
//! * signed: `S(x; d) = clip(round(x / d), -q, q - 1) · d`;
//! * after GELU: the positive values on `0..q - 1` steps of their own, the negative ones on `-q..0` fixed steps of
//!   `0.16997… / q`, the lowest value of GELU;
//! * after softmax, with a boundary `t`: values from `t` up in `q - 1` steps of 1, values below in `q - 1`
//!   steps of `t`. The release adds both regions instead of choosing one, so that its result is about `t` too large.

use crate::quantizer::params::Params;
use crate::quantizer::scheme::Scheme;
use crate::terms::Bits;

/// The magnitude of the lowest value of GELU.
const LOWEST_GELU: f32 = 0.169_971_24;

/// Half of the codes, of 16 bits at most.
fn half(bits: Bits) -> f32 {
    bits.levels().map_or(32_768.0, |levels| (levels / 2) as f32)
}

/// The scale at which the largest magnitude just fits: where searches start.
pub(super) fn widest(reach: f32, bits: Bits) -> f32 {
    let scale = reach / (half(bits) - 0.5);
    if scale.is_finite() && scale > 0.0 { scale } else { f32::MIN_POSITIVE }
}

/// Which codes a signed grid has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignedCodes {
    /// `-q` to `q - 1`, as released.
    All,
    /// `-(q - 1)` to `q - 1`: those of symmetric schemes, see [`Scheme::symmetric`](crate::quantizer::Scheme).
    Mirrored,
}

/// `clip(round(x / scale), -q, q - 1) · scale`.
pub fn fake_quantize_signed(values: &mut [f32], scale: f32, bits: Bits) {
    quantize_signed(values, scale, bits, SignedCodes::All);
}

/// The same with other codes.
pub(super) fn quantize_signed(values: &mut [f32], scale: f32, bits: Bits, codes: SignedCodes) {
    let q = half(bits);
    let lowest = if codes == SignedCodes::All { -q } else { 1.0 - q };
    for x in values {
        *x = rounded(*x / scale, lowest, q - 1.0) * scale;
    }
}

/// `clip(round(x), lowest, highest)`, half to even, of bounds within ±2^16; NaN stays NaN. Unlike
/// `round_ties_even`, which is a call without SSE 4.1, this vectorises on any processor.
#[inline(always)]
fn rounded(x: f32, lowest: f32, highest: f32) -> f32 {
    /// Adding and subtracting 1.5·2^23 rounds half to even any number below 2^22.
    const MAGIC: f32 = 12_582_912.0;
    // Cut a little outside first: what is cut is clipped to the same bound anyway.
    let cut = |x: f32, below: f32, above: f32| {
        let x = if x < below { below } else { x };
        if x > above { above } else { x }
    };
    cut((cut(x, lowest - 1.0, highest + 1.0) + MAGIC) - MAGIC, lowest, highest)
}

/// The parameters of a signed grid with scales that were found.
pub fn signed_params(scheme: &Scheme, bits: Bits, scales: &[f32], codes: SignedCodes) -> Params {
    Params {
        scheme: Scheme { symmetric: codes == SignedCodes::Mirrored, ..scheme.clone() },
        bits,
        scale: scales.iter().map(|scale| scale.max(f32::MIN_POSITIVE)).collect(),
        zero_point: vec![half(bits); scales.len()],
        extra: std::collections::BTreeMap::new(),
    }
}

/// The step of negative values after GELU.
pub(super) fn negative_step(bits: Bits) -> f32 {
    LOWEST_GELU / half(bits)
}

/// Values after GELU on two grids; only those above zero have a scale of their own.
pub fn fake_quantize_twin_gelu(values: &mut [f32], scale: f32, bits: Bits) {
    let (q, negative) = (half(bits), negative_step(bits));
    for x in values {
        let above = rounded(*x / scale, 0.0, q - 1.0) * scale;
        // One of the two is zero.
        *x = above + rounded(*x / negative, -q, 0.0) * negative;
    }
}

/// Values after softmax on two grids that meet at `boundary`; as released (`paper`) both are added.
pub fn fake_quantize_twin_softmax(values: &mut [f32], boundary: f32, bits: Bits, paper: bool) {
    let most = half(bits) - 1.0;
    let low_step = boundary / most;
    for x in values {
        let high = rounded(x.clamp(boundary, 1.0) * most, 0.0, most) / most;
        let low = rounded(x.clamp(0.0, boundary) / low_step, 0.0, most) * low_step;
        *x = if paper {
            high + low
        } else if *x >= boundary {
            high
        } else {
            low
        };
    }
}

#[cfg(test)]
mod tests {
    use super::{fake_quantize_signed, fake_quantize_twin_gelu, fake_quantize_twin_softmax};
    use crate::terms::Bits;

    #[test]
    fn each_region_has_its_own_step() {
        let bits = Bits::new(4).unwrap();
        let mut x = [-9.0, -0.6, 0.6, 9.0];
        fake_quantize_signed(&mut x, 1.0, bits);
        assert_eq!(x, [-8.0, -1.0, 1.0, 7.0]);
        let mut x = [-9.0, -0.17, 0.6, 9.0];
        fake_quantize_twin_gelu(&mut x, 0.5, bits);
        assert_eq!(x[2..], [0.5, 3.5]);
        assert!(x[..2].iter().all(|x| (x + 0.169_971_24).abs() < 1e-6));
        let (mut sound, mut released) = ([0.1, 0.5, 1.0], [0.1, 0.5, 1.0]);
        fake_quantize_twin_softmax(&mut sound, 0.25, bits, false);
        fake_quantize_twin_softmax(&mut released, 0.25, bits, true);
        assert!((sound[0] - 0.1).abs() < 0.25 / 14.0 && (sound[1] - 0.5).abs() < 0.0715 && sound[2] == 1.0);
        assert!(sound.iter().zip(&released).all(|(a, b)| (b - a - 0.25).abs() < 0.1), "{released:?}");
    }
}
