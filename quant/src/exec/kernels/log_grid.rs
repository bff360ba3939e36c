//! Logarithmic grids, by table instead of by logarithm.
//!
//! The definition is `k = round_ties_even(-tau · log2(x/s))` with the division and the logarithm each rounded to
//! f32. `k` falls monotonically with `x/s`, so it is known from thresholds: one per level, computed in f64
//! including the rounding of the logarithm. A table indexed by the exponent and the top three mantissa bits holds
//! the one threshold that can lie in that interval and the values on its two sides. Ratios below 2^-126 give 0:
//! only grids that reach 126 octaves down have a level there, and its value would be subnormal.

/// How the value of code `k` is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogForm {
    /// `s · 2^(-k/tau)`.
    Power,
    /// RepQ-ViT's log-√2 (`tau = 2`): `s · 2^(-ceil(k/2)) · (1 + (k mod 2) · (√2 - 1))`, in this order.
    RepQ,
}

/// A logarithmic grid with `levels` codes; codes from `levels` on give 0.
#[derive(Clone, Debug)]
pub struct LogGrid {
    scale: f32,
    table: Vec<Interval>,
}

/// Values of one table interval: `low` up to the threshold, `high` above it.
#[derive(Clone, Copy, Debug, Default)]
struct Interval {
    threshold: f32,
    low: f32,
    high: f32,
}

/// Mantissa bits in the table's index. Thresholds are at least 2^(1/4) apart, intervals at most 1/8 wide.
const INDEX_BITS: u32 = 3;
const SHIFT: u32 = f32::MANTISSA_DIGITS - 1 - INDEX_BITS;
/// Intervals of all positive floats and infinity.
const INTERVALS: usize = (0x7f80_0000 >> SHIFT) + 1;

impl LogGrid {
    /// A grid with scale `s > 0`, `tau` levels per octave (1, 2 or 4) and `levels` codes (at most 256).
    pub fn new(scale: f32, tau: u32, levels: usize, form: LogForm) -> Self {
        assert!(matches!(tau, 1 | 2 | 4), "tau of {tau}");
        assert!(form == LogForm::Power || tau == 2, "the RepQ form is for tau 2");
        assert!(levels <= 256, "{levels} levels");
        let values: Vec<f32> = (0..levels).map(|k| value(scale, tau, k, form)).collect();
        // thresholds[k]: the largest ratio whose code is more than k.
        let thresholds: Vec<f32> = (0..levels).map(|k| threshold(tau, k)).collect();
        let code = |ratio: f32| thresholds.partition_point(|&t| ratio <= t);
        let value = |k: usize| values.get(k).copied().unwrap_or(0.0);
        let mut table = vec![Interval::default(); INTERVALS];
        for (i, interval) in table.iter_mut().enumerate() {
            let first = f32::from_bits((i as u32) << SHIFT);
            let last = f32::from_bits((((i as u32) + 1) << SHIFT) - 1);
            let (high, low) = (code(last.min(f32::INFINITY)), code(first));
            let threshold = if low > high { thresholds[low - 1] } else { -1.0 };
            *interval = Interval { threshold, low: value(low), high: value(high) };
        }
        // The last interval is infinity: the quiet NaNs above it are handled apart.
        table[INTERVALS - 1] = Interval { threshold: -1.0, low: value(0), high: value(0) };
        Self { scale, table }
    }

    /// Replaces every value by that of its code; NaN stays NaN, and what is not positive (nor a normal
    /// multiple of the scale) becomes 0.
    pub(crate) fn apply_serial(&self, x: &mut [f32]) {
        look_up(x, self.scale, &self.table);
    }
}

/// The value of code `k`.
fn value(scale: f32, tau: u32, k: usize, form: LogForm) -> f32 {
    match form {
        LogForm::Power => {
            let (octaves, rest) = (k / tau as usize, k % tau as usize);
            let power = root(2 * tau, 2 * rest) * power_of_half(octaves);
            scale * power as f32
        }
        LogForm::RepQ => {
            let power = power_of_half(k.div_ceil(2)) as f32;
            let odd = (k % 2) as f32 * (std::f32::consts::SQRT_2 - 1.0) + 1.0;
            scale * power * odd
        }
    }
}

/// `2^-n`, exactly.
fn power_of_half(n: usize) -> f64 {
    f64::from_bits((1023 - n as u64) << 52)
}

/// `2^(-i/parts)` for `i < parts`, `parts` in 2, 4, 8.
fn root(parts: u32, i: usize) -> f64 {
    const EIGHTHS: [f64; 8] = [
        1.0,
        0.917_004_043_204_671_2,
        0.840_896_415_253_714_6,
        0.771_105_412_703_970_4,
        0.707_106_781_186_547_5,
        0.648_419_777_325_504_8,
        0.594_603_557_501_360_5,
        0.545_253_866_332_628_8,
    ];
    EIGHTHS[i * 8 / parts as usize]
}

