//! FQ-ViT (megvii-research/FQ-ViT): Log-Int-Softmax.

use crate::ledger::{Section, Tolerance};
use crate::logs::{given, quantized};
use bitloupe_quant::quantizer::{Family, integer_softmax, quantizer};
use bitloupe_quant::terms::{Bits, Layout};

pub fn check(golden: &mut Section) {
    let x = golden.tensor("lis.x");
    let scale = golden.number("lis.scale");
    let row = *x.shape.last().unwrap();
    let logits: Vec<i32> = x.values.iter().map(|x| (x / scale).floor() as i32).collect();
    let softmax = integer_softmax(&logits, row, f64::from(scale), Bits::new(4).unwrap()).unwrap();
    let floats = |values: &[i128]| values.iter().map(|&x| x as f32).collect::<Vec<_>>();
    golden.compare("lis.exp_int", &floats(&softmax.exponentials), Tolerance::Exact);
    // The original adds in f32.
    golden.compare("lis.exp_sum", &floats(&softmax.sums), Tolerance::Relative(1e-6));
    let params = given(Family::LogIntSoftmax, 4, 1.0, &[]);
    let layout = Layout::tensor(logits.len());
    let integers = quantizer(Family::LogIntSoftmax).dequantize(&softmax.codes, layout, &params);
    golden.compare("lis.out_uint4", &integers, Tolerance::Exact);
    // The quantizer of probabilities does the same.
    let sums = softmax.sums.iter().flat_map(|&sum| std::iter::repeat_n(sum, row));
    let probabilities: Vec<f32> =
        softmax.exponentials.iter().zip(sums).map(|(&one, sum)| (one as f64 / sum as f64) as f32).collect();
    golden.compare("lis.out_uint4", &quantized(&probabilities, &params), Tolerance::Exact);
}
