//! Output-aware searches: PTQ4ViT, PTQ4RIS's visual encoder, SAQ-SAM.

use crate::ledger::{Golden, Section, Tolerance};
use bitloupe_quant::quantizer::output::{
    AttentionScales, Heads, InputGrid, Layer, OVERLAP_PERCENTILES, SignedCodes, attention_map,
    fake_quantize_signed, fake_quantize_twin_gelu, fake_quantize_twin_softmax, least_overlap_loss,
    search_attention, search_linear, search_matmul, unfold,
};
use bitloupe_quant::terms::Bits;

const SEARCHED: Tolerance = Tolerance::Relative(1e-5);

fn bits_of(bits: u8) -> Bits {
    Bits::new(bits).unwrap()
}

/// Outputs are sums in f32: off by 1e-5 of the largest.
fn compare_output(golden: &mut Section, name: &str, found: &[f32]) {
    let largest = golden.tensor(name).values.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    let tolerance = Tolerance::Ties { share: 1e-5, flips: 1.0, step: 1e-5 * f64::from(largest) };
    golden.compare(name, found, tolerance);
}

/// `x · wᵀ + b` over rows.
fn linear(x: &[f32], weight: &[f32], bias: &[f32], inner: usize) -> Vec<f32> {
    let dot = |row: &[f32], weight: &[f32], bias: f32| {
        let sum: f64 = row.iter().zip(weight).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        (sum + f64::from(bias)) as f32
    };
    let row = |row: &[f32]| {
        weight.chunks_exact(inner).zip(bias).map(|(w, b)| dot(row, w, *b)).collect::<Vec<f32>>()
    };
    x.chunks_exact(inner).flat_map(row).collect()
}

/// `[n, rows, columns]` with the last two exchanged.
fn exchanged(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let piece = |piece: &[f32]| {
        (0..columns)
            .flat_map(|c| (0..rows).map(move |r| (r, c)))
            .map(|(r, c)| piece[r * columns + c])
            .collect::<Vec<f32>>()
    };
    values.chunks_exact(rows * columns).flat_map(piece).collect()
}

fn quantized_rows(weight: &[f32], scales: &[f32], bits: Bits) -> Vec<f32> {
    let mut weight = weight.to_vec();
    let part = weight.len() / scales.len();
    weight
        .chunks_exact_mut(part)
        .zip(scales)
        .for_each(|(part, scale)| fake_quantize_signed(part, *scale, bits));
    weight
}

/// Names of one linear layer's tensors.
struct LinearNames {
    input: String,
    weight: String,
    bias: String,
    gradient: String,
    found: String,
    input_quantized: Option<String>,
    out: String,
}

fn check_linear(golden: &mut Section, names: &LinearNames, parts: usize, grid: InputGrid, bits: Bits) {
    let (x, weight) = (golden.tensor(&names.input), golden.tensor(&names.weight));
    let (bias, gradient) = (golden.tensor(&names.bias), golden.tensor(&names.gradient));
    let inner = weight.shape[1];
    let (reach, codes) = (None, SignedCodes::All);
    let layer =
        Layer { input: &x.values, weight: &weight.values, gradient: &gradient.values, inner, reach, codes };
    let scales = search_linear(&layer, parts, grid, bits, bits).unwrap();
    golden.compare(&format!("{}.w_interval", names.found), &scales.weight, SEARCHED);
    golden.compare(&format!("{}.a_interval", names.found), &[scales.input], SEARCHED);
    let mut input = x.values.clone();
    if let Some(negative) = scales.input_negative {
        golden.compare(&format!("{}.a_neg_interval", names.found), &[negative], SEARCHED);
        fake_quantize_twin_gelu(&mut input, scales.input, bits);
    } else {
        fake_quantize_signed(&mut input, scales.input, bits);
    }
    if let Some(name) = &names.input_quantized {
        let step = f64::from(scales.input);
        golden.compare(name, &input, Tolerance::Ties { share: 1e-5, flips: 1e-4, step });
    }
    let weight = quantized_rows(&weight.values, &scales.weight, bits);
    compare_output(golden, &names.out, &linear(&input, &weight, &bias.values, inner));
}

/// The tensors of one product, and where its results are.
struct Products {
    lhs: Golden,
    rhs: Golden,
    gradient: Golden,
    found: String,
    /// Names of the quantized operands and of the product.
    quantized: Option<[String; 2]>,
    out: String,
}

