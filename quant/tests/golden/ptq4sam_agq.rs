//! PTQ4SAM (chengtao-lv/PTQ4SAM): adaptive granularity quantization of post-softmax values.

use crate::ledger::{Golden, Section, Tolerance};
use crate::logs::{batches, calls, given, nearest_with_noise, quantized};
use bitloupe_quant::quantizer::{Distribution, Family, Scheme, agq_candidates, quantizer};
use bitloupe_quant::terms::Bits;

/// Of a bounded minimum of a noisy f32 function.
const SCALE: Tolerance = Tolerance::Relative(1e-3);
const ERROR: Tolerance = Tolerance::Relative(1e-4);
const OUT: Tolerance = Tolerance::Relative(1e-5);

pub fn check(golden: &mut Section) {
    for bits in [4, 6, 8] {
        for (name, value) in [("softmax", "v"), ("softmax_i2t", "v_i2t")] {
            let calls = calls(golden, &format!("in.{name}"), &format!("in.{value}"));
            fits(golden, &format!("b{bits}.agq.{name}"), &calls, bits);
            let scale = golden.number(&format!("b{bits}.agq.{name}.scale"));
            let tau = golden.number(&format!("b{bits}.agq.{name}.tau"));
            let out = quantized(&calls[0].0.values, &given(Family::Agq, bits, scale, &[("tau", tau)]));
            golden.compare(&format!("b{bits}.agq.{name}.out"), &out, OUT);
            for tau in [1, 2, 4] {
                let params = given(Family::Agq, bits, 0.9, &[("tau", tau as f32)]);
                let out = quantized(&calls[0].0.values, &params);
                golden.compare(&format!("b{bits}.logq.{name}.tau{tau}.out"), &out, OUT);
            }
        }
        // The cross-attention from tokens to image, before anything in it is quantized.
        let calls: Vec<(Golden, Golden)> = (0..2).map(|call| attention(golden, call)).collect();
        let name = format!("b{bits}.attn.softmax_post_act_fake_quantize");
        let expected = golden.number(&format!("{name}.scale"));
        let (scheme, width) = (usual(), Bits::new(bits).unwrap());
        let fit = |calls: &[(Golden, Golden)]| {
            let data = batches(calls);
            quantizer(Family::Agq).fit(&Distribution::Batches(&data), &scheme, width).unwrap()
        };
        let found = nearest_with_noise(&calls, &[expected], 1e-3, 0.0, |calls| fit(calls).scale);
        golden.compare(&format!("{name}.scale"), &found, SCALE);
        golden.compare(&format!("{name}.tau"), fit(&calls).numbers("tau"), Tolerance::Exact);
    }
}

fn usual() -> Scheme {
    Scheme::new(Family::Agq, Family::Agq.usual_range())
}

fn fits(golden: &mut Section, name: &str, calls: &[(Golden, Golden)], bits: u8) {
    let (scheme, bits) = (usual(), Bits::new(bits).unwrap());
    let candidates = |calls: &[(Golden, Golden)]| {
        agq_candidates(&Distribution::Batches(&batches(calls)), &scheme, bits).unwrap()
    };
    let scales: Vec<f32> = candidates(calls).iter().map(|candidate| candidate.scale).collect();
    golden.compare(&format!("{name}.tau_scales"), &scales, SCALE);
    let expected = golden.tensor(&format!("{name}.tau_errors")).values;
    let errors = nearest_with_noise(calls, &expected, 1e-4, 0.0, |calls| {
        candidates(calls).iter().map(|candidate| candidate.error as f32).collect()
    });
    golden.compare(&format!("{name}.tau_errors"), &errors, ERROR);
    let batches = batches(calls);
    let params = quantizer(Family::Agq).fit(&Distribution::Batches(&batches), &scheme, bits).unwrap();
    golden.compare(&format!("{name}.scale"), &params.scale, SCALE);
    golden.compare(&format!("{name}.tau"), params.numbers("tau"), Tolerance::Exact);
}

/// Heads of the attention block of the golden file.
const HEADS: usize = 4;

/// The softmax of one call in full precision, `[heads, tokens, keys]`, and the values `[heads, keys, width]`.
fn attention(golden: &Section, call: usize) -> (Golden, Golden) {
    let (q, kv) = (golden.tensor(&format!("in.attn.q{call}")), golden.tensor(&format!("in.attn.kv{call}")));
    let project = |x: &Golden, name: &str| {
        let weight = golden.tensor(&format!("attn.fp.{name}.weight"));
        let bias = golden.tensor(&format!("attn.fp.{name}.bias")).values;
        let inner = weight.shape[1];
        let dot = |row: &[f32], out: usize| {
            let products =
                row.iter().zip(&weight.values[out * inner..]).map(|(a, b)| f64::from(*a) * f64::from(*b));
            products.sum::<f64>() + f64::from(bias[out])
        };
        let rows = x.values.chunks(inner).map(|row| (0..bias.len()).map(|out| dot(row, out)).collect());
        rows.collect::<Vec<Vec<f64>>>()
    };
    let (q, k, v) = (project(&q, "q_proj"), project(&kv, "k_proj"), project(&kv, "v_proj"));
    let width = q[0].len() / HEADS;
    let (mut softmax, mut values) = (Vec::new(), Vec::new());
    for head in 0..HEADS {
        let own = head * width..(head + 1) * width;
        for q in &q {
            let dot = |k: &Vec<f64>| own.clone().map(|i| q[i] * k[i]).sum::<f64>() / (width as f64).sqrt();
            let logits: Vec<f64> = k.iter().map(dot).collect();
            let most = logits.iter().copied().fold(f64::MIN, f64::max);
            let sum: f64 = logits.iter().map(|x| (x - most).exp()).sum();
            softmax.extend(logits.iter().map(|x| ((x - most).exp() / sum) as f32));
        }
        values.extend(v.iter().flat_map(|v| &v[own.clone()]).map(|&x| x as f32));
    }
    (
        Golden { values: softmax, shape: vec![HEADS, q.len(), k.len()] },
        Golden { values, shape: vec![HEADS, v.len(), width] },
    )
}
