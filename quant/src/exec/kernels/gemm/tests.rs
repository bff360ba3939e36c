use super::*;
use crate::exec::kernels::activation::{self, Activation};
use crate::exec::kernels::testing::{assert_close, assert_same_everywhere, noise};
use crate::exec::kernels::{dispatch, math};
use candle_core::{Device, Tensor};
use proptest::prelude::*;

/// The definition: one accumulator, `k` in order.
fn plain(x: &[f32], w: &[f32], bias: Option<&[f32]>, m: usize, n: usize, k: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(m * n);
    for i in 0..m {
        for j in 0..n {
            let sum = (0..k).fold(0.0_f32, |acc, p| x[i * k + p].mul_add(w[j * k + p], acc));
            out.push(bias.map_or(sum, |b| sum + b[j]));
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn linear_equals_its_definition_bit_for_bit(
        m in 0..70_usize, n in 0..70_usize, k in 0..600_usize, biased: bool, threads in 1..4_usize,
    ) {
        let (x, w, b) = (noise(m * k, 1), noise(n * k, 2), noise(n, 3));
        let bias = biased.then_some(b.as_slice());
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut out = vec![f32::NAN; m * n];
        let packed = PackedWeight::pack(&w, n, k);
        pool.install(|| linear(&x, m, &packed, AQuant::None, bias, Activation::None, &mut out));
        prop_assert!(out == plain(&x, &w, bias, m, n, k));
    }
}

#[test]
fn every_instruction_set_equals_the_definition() {
    let (m, n, k) = (37, 83, 515);
    let (x, w) = (noise(m * k, 4), noise(n * k, 5));
    let expected = plain(&x, &w, None, m, n, k);
    let packed = PackedWeight::pack(&w, n, k);
    dispatch::with_each_isa(|isa| {
        let mut out = vec![0.0; m * n];
        linear(&x, m, &packed, AQuant::None, None, Activation::None, &mut out);
        assert!(out == expected, "{isa:?}");
    });
}

#[test]
fn agrees_with_candle() {
    let (m, n, k) = (197, 96, 768);
    let (x, w) = (noise(m * k, 6), noise(n * k, 7));
    let device = Device::Cpu;
    let expected = Tensor::from_slice(&x, (m, k), &device)
        .unwrap()
        .matmul(&Tensor::from_slice(&w, (n, k), &device).unwrap().t().unwrap())
        .unwrap();
    let mut out = vec![0.0; m * n];
    linear(&x, m, &PackedWeight::pack(&w, n, k), AQuant::None, None, Activation::None, &mut out);
    // Sums of 768 products of order 1: each order of summation is within about √768 ulp of 28.
    assert_close(&out, &expected.flatten_all().unwrap().to_vec1::<f32>().unwrap(), 1e-4, 1e-5);
}

#[test]
fn fake_quantization_and_activation_are_fused_exactly() {
    let (m, n, k) = (19, 45, 301);
    let (x, w, b) = (noise(m * k, 8), noise(n * k, 9), noise(n, 10));
    let scale: Vec<f32> = noise(k, 11).iter().map(|v| 0.05 + v.abs() / 10.0).collect();
    let zero: Vec<f32> = noise(k, 12).iter().map(|v| 7.3 + v).collect();
    let packed = PackedWeight::pack(&w, n, k);
    for per_k in [false, true] {
        let grid_at = |p: usize| if per_k { (scale[p], zero[p]) } else { (0.21, 7.25) };
        let quant = if per_k {
            AQuant::UniformPerK { scale: &scale, zero_point: &zero, q_max: 15.0 }
        } else {
            AQuant::Uniform { scale: 0.21, zero_point: 7.25, q_max: 15.0 }
        };
        let through = |(i, &v): (usize, &f32)| {
            let (scale, zero) = grid_at(i % k);
            math::fake_quantize(v, scale, zero, 15.0)
        };
        let rounded: Vec<f32> = x.iter().enumerate().map(through).collect();
        let mut expected = plain(&rounded, &w, Some(&b), m, n, k);
        activation::apply(Activation::Gelu, &mut expected);
        let mut out = vec![0.0; m * n];
        linear(&x, m, &packed, quant, Some(&b), Activation::Gelu, &mut out);
        assert!(out == expected, "per k: {per_k}");
    }
}

#[test]
fn same_bits_for_every_thread_count() {
    for (m, n, k) in [(301, 40, 100), (5, 1000, 260), (256, 512, 64)] {
        let (x, w) = (noise(m * k, 13), noise(n * k, 14));
        let packed = PackedWeight::pack(&w, n, k);
        assert_same_everywhere(|| {
            let mut out = vec![0.0; m * n];
            linear(&x, m, &packed, AQuant::None, None, Activation::GeluTanh, &mut out);
            out
        });
    }
}

#[test]
fn special_values_do_not_panic() {
    let x = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.0];
    let packed = PackedWeight::pack(&[1.0; 4], 4, 1);
    let mut out = [0.0; 16];
    let quant = AQuant::Uniform { scale: 0.0, zero_point: f32::NAN, q_max: 15.0 };
    linear(&x, 4, &packed, quant, None, Activation::None, &mut out);
    linear(&x, 4, &packed, AQuant::None, None, Activation::None, &mut out);
    assert!(out[0].is_nan());
    assert_eq!(out[4], f32::INFINITY);
}
