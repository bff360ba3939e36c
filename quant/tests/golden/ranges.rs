//! Range searches of the uniform family: PTQ4SAM, PTQ4RIS, BRECQ, FQ-ViT, SmoothQuant.

use crate::ledger::{Golden, Section, Tolerance};
use bitloupe_quant::quantizer::{Batch, Distribution, Family, Params, RangeSearch, Scheme, quantizer};
use bitloupe_quant::stats::{Density, Sketch, channel_signs};
use bitloupe_quant::terms::{Bits, Layout};

const SEARCHED: Tolerance = Tolerance::Relative(1e-5);
/// Of the bounded minimiser: f32 losses move it.
const MINIMISED: Tolerance = Tolerance::Relative(1e-3);

/// Scale, zero point and output of one quantizer by their names in the file.
struct Names {
    scale: String,
    zero_point: String,
    minimum: String,
    out: Option<String>,
}

impl Names {
    /// `<what>.<scale>`, `<what>.zp`, `<what>.out`.
    fn of(what: &str, scale: &str) -> Self {
        Self { out: Some(format!("{what}.out")), ..Self::without_out(what, scale) }
    }

    fn without_out(what: &str, scale: &str) -> Self {
        Self {
            scale: format!("{what}.{scale}"),
            zero_point: format!("{what}.zp"),
            minimum: format!("{what}.min"),
            out: None,
        }
    }
}

/// Outputs may differ by a step at ties, in up to 1e-4 of the values.
fn ties(share: f64, params: &Params) -> Tolerance {
    let step = params.scale.iter().copied().fold(0.0, f32::max);
    Tolerance::Ties { share, flips: 1e-4, step: f64::from(step) }
}

fn mse() -> Scheme {
    Scheme::new(Family::Uniform, RangeSearch::Mse { p: 2.4 })
}

fn bits_of(bits: u8) -> Bits {
    Bits::new(bits).unwrap()
}

fn layout(tensor: &Golden, axis: Option<isize>) -> Layout {
    axis.map_or(Layout::tensor(tensor.values.len()), |axis| Layout::axis(&tensor.shape, axis).unwrap())
}

/// Fits on the tensors as batches; compares parameters, and the first tensor quantized.
fn compare(
    golden: &mut Section,
    names: &Names,
    tensors: &[&Golden],
    axis: Option<isize>,
    scheme: &Scheme,
    bits: u8,
    tolerance: Tolerance,
) {
    let batches: Vec<Batch<'_>> =
        tensors.iter().map(|tensor| Batch::new(&tensor.values, layout(tensor, axis))).collect();
    let family = quantizer(scheme.family);
    let mut params = family.fit(&Distribution::Batches(&batches), scheme, bits_of(bits)).unwrap();
    golden.compare(&names.scale, &params.scale, tolerance);
    if matches!(scheme.range, RangeSearch::Bounded { .. }) {
        // A scale that is a little off moves zero points that are nearly half-way; outputs are those of the
        // parameters in the file.
        let off = params.zero_point[0] - golden.number(&names.zero_point);
        let half_way = off != 0.0
            && golden.tensor(&names.minimum).values.first().is_some_and(|min| {
                let place = -min / golden.number(&names.scale);
                (place.fract() - 0.5).abs() <= 1e-3 * place
            });
        if off != 0.0 && (off.abs() != 1.0 || !half_way) {
            golden.fail(format!("{}: {}", names.zero_point, params.zero_point[0]));
        }
        params.scale = golden.tensor(&names.scale).values;
        params.zero_point = golden.tensor(&names.zero_point).values;
    } else {
        golden.compare(&names.zero_point, &params.zero_point, Tolerance::Exact);
    }
    if let Some(name) = &names.out {
        let mut out = tensors[0].values.clone();
        family.fake_quantize(&mut out, batches[0].layout, &params);
        golden.compare(name, &out, ties(1e-5, &params));
    }
}

/// `x · wᵀ + b` over the last dimension.
fn linear(x: &Golden, weight: &Golden, bias: &Golden) -> Golden {
    let (inner, out) = (weight.shape[1], weight.shape[0]);
    let row = |row: &[f32]| {
        (0..out)
            .map(|o| {
                let weight = &weight.values[o * inner..(o + 1) * inner];
                let dot: f64 = row.iter().zip(weight).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                (dot + f64::from(bias.values[o])) as f32
            })
            .collect::<Vec<f32>>()
    };
    let values = x.values.chunks_exact(inner).flat_map(row).collect();
    let mut shape = x.shape.clone();
    *shape.last_mut().unwrap() = out;
    Golden { values, shape }
}

