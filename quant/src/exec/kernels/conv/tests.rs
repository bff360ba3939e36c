use super::*;
use crate::exec::kernels::math;
use crate::exec::kernels::testing::{assert_close, assert_same_everywhere, noise};
use candle_core::{Device, Tensor};
use proptest::prelude::*;

/// The definition, with the accumulation order of the kernels.
fn plain(x: &[f32], g: &Geometry, w: &[f32], bias: &[f32]) -> Vec<f32> {
    let (per_group, k) = (g.out_c / g.groups, g.k());
    let mut out = Vec::new();
    for oc in 0..g.out_c {
        for oy in 0..g.out_h() {
            for ox in 0..g.out_w() {
                let mut sum = 0.0_f32;
                for p in 0..k {
                    let channel = oc / per_group * (g.in_c / g.groups) + p / (g.kh * g.kw);
                    let y = (oy * g.stride[0] + p / g.kw % g.kh * g.dilation[0]).wrapping_sub(g.pad[0]);
                    let x_at = (ox * g.stride[1] + p % g.kw * g.dilation[1]).wrapping_sub(g.pad[1]);
                    let inside = y < g.h && x_at < g.w;
                    let value = if inside { x[(channel * g.h + y) * g.w + x_at] } else { 0.0 };
                    sum = w[oc * k + p].mul_add(value, sum);
                }
                out.push(sum + bias[oc]);
            }
        }
    }
    out
}

fn compare(g: &Geometry) {
    let (x, w, b) = (noise(g.in_c * g.h * g.w, 1), noise(g.out_c * g.k(), 2), noise(g.out_c, 3));
    let mut out = vec![f32::NAN; g.out_c * g.out_h() * g.out_w()];
    conv2d(&x, g, &ConvWeight::pack(&w, g), AQuant::None, Some(&b), Activation::None, &mut out);
    assert!(out == plain(&x, g, &w, &b), "{g:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn equals_its_definition_bit_for_bit(
        (groups, in_each, out_each) in (1..4_usize, 1..6_usize, 1..40_usize),
        (h, w, kh, kw) in (1..14_usize, 1..14_usize, 1..4_usize, 1..4_usize),
        stride in (1..3_usize, 1..3_usize), pad in prop::array::uniform4(0..3_usize),
        dilation in (1..3_usize, 1..3_usize),
    ) {
        compare(&Geometry {
            in_c: groups * in_each, h, w, out_c: groups * out_each, kh, kw,
            stride: [stride.0, stride.1], pad, dilation: [dilation.0, dilation.1], groups,
        });
    }

    #[test]
    fn depthwise_equals_its_definition_bit_for_bit(
        channels in 2..9_usize, multiplier in 1..3_usize, (h, w) in (3..40_usize, 3..40_usize), stride in 1..3_usize,
    ) {
        compare(&Geometry {
            out_c: channels * multiplier, groups: channels,
            ..Geometry::dense(channels, [h, w], channels, 3, stride, 1)
        });
    }
}

#[test]
fn agrees_with_candle() {
    let g = Geometry::dense(32, [17, 16], 48, 3, 1, 1);
    let (x, w) = (noise(g.in_c * g.h * g.w, 4), noise(g.out_c * g.k(), 5));
    let tensor =
        |v: &[f32], shape: (usize, usize, usize, usize)| Tensor::from_slice(v, shape, &Device::Cpu).unwrap();
    let expected = tensor(&x, (1, 32, 17, 16)).conv2d(&tensor(&w, (48, 32, 3, 3)), 1, 1, 1, 1).unwrap();
    let mut out = vec![0.0; 48 * 17 * 16];
    conv2d(&x, &g, &ConvWeight::pack(&w, &g), AQuant::None, None, Activation::None, &mut out);
    // 288 products of order 1 in different orders of summation.
    assert_close(&out, &expected.flatten_all().unwrap().to_vec1::<f32>().unwrap(), 5e-5, 1e-5);
}

