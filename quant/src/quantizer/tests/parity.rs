//! Bit for bit the results of RepQ-ViT's released code.

use crate::quantizer::{Distribution, Family, RangeSearch, Scheme, quantizer};
use crate::terms::{Bits, Layout};
use safetensors::SafeTensors;

/// Inputs, then per width `delta`, `zp` and `out` of the original on PyTorch 2.15, CPU.
fn golden() -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/repq.safetensors");
    std::fs::read(path).unwrap()
}

fn tensor(file: &SafeTensors<'_>, name: &str) -> (Vec<f32>, Vec<usize>) {
    let tensor = file.tensor(name).unwrap();
    let values = tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    (values, tensor.shape().to_vec())
}

/// Equal as numbers: −0 and +0 are the same level.
fn compare(what: &str, found: &[f32], expected: &[f32], wrong: &mut Vec<String>) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let differing: Vec<usize> = (0..found.len()).filter(|&at| found[at] != expected[at]).collect();
    if let Some(&at) = differing.first() {
        let count = differing.len();
        wrong.push(format!(
            "{what}: {count} of {} differ, first {at}: {} != {}",
            found.len(),
            found[at],
            expected[at]
        ));
    }
}

#[test]
fn percentile_uniform_and_log_sqrt2_are_repq_vit_to_the_bit() {
    let bytes = golden();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let uniform = || Scheme::new(Family::Uniform, RangeSearch::repq());
    let cases = [
        ("gelu", "in.gelu", uniform(), None),
        ("k", "in.k", uniform(), None),
        ("ln_tensor", "in.ln", uniform(), None),
        ("ln_chan", "in.ln", uniform().per_channel(), Some(-1)),
        ("w_linear", "in.w_linear", uniform().per_channel(), Some(0)),
        ("w_conv", "in.w_conv", uniform().per_channel(), Some(0)),
        ("softmax", "in.softmax", Scheme::new(Family::LogSqrt2, RangeSearch::repq()), None),
    ];
    let mut wrong = Vec::new();
    let mut compared = 0;
    for (name, input, scheme, axis) in cases {
        let (values, shape) = tensor(&file, input);
        let layout = axis.map_or(Layout::tensor(values.len()), |axis| Layout::axis(&shape, axis).unwrap());
        for bits in [4, 6, 8] {
            let quantizer = quantizer(scheme.family);
            let data = Distribution::Raw { values: &values, layout };
            let params = quantizer.fit(&data, &scheme, Bits::new(bits).unwrap()).unwrap();
            let mut out = values.clone();
            quantizer.fake_quantize(&mut out, layout, &params);
            let name = |what: &str| format!("b{bits}.{name}.{what}");
            let mut check = |what: &str, found: &[f32]| {
                compare(&name(what), found, &tensor(&file, &name(what)).0, &mut wrong);
                compared += 1;
            };
            check("delta", &params.scale);
            check("out", &out);
            if scheme.family == Family::Uniform {
                check("zp", &params.zero_point);
            }
        }
    }
    assert_eq!(compared, 6 * 3 * 3 + 3 * 2);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
