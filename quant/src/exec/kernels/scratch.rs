//! Reusable buffers of the current thread.

use std::cell::RefCell;

thread_local! {
    static POOL: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Buffers kept per thread; more than a kernel nests.
const KEPT: usize = 4;

/// Values of the largest buffer that is kept (32 MiB).
const LARGEST_KEPT: usize = 8 << 20;

/// Lends a buffer of `len` values with unspecified content to `work`.
///
/// The buffer is taken out of the pool while in use: a thread that steals another task inside `work` simply takes
/// the next one.
pub(crate) fn with_scratch<R>(len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut buffer = POOL.with_borrow_mut(Vec::pop).unwrap_or_default();
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    let result = work(&mut buffer[..len]);
    POOL.with_borrow_mut(|pool| {
        if pool.len() < KEPT && buffer.len() <= LARGEST_KEPT {
            pool.push(buffer);
        }
    });
    result
}