impl Products {
    fn heads(&self) -> Heads<'_> {
        let [_, heads, rows, inner] = self.lhs.shape[..] else { panic!("four dimensions") };
        let columns = self.rhs.shape[3];
        let (lhs, rhs, gradient) = (&self.lhs.values, &self.rhs.values, &self.gradient.values);
        Heads { lhs, rhs, gradient, heads, rows, inner, columns, reach: None, codes: SignedCodes::All }
    }

    fn check(&self, golden: &mut Section, attention: bool, bits: Bits) {
        let shape = self.heads();
        let (mut lhs, mut rhs) = (self.lhs.values.clone(), self.rhs.values.clone());
        let by_head = |values: &mut [f32], size: usize, scales: &[f32]| {
            for (at, piece) in values.chunks_exact_mut(size).enumerate() {
                fake_quantize_signed(piece, scales[at % shape.heads], bits);
            }
        };
        let found = &self.found;
        let (left_step, right);
        if attention {
            let AttentionScales { boundary, rhs } = search_attention(&shape, bits, bits, true).unwrap();
            golden.compare(&format!("{found}.split"), &[boundary], Tolerance::Exact);
            fake_quantize_twin_softmax(&mut lhs, boundary, bits, true);
            (left_step, right) = (boundary, rhs);
        } else {
            let (left, scales) = search_matmul(&shape, bits, bits).unwrap();
            golden.compare(&format!("{found}.A_interval"), &left, SEARCHED);
            by_head(&mut lhs, shape.rows * shape.inner, &left);
            (left_step, right) = (left.into_iter().fold(0.0, f32::max), scales);
        }
        golden.compare(&format!("{found}.B_interval"), &right, SEARCHED);
        by_head(&mut rhs, shape.inner * shape.columns, &right);
        if let Some([left_name, right_name]) = &self.quantized {
            let right_step = right.iter().copied().fold(0.0, f32::max);
            for (name, values, step) in [(left_name, &lhs, left_step), (right_name, &rhs, right_step)] {
                let tolerance = Tolerance::Ties { share: 1e-5, flips: 1e-4, step: f64::from(step) };
                golden.compare(name, values, tolerance);
            }
        }
        let zeros = vec![0.0; shape.columns];
        let rhs = exchanged(&rhs, shape.inner, shape.columns);
        let pieces =
            lhs.chunks_exact(shape.rows * shape.inner).zip(rhs.chunks_exact(shape.inner * shape.columns));
        let product: Vec<f32> = pieces.flat_map(|(a, b)| linear(a, b, &zeros, shape.inner)).collect();
        compare_output(golden, &self.out, &product);
    }
}

/// A patch embedding: the image as it is, a scale per filter.
fn check_convolution(
    golden: &mut Section,
    prefix: &str,
    gradient: &str,
    found: &str,
    out: Option<&str>,
    bits: Bits,
) {
    let [x, weight, bias, gradient] = if gradient == "g" {
        ["x", "w", "b", "g"].map(|part| golden.tensor(&format!("{prefix}.{part}")))
    } else {
        ["x", "weight", "bias", gradient].map(|part| golden.tensor(&format!("{prefix}.{part}")))
    };
    let kernel = weight.shape[2];
    let inner = weight.shape[1] * kernel * kernel;
    let rows = unfold(&x.values, [x.shape[1], x.shape[2], x.shape[3]], kernel, kernel).unwrap();
    let (filters, places) = (gradient.shape[1], gradient.shape[2] * gradient.shape[3]);
    let by_row = exchanged(&gradient.values, filters, places);
    let (reach, codes) = (None, SignedCodes::All);
    let layer = Layer { input: &rows, weight: &weight.values, gradient: &by_row, inner, reach, codes };
    let scales = search_linear(&layer, filters, InputGrid::Float, bits, bits).unwrap();
    golden.compare(&format!("{found}.w_interval"), &scales.weight, SEARCHED);
    if let Some(out) = out {
        let weight = quantized_rows(&weight.values, &scales.weight, bits);
        let product = linear(&rows, &weight, &bias.values, inner);
        compare_output(golden, out, &exchanged(&product, places, filters));
    }
}

