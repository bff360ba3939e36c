//! RepQ-ViT (zkkli/RepQ-ViT): percentile uniform and log-√2 quantizers.

use crate::ledger::{Section, Tolerance};
use bitloupe_quant::quantizer::{Distribution, Family, RangeSearch, Scheme, quantizer};
use bitloupe_quant::terms::{Bits, Layout};

pub fn check(golden: &mut Section) {
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
    for (name, input, scheme, axis) in cases {
        let input = golden.tensor(input);
        let layout =
            axis.map_or(Layout::tensor(input.values.len()), |axis| Layout::axis(&input.shape, axis).unwrap());
        for bits in [4, 6, 8] {
            let quantizer = quantizer(scheme.family);
            let data = Distribution::Raw { values: &input.values, layout };
            let params = quantizer.fit(&data, &scheme, Bits::new(bits).unwrap()).unwrap();
            let mut out = input.values.clone();
            quantizer.fake_quantize(&mut out, layout, &params);
            golden.compare(&format!("b{bits}.{name}.delta"), &params.scale, Tolerance::Exact);
            golden.compare(&format!("b{bits}.{name}.out"), &out, Tolerance::Exact);
            if scheme.family == Family::Uniform {
                golden.compare(&format!("b{bits}.{name}.zp"), &params.zero_point, Tolerance::Exact);
            }
        }
    }
}