/// PTQ4SAM: min–max averaged over calls, MSE-2.4 of weights, the bounded minimiser of keys.
pub fn ptq4sam(golden: &mut Section) {
    let average = Scheme::new(Family::Uniform, RangeSearch::AverageMinMax);
    let bounded = Scheme::new(Family::Uniform, RangeSearch::Bounded { p: 2.4 }).paper();
    let part = |golden: &Section, tensor: &str, folded: bool| {
        let folded = if folded { "big" } else { "fp" };
        golden.tensor(&format!("attn.{folded}.{tensor}"))
    };
    for bits in [4, 6, 8] {
        for name in ["gelu", "ln"] {
            let samples = [0, 1].map(|i| golden.tensor(&format!("in.{name}{i}")));
            let names = Names::of(&format!("b{bits}.{name}"), "scale");
            compare(golden, &names, &[&samples[0], &samples[1]], None, &average, bits, SEARCHED);
        }
        for name in ["w", "wpos"] {
            let weight = golden.tensor(&format!("in.{name}"));
            let names = Names::of(&format!("b{bits}.{name}"), "scale");
            compare(golden, &names, &[&weight], Some(0), &mse().per_channel(), bits, SEARCHED);
        }
        for name in ["bimodal", "unimodal"] {
            let mut keys = golden.tensor(&format!("in.{name}"));
            if name == "bimodal" {
                let sign = golden.tensor("big.bimodal.sign").values;
                let row = |row: &mut [f32]| row.iter_mut().zip(&sign).for_each(|(x, sign)| *x *= sign);
                keys.values.chunks_exact_mut(sign.len()).for_each(row);
            }
            let names = Names::of(&format!("b{bits}.big.{name}"), "scale");
            compare(golden, &names, &[&keys], None, &bounded, bits, MINIMISED);
        }
        // The attention block after folding, calibrated in full precision on two samples.
        let (queries, keys) = (
            [0, 1].map(|i| golden.tensor(&format!("in.attn.q{i}"))),
            [0, 1].map(|i| golden.tensor(&format!("in.attn.kv{i}"))),
        );
        for (name, inputs, folded, search) in [
            ("q", &queries, true, &average),
            ("k", &keys, true, &bounded),
            ("v", &keys, false, &average),
            ("out", &queries, false, &average),
        ] {
            let weight = part(golden, &format!("{name}_proj.weight"), folded);
            let names =
                Names::without_out(&format!("b{bits}.attn.{name}_proj.module.weight_fake_quant"), "scale");
            compare(golden, &names, &[&weight], Some(0), &mse().per_channel(), bits, SEARCHED);
            if name == "out" {
                continue;
            }
            let names =
                Names::without_out(&format!("b{bits}.attn.{name}_proj.layer_pre_act_fake_quantize"), "scale");
            compare(golden, &names, &[&inputs[0], &inputs[1]], None, &average, bits, SEARCHED);
            let bias = part(golden, &format!("{name}_proj.bias"), folded);
            let outputs = inputs.each_ref().map(|x| linear(x, &weight, &bias));
            let names = Names::without_out(&format!("b{bits}.attn.{name}_post_act_fake_quantize"), "scale");
            let tolerance = if name == "k" { MINIMISED } else { SEARCHED };
            compare(golden, &names, &[&outputs[0], &outputs[1]], None, search, bits, tolerance);
        }
    }
}

/// PTQ4SAM's bimodal detector and the signs that fold keys.
pub fn bimodal(golden: &mut Section) {
    for (name, expected) in [("bimodal", 1.0), ("unimodal", 0.0)] {
        let keys = golden.tensor(&format!("in.{name}"));
        let density = Density::of_values(&keys.values);
        let step = (density.hi - density.lo) / 127.0;
        let heights: Vec<f32> = density.heights.iter().map(|x| *x as f32).collect();
        let grid: Vec<f32> = (0..128).map(|i| (density.lo + step * f64::from(i)) as f32).collect();
        let peaks = density.peaks();
        let mut at: Vec<f32> = peaks.at.iter().map(|x| ((x - density.lo) / step).round() as f32).collect();
        at.sort_unstable_by(f32::total_cmp);
        golden.compare(&format!("big.{name}.kde"), &heights, Tolerance::Relative(1e-6));
        golden.compare(&format!("big.{name}.kde_grid"), &grid, Tolerance::Relative(1e-6));
        golden.compare(&format!("big.{name}.peaks"), &at, Tolerance::Exact);
        golden.compare(&format!("big.{name}.is_bimodal"), &[f32::from(peaks.bimodal())], Tolerance::Exact);
        assert_eq!(golden.number(&format!("big.{name}.is_bimodal")), expected);
        let layout = layout(&keys, Some(-1));
        let mut sketch = Sketch::new(layout.channels);
        sketch.observe(&keys.values, layout).unwrap();
        let sketched = Density::new(&sketch).peaks();
        let found = [f32::from(sketched.bimodal())];
        golden.compare(&format!("big.{name}.is_bimodal"), &found, Tolerance::Exact);
        if peaks.bimodal() {
            let signs = channel_signs(&keys.values, layout, true).unwrap();
            golden.compare(&format!("big.{name}.sign"), &signs, Tolerance::Exact);
            golden.compare(&format!("big.{name}.sign"), &sketch.channel_signs(true), Tolerance::Exact);
        }
    }
    let part = |golden: &Section, name: &str| golden.tensor(&format!("attn.fp.k_proj.{name}"));
    let keys = linear(&golden.tensor("in.attn.kv0"), &part(golden, "weight"), &part(golden, "bias"));
    let signs = channel_signs(&keys.values, layout(&keys, Some(-1)), true).unwrap();
    golden.compare("attn.big.sign", &signs, Tolerance::Exact);
    let found = Density::of_values(&keys.values).peaks().bimodal();
    golden.compare("attn.big.detected", &[f32::from(found)], Tolerance::Exact);
}