/// Both merging and plain ones of MobileSAM, on maps that their strides do not divide.
#[test]
fn depthwise_agrees_with_candle() {
    for (channels, h, w, stride) in [(32, 17, 16, 1), (20, 18, 33, 2)] {
        let g = Geometry { groups: channels, ..Geometry::dense(channels, [h, w], channels, 3, stride, 1) };
        let (x, k, b) = (noise(channels * h * w, 6), noise(channels * 9, 7), noise(channels, 8));
        let tensor =
            |v: &[f32], s: (usize, usize, usize, usize)| Tensor::from_slice(v, s, &Device::Cpu).unwrap();
        let expected = tensor(&x, (1, channels, h, w))
            .conv2d(&tensor(&k, (channels, 1, 3, 3)), 1, stride, 1, channels)
            .unwrap()
            .broadcast_add(&tensor(&b, (1, channels, 1, 1)))
            .unwrap();
        assert_eq!(expected.dims(), [1, channels, g.out_h(), g.out_w()]);
        let mut out = vec![0.0; channels * g.out_h() * g.out_w()];
        conv2d(&x, &g, &ConvWeight::pack(&k, &g), AQuant::None, Some(&b), Activation::None, &mut out);
        assert_close(&out, &expected.flatten_all().unwrap().to_vec1::<f32>().unwrap(), 1e-5, 1e-5);
    }
}

#[test]
fn transposed_agrees_with_candle() {
    for (kernel, stride, pad, output_pad, dilation) in
        [(2, 2, 0, 0, 1), (4, 4, 0, 0, 1), (3, 2, 1, 1, 1), (3, 1, 2, 0, 2)]
    {
        let g = TransposeGeometry {
            in_c: 7,
            h: 6,
            w: 5,
            out_c: 9,
            kh: kernel,
            kw: kernel,
            stride: [stride; 2],
            pad: [pad; 2],
            output_pad: [output_pad; 2],
            dilation: [dilation; 2],
        };
        let (x, w, b) = (noise(7 * 30, 6), noise(7 * 9 * kernel * kernel, 7), noise(9, 8));
        let tensor =
            |v: &[f32], s: (usize, usize, usize, usize)| Tensor::from_slice(v, s, &Device::Cpu).unwrap();
        let expected = tensor(&x, (1, 7, 6, 5))
            .conv_transpose2d(&tensor(&w, (7, 9, kernel, kernel)), pad, output_pad, stride, dilation)
            .unwrap()
            .broadcast_add(&tensor(&b, (1, 9, 1, 1)))
            .unwrap();
        assert_eq!(expected.dims(), [1, 9, g.out_h(), g.out_w()]);
        let mut out = vec![0.0; 9 * g.out_h() * g.out_w()];
        let packed = pack_transpose_weight(&w, &g);
        conv_transpose2d(&x, &g, &packed, AQuant::None, Some(&b), Activation::None, &mut out);
        assert_close(&out, &expected.flatten_all().unwrap().to_vec1::<f32>().unwrap(), 1e-5, 1e-5);
    }
}

#[test]
fn values_are_quantized_and_padding_stays_zero() {
    let g = Geometry::dense(3, [6, 7], 5, 3, 1, 1);
    let (x, w) = (noise(3 * 42, 9), noise(5 * 27, 10));
    // A grid from 0.4 to 1.9: it does not contain 0.
    let (scale, zero) = ([0.1, 0.2, 0.3], [-4.0, -2.0, 1.5]);
    let rounded: Vec<f32> = x
        .iter()
        .enumerate()
        .map(|(i, &v)| math::fake_quantize(v, scale[i / 42], zero[i / 42], 15.0))
        .collect();
    let quant = AQuant::UniformPerK { scale: &scale, zero_point: &zero, q_max: 15.0 };
    let mut out = vec![0.0; 5 * 42];
    conv2d(&x, &g, &ConvWeight::pack(&w, &g), quant, None, Activation::None, &mut out);
    assert!(out == plain(&rounded, &g, &w, &[0.0; 5]));
}

#[test]
fn same_bits_everywhere() {
    for g in [
        Geometry::dense(40, [16, 16], 33, 3, 1, 1),
        Geometry { groups: 64, ..Geometry::dense(64, [33, 31], 64, 3, 1, 1) },
    ] {
        let (x, w) = (noise(g.in_c * g.h * g.w, 11), noise(g.out_c * g.k(), 12));
        let packed = ConvWeight::pack(&w, &g);
        assert_same_everywhere(|| {
            let mut out = vec![0.0; g.out_c * g.out_h() * g.out_w()];
            conv2d(&x, &g, &packed, AQuant::None, None, Activation::Silu, &mut out);
            out
        });
    }
}