/// PTQ4ViT itself.
pub fn ptq4vit(golden: &mut Section) {
    for width in [8, 6] {
        let bits = bits_of(width);
        for (layer, parts, grid) in [("qkv", 3, InputGrid::Signed), ("fc2", 1, InputGrid::TwinGelu)] {
            let found = format!("{layer}.b{width}");
            let name = |part: &str| format!("{found}.{part}");
            let names = LinearNames {
                input: name("x"),
                weight: name("weight"),
                bias: name("bias"),
                gradient: name("raw_grad"),
                input_quantized: None,
                out: name("quant_out"),
                found: found.clone(),
            };
            check_linear(golden, &names, parts, grid, bits);
        }
        for (layer, attention) in [("qk", false), ("sv", true)] {
            let found = format!("{layer}.b{width}");
            let name = |part: &str| format!("{found}.{part}");
            let products = Products {
                lhs: golden.tensor(&name("A")),
                rhs: golden.tensor(&name("B")),
                gradient: golden.tensor(&name("raw_grad")),
                quantized: None,
                out: name("quant_out"),
                found: found.clone(),
            };
            products.check(golden, attention, bits);
        }
    }
    check_convolution(golden, "conv", "raw_grad", "conv", None, bits_of(8));
}

/// The same as PTQ4RIS uses it.
pub fn ptq4ris(golden: &mut Section) {
    for width in [4, 6, 8] {
        let bits = bits_of(width);
        for layer in ["qkv", "proj", "fc1", "fc2", "red"] {
            let input = |part: &str| format!("in.vis.{layer}.{part}");
            let found = format!("b{width}.vis.{layer}");
            let names = LinearNames {
                input: input("x"),
                weight: input("w"),
                bias: input("b"),
                gradient: input("g"),
                input_quantized: Some(format!("{found}.x_q")),
                out: format!("{found}.out"),
                found,
            };
            let parts = if layer == "qkv" { 3 } else { 1 };
            let grid = if layer == "fc2" { InputGrid::TwinGelu } else { InputGrid::Signed };
            check_linear(golden, &names, parts, grid, bits);
        }
        for (layer, attention) in [("qk", false), ("sv", true)] {
            let input = |part: &str| golden.tensor(&format!("in.vis.{layer}.{part}"));
            let found = format!("b{width}.vis.{layer}");
            let products = Products {
                lhs: input("A"),
                rhs: input("B"),
                gradient: input("g"),
                quantized: Some(["A_q", "B_q"].map(|part| format!("{found}.{part}"))),
                out: format!("{found}.out"),
                found,
            };
            products.check(golden, attention, bits);
        }
        let found = format!("b{width}.vis.conv");
        check_convolution(golden, "in.vis.conv", "g", &found, Some(&format!("{found}.out")), bits);
        for i in [2, 5, 8] {
            let mut probabilities = golden.tensor("in.vis.sv.A").values;
            fake_quantize_twin_softmax(&mut probabilities, 2_f32.powi(-i), bits, true);
            let name = format!("b{width}.drq.softmax.split2^-{i}");
            let tolerance =
                Tolerance::Ties { share: 1e-5, flips: 1e-4, step: 2_f64.powi(1 - i32::from(width)) };
            golden.compare(&name, &probabilities, tolerance);
        }
    }
}

/// SAQ-SAM: the overlap of attention maps for keys clipped at 29 percentiles.
pub fn overlap(golden: &mut Section) {
    let (q, k) = (golden.tensor("in.q"), golden.tensor("in.k"));
    let maps = q.shape[0] * q.shape[1];
    let (queries, keys, inner) = (q.shape[2], k.shape[2], q.shape[3]);
    let map = |k: &[f32]| attention_map(&q.values, k, maps, inner, 1.0 / (inner as f32).sqrt());
    let reference = map(&k.values).unwrap();
    compare_output(golden, "attn", &reference);
    for bits in [4, 6] {
        let found = least_overlap_loss(&k.values, bits_of(bits), &reference, queries, keys, map).unwrap();
        let losses: Vec<f32> = found.losses.iter().map(|loss| *loss as f32).collect();
        golden.compare(&format!("b{bits}.k.scores"), &losses, SEARCHED);
        golden.compare(&format!("b{bits}.k.best_pct"), &[found.percentile as f32], Tolerance::Exact);
        assert!(OVERLAP_PERCENTILES.contains(&found.percentile));
    }
}