/// The largest f32 ratio whose code is more than `k`: `-tau · log2` rounds past `k + 1/2`.
///
/// The f32 logarithm reaches exactly `-(k + 1/2)/tau` for all ratios within half an ulp of it; that tie goes to the
/// even neighbour, so for even `k` the bound moves down by that half ulp and for odd `k` up.
fn threshold(tau: u32, k: usize) -> f32 {
    let steps = 2 * k + 1;
    let parts = 2 * tau as usize;
    let at = steps as f32 / parts as f32;
    // Half the distance to the next f32 on the side of the bound.
    let (side, toward) = if k.is_multiple_of(2) { (1.0, at.next_up()) } else { (-1.0, at.next_down()) };
    let half_ulp = (f64::from(toward) - f64::from(at)).abs() / 2.0;
    let shift = side * half_ulp * std::f64::consts::LN_2;
    let exact = root(2 * tau, steps % parts) * power_of_half(steps / parts);
    // 2^-δ for |δ| < 1e-5, to 1e-15.
    let bound = exact * (1.0 - shift + shift * shift / 2.0);
    let nearest = bound as f32;
    if f64::from(nearest) > bound { nearest.next_down() } else { nearest }
}

super::dispatch::multiversion! {
    fn look_up(x: &mut [f32], scale: f32, table: &[Interval]) {
        let Some(table) = table.first_chunk::<INTERVALS>() else { return };
        for v in x {
            let ratio = *v / scale;
            let bits = if ratio >= f32::MIN_POSITIVE { ratio.to_bits() } else { 0 };
            let interval = &table[((bits >> SHIFT) as usize).min(INTERVALS - 1)];
            let found = if ratio <= interval.threshold { interval.low } else { interval.high };
            let found = if ratio >= f32::MIN_POSITIVE { found } else { 0.0 };
            *v = if ratio.is_nan() { ratio } else { found };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, by way of f64.
    fn slow(x: f32, scale: f32, tau: u32, levels: usize, form: LogForm) -> f32 {
        let ratio = x / scale;
        let log = f64::from(ratio).log2() as f32;
        let k = (-(tau as f32) * log).round_ties_even();
        if k >= levels as f32 { 0.0 } else { value(scale, tau, k.max(0.0) as usize, form) }
    }

    #[test]
    fn equals_the_definition_at_and_around_every_threshold() {
        for tau in [1, 2, 4] {
            for levels in [2, 4, 16, 64, 256] {
                let grid = LogGrid::new(1.0, tau, levels, LogForm::Power);
                for k in 0..levels {
                    let exact = (-(k as f64 + 0.5) / f64::from(tau)).exp2() as f32;
                    let near = exact.to_bits();
                    for bits in near.saturating_sub(60)..near + 60 {
                        let x = f32::from_bits(bits);
                        // Subnormal ratios hold several thresholds of the finest grids in one interval.
                        if x < f32::MIN_POSITIVE {
                            continue;
                        }
                        let mut got = [x];
                        grid.apply_serial(&mut got);
                        assert_eq!(got[0], slow(x, 1.0, tau, levels, LogForm::Power), "{x:e} {tau} {levels}");
                    }
                }
            }
        }
    }

    #[test]
    fn equals_the_definition_over_all_magnitudes() {
        for (scale, tau, form) in [
            (0.37, 1, LogForm::Power),
            (0.9, 2, LogForm::Power),
            (0.9, 2, LogForm::RepQ),
            (1.1, 4, LogForm::Power),
        ] {
            let grid = LogGrid::new(scale, tau, 64, form);
            for bits in (0x0080_0000..0x7f00_0000_u32).step_by(7919) {
                let x = f32::from_bits(bits);
                let mut got = [x];
                grid.apply_serial(&mut got);
                assert_eq!(got[0], slow(x, scale, tau, 64, form), "{x:e}");
            }
        }
    }

    /// Outputs of RepQ-ViT's own code, given its scale, bit for bit.
    #[test]
    fn reproduces_repq_vit() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/repq.safetensors");
        let golden = candle_core::safetensors::load(path, &candle_core::Device::Cpu).unwrap();
        let get = |name: &str| golden[name].flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let x = get("in.softmax");
        for bits in [4, 6, 8] {
            let name = |part| format!("b{bits}.softmax.{part}");
            let (delta, want) = (get(&name("delta")), get(&name("out")));
            let mut got = x.clone();
            LogGrid::new(delta[0], 2, 1 << bits, LogForm::RepQ).apply_serial(&mut got);
            assert_eq!(got, want, "{bits} bits");
        }
    }

    #[test]
    fn special_values() {
        let grid = LogGrid::new(0.5, 2, 16, LogForm::RepQ);
        let mut x = [0.0, -1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-40];
        grid.apply_serial(&mut x);
        assert_eq!((x[0], x[1], x[3], x[4], x[5]), (0.0, 0.0, 0.5, 0.0, 0.0));
        assert!(x[2].is_nan());
    }

    #[test]
    fn same_bits_everywhere() {
        let x: Vec<f32> = super::super::testing::noise(100_003, 1).iter().map(|v| v.abs()).collect();
        super::super::testing::assert_same_everywhere(|| {
            let mut x = x.clone();
            super::super::fake_quant::logarithmic(&mut x, &LogGrid::new(0.7, 4, 16, LogForm::Power));
            x
        });
    }
}
