//! What the kernel tests share.

use super::dispatch::with_each_isa;

/// `n` evenly spaced values.
pub(crate) fn ramp(n: usize, low: f32, high: f32) -> Vec<f32> {
    (0..n).map(|i| low + (high - low) * i as f32 / (n.max(2) - 1) as f32).collect()
}

/// `n` reproducible values, roughly normal with variance 1.
pub(crate) fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut uniform = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..n).map(|_| (uniform() + uniform() + uniform() + uniform()) * 1.732).collect()
}

/// Asserts that `work` gives the same bits with every instruction set of this CPU and with 1, 2 and 3 threads.
pub(crate) fn assert_same_everywhere(work: impl Fn() -> Vec<f32> + Sync + Send) {
    let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
    let in_pool = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        bits(pool.install(&work))
    };
    let expected = in_pool(1);
    assert!(expected == in_pool(2), "2 threads differ");
    assert!(expected == in_pool(3), "3 threads differ");
    with_each_isa(|isa| assert!(expected == in_pool(1), "{isa:?} differs"));
}

/// Asserts `|got - want| <= absolute + relative * |want|` for all values.
#[track_caller]
pub(crate) fn assert_close(got: &[f32], want: &[f32], absolute: f32, relative: f32) {
    assert_eq!(got.len(), want.len());
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        assert!((g - w).abs() <= absolute + relative * w.abs(), "[{i}]: {g}, not {w}");
    }
}