/// PTQ4RIS: text weights and operands, decoder weights and activations.
pub fn ptq4ris(golden: &mut Section) {
    for bits in [4, 6, 8] {
        for (name, input) in [("text_w", "in.text_w"), ("dec.w", "in.dec.w")] {
            let weight = golden.tensor(input);
            let names = Names::of(&format!("b{bits}.{name}"), "delta");
            compare(golden, &names, &[&weight], Some(0), &mse().per_channel(), bits, SEARCHED);
        }
        let operand = golden.tensor("in.text_q");
        let percentile = Scheme::new(Family::Uniform, RangeSearch::repq());
        let names = Names::of(&format!("b{bits}.text_q"), "delta");
        compare(golden, &names, &[&operand], None, &percentile, bits, SEARCHED);

        let batches = [0, 1].map(|i| golden.tensor(&format!("in.dec.a{i}")));
        let moving = RangeSearch::Ema { momentum: 0.1, p: Some(2.4) };
        let moving = Scheme::new(Family::Uniform, moving).per_channel();
        let names = Names::of(&format!("b{bits}.dec.a"), "delta");
        compare(golden, &names, &[&batches[0], &batches[1]], Some(1), &moving, bits, SEARCHED);
        let first = Names { scale: format!("b{bits}.dec.a.delta_batch0"), out: None, ..names };
        compare(golden, &first, &[&batches[0]], Some(1), &moving, bits, SEARCHED);
    }
}

/// BRECQ: 80 steps of shrinking.
pub fn brecq(golden: &mut Section) {
    let weight = golden.tensor("w");
    for bits in [2, 3, 4, 8] {
        let scheme = Scheme::new(Family::Uniform, RangeSearch::Shrink).per_channel();
        let what = format!("mse_b{bits}");
        let names = Names { out: Some(format!("{what}.fq")), ..Names::without_out(&what, "delta") };
        compare(golden, &names, &[&weight], Some(0), &scheme, bits, SEARCHED);
    }
}

/// FQ-ViT: 90 steps of shrinking.
pub fn omse(golden: &mut Section) {
    let input = golden.tensor("ptf.x");
    let names = Names {
        scale: "omse.scale".to_owned(),
        zero_point: "omse.zero_point".to_owned(),
        minimum: String::new(),
        out: None,
    };
    let scheme = Scheme::new(Family::Uniform, RangeSearch::Omse);
    for scheme in [scheme.clone(), scheme.paper()] {
        compare(golden, &names, &[&input], None, &scheme, 8, SEARCHED);
    }
}

/// SmoothQuant: symmetric absolute maxima of rows, tokens and tensors.
pub fn smoothquant(golden: &mut Section) {
    let scheme = Scheme::new(Family::Uniform, RangeSearch::MinMax).symmetric();
    let check = |golden: &mut Section, input: &Golden, axis: Option<isize>, name: &str| {
        let scheme = if axis.is_some() { scheme.clone().per_channel() } else { scheme.clone() };
        let layout = layout(input, axis);
        let data = Distribution::Raw { values: &input.values, layout };
        let params = quantizer(scheme.family).fit(&data, &scheme, bits_of(8)).unwrap();
        let mut out = input.values.clone();
        quantizer(scheme.family).fake_quantize(&mut out, layout, &params);
        golden.compare(name, &out, ties(1e-5, &params));
    };
    let x = golden.tensor("in.x");
    for alpha in ["a50", "a75"] {
        for weight in ["w0", "w1", "w2"] {
            let name = format!("{alpha}.{weight}");
            let weight = golden.tensor(&name);
            check(golden, &weight, Some(0), &format!("{name}.q8row"));
        }
        let (gamma, beta) =
            (golden.tensor(&format!("{alpha}.ln_w")), golden.tensor(&format!("{alpha}.ln_b")));
        let smoothed = normalised(&x, &gamma.values, &beta.values);
        check(golden, &smoothed, Some(1), &format!("{alpha}.h.q8per_token"));
        check(golden, &smoothed, None, &format!("{alpha}.h.q8per_tensor"));
    }
}

/// LayerNorm over the last dimension, epsilon 1e-5.
fn normalised(x: &Golden, gamma: &[f32], beta: &[f32]) -> Golden {
    let row = |row: &[f32]| {
        let n = row.len() as f64;
        let mean = row.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
        let variance = row.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / n;
        let scaled = |(i, x): (usize, &f32)| {
            let unit = (f64::from(*x) - mean) / (variance + 1e-5).sqrt();
            (unit * f64::from(gamma[i]) + f64::from(beta[i])) as f32
        };
        row.iter().enumerate().map(scaled).collect::<Vec<f32>>()
    };
    let values = x.values.chunks_exact(gamma.len()).flat_map(row).collect();
    Golden { values, shape: x.shape.clone() }
}
