//! Grids of powers of 2 or √2 without a logarithm: codes and values from the bits of the numbers.

use super::dispatch::multiversion;
use super::parallel;

/// `2^(-1/4)`, `2^(-1/2)` and `2^(-3/4)` times 2, as mantissa bits: the smallest f32 not below each.
const QUARTER: u32 = 0x18_37f1;
const HALF: u32 = 0x35_04f4;
const THREE_QUARTERS: u32 = 0x57_44fd;

/// A grid of `levels` powers below `scale` and 0.
#[derive(Clone, Copy, Debug)]
pub struct Powers {
    /// The largest level.
    pub scale: f32,
    /// Two levels per octave instead of one.
    pub halves: bool,
    /// Number of levels that are not 0.
    pub levels: u32,
}

/// Ratios from here on have powers that are normal numbers.
const SMALLEST: f32 = 1e-36;

/// Values looked at together for ratios that are too small.
const PIECE: usize = 256;

/// Sends every value to the level of its rounded logarithm; `tiny` does it for single values whose ratio to the scale
/// is positive and below 10⁻³⁶. NaN stays NaN, and what is not positive becomes 0.
pub fn powers(x: &mut [f32], grid: Powers, tiny: impl Fn(f32) -> f32 + Sync) {
    parallel::for_chunks(x, 2, |_, chunk| {
        for piece in chunk.chunks_mut(PIECE) {
            if meets_tiny(piece, grid.scale) {
                for v in piece {
                    *v = tiny(*v);
                }
            } else {
                look_up(piece, grid);
            }
        }
    });
}

multiversion! {
    fn meets_tiny(x: &[f32], scale: f32) -> bool {
        let mut met = 0_u32;
        for v in x {
            let ratio = *v / scale;
            met |= u32::from(ratio > 0.0) & u32::from(ratio < SMALLEST);
        }
        met != 0
    }

    fn look_up(x: &mut [f32], grid: Powers) {
        // With one level per octave only the half threshold counts; the other can never be reached.
        let (first, second) = if grid.halves { (QUARTER, THREE_QUARTERS) } else { (HALF, u32::MAX) };
        let shift = u32::from(grid.halves);
        let root = (std::f64::consts::SQRT_2 - 1.0) as f32;
        for v in x {
            let ratio = *v / grid.scale;
            let bits = if ratio < 1.0 { ratio } else { 1.0 }.to_bits();
            let bits = if ratio > 0.0 { bits } else { 0x3f80_0000 };
            let mantissa = bits & 0x7f_ffff;
            let octaves = 127_u32.wrapping_sub(bits >> 23);
            let below = u32::from(mantissa >= first) + u32::from(mantissa >= second);
            let code = (octaves << shift).wrapping_sub(below);
            let halvings = (code + shift) >> shift;
            let power = f32::from_bits(127_u32.wrapping_sub(halvings) << 23);
            let odd = if code & shift == 1 { 1.0 + root } else { 1.0 };
            let level = power * odd * grid.scale;
            let level = if code >= grid.levels { 0.0 } else { level };
            let level = if ratio > 0.0 { level } else { 0.0 };
            *v = if ratio.is_nan() { *v } else { level };
        }
    }
}
