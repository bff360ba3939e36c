use super::*;
use crate::exec::kernels::testing::ramp;
use candle_core::{Device, Tensor};
use proptest::prelude::*;

fn tensor(x: &[f32], shape: &[usize]) -> Tensor {
    Tensor::from_slice(x, shape, &Device::Cpu).unwrap()
}

fn values(t: &Tensor) -> Vec<f32> {
    t.contiguous().unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn count(n: usize) -> Vec<f32> {
    ramp(n, 0.0, n.max(2) as f32 - 1.0)
}

proptest! {
    #[test]
    fn permute_agrees_with_candle(
        (shape, order) in prop::collection::vec(1..8_usize, 1..6).prop_flat_map(|shape| {
            let order: Vec<usize> = (0..shape.len()).collect();
            (Just(shape), Just(order).prop_shuffle())
        }),
    ) {
        let x = count(shape.iter().product());
        let mut out = vec![f32::NAN; x.len()];
        permute(&x, &shape, &order, &mut out);
        prop_assert_eq!(out, values(&tensor(&x, &shape).permute(order).unwrap()));
    }

    #[test]
    fn slices_pads_and_rolls_agree_with_candle(
        shape in prop::collection::vec(1..7_usize, 1..5), axis in 0..4_usize, start in 0..7_usize, shift in -9..9_isize,
        pads in prop::collection::vec((0..3_usize, 0..3_usize), 4),
    ) {
        let axis = axis % shape.len();
        let x = count(shape.iter().product());
        let whole = tensor(&x, &shape);

        let start = start % shape[axis];
        let length = shape[axis] - start;
        let expected = values(&whole.narrow(axis, start, length).unwrap());
        let mut out = vec![f32::NAN; expected.len()];
        narrow(&x, &shape, axis, start, length, &mut out);
        prop_assert_eq!(out, expected);

        let expected = values(&whole.roll(shift as i32, axis).unwrap());
        let mut out = vec![f32::NAN; x.len()];
        roll(&x, &shape, axis, shift, &mut out);
        prop_assert_eq!(out, expected);

        let mut expected = whole;
        for (d, &(before, after)) in pads.iter().take(shape.len()).enumerate() {
            expected = expected.pad_with_zeros(d, before, after).unwrap();
        }
        let mut out = vec![f32::NAN; expected.elem_count()];
        pad(&x, &shape, &pads[..shape.len()], &[], &mut out);
        prop_assert_eq!(out, values(&expected));
    }
}

#[test]
fn large_permutations_are_split_over_threads() {
    for (shape, order) in [(vec![64, 12, 97], vec![2, 0, 1]), (vec![197, 3, 12, 16], vec![1, 2, 0, 3])] {
        let x = count(shape.iter().product());
        let expected = values(&tensor(&x, &shape).permute(order.clone()).unwrap());
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let mut out = vec![f32::NAN; x.len()];
        pool.install(|| permute(&x, &shape, &order, &mut out));
        assert_eq!(out, expected);
    }
}

#[test]
fn concat_and_gather() {
    let mut out = [0.0; 10];
    concat(&[(&[1.0, 2.0, 6.0, 7.0], 2), (&[3.0, 4.0, 5.0, 8.0, 9.0, 10.0], 3)], 2, &mut out);
    assert_eq!(out, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]);
    let mut rows = [0.0; 4];
    gather_rows(&out, 2, &[4, 0], &mut rows);
    assert_eq!(rows, [9.0, 10.0, 1.0, 2.0]);
    gather_rows(&out, 2, &[], &mut []);
    permute(&[], &[0, 3], &[1, 0], &mut []);
    roll(&[], &[2, 0], 1, 3, &mut []);
    concat(&[], 0, &mut []);
}
