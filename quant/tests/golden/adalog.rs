//! AdaLog (GoatWu/AdaLog): the grid given `q` and scale, and its log2 and log-√2.

use crate::ledger::{Section, Tolerance};
use crate::logs::{given, quantized};
use bitloupe_quant::quantizer::{Family, quantizer};
use bitloupe_quant::terms::{Bits, Layout};

/// Outputs of f32 powers.
const CLOSE: Tolerance = Tolerance::Relative(1e-6);

pub fn check(golden: &mut Section) {
    let p = golden.tensor("p").values;
    for bits in [3, 4, 6, 8] {
        for q in [12, 25, 37, 60] {
            let params = given(Family::Adalog, bits, 1.0, &[("q", q as f32), ("shift", 0.0)]);
            golden.compare(&format!("adalog.b{bits}.q{q}"), &quantized(&p, &params), CLOSE);
            // The levels are products of the two tables, where those are normal numbers.
            let shifts = golden.tensor(&format!("adalog.b{bits}.q{q}.table1")).values;
            let fractions = golden.tensor(&format!("adalog.b{bits}.q{q}.table2")).values;
            let product = |(shift, fraction): (&f32, &f32)| fraction * (-shift).exp2();
            let normal = |x: f32| if x < f32::MIN_POSITIVE { 0.0 } else { x };
            let expected: Vec<f32> = shifts.iter().zip(&fractions).map(product).map(normal).collect();
            let codes: Vec<u32> = (0..Bits::new(bits).unwrap().levels().unwrap()).collect();
            let found = quantizer(Family::Adalog).dequantize(&codes, Layout::tensor(codes.len()), &params);
            golden.compare_with(&format!("adalog.b{bits}.q{q}.table1 · table2"), &found, &expected, CLOSE);
        }
        for (name, family) in [("log2", Family::Log2), ("logsqrt2", Family::LogSqrt2)] {
            let params = given(family, bits, 1.0, &[]);
            golden.compare(&format!("{name}.b{bits}"), &quantized(&p, &params), CLOSE);
        }
    }
    let gelu = golden.tensor("gelu").values;
    for bits in [3, 4] {
        let scale = golden.number(&format!("shift_adalog.b{bits}.scale"));
        let shift = 0.169_971_24;
        let params = given(Family::Adalog, bits, scale, &[("q", 20.0), ("shift", shift)]);
        golden.compare(
            &format!("shift_adalog.b{bits}.q20"),
            &quantized(&gelu, &params),
            Tolerance::Relative(1e-5),
        );
    }
}
