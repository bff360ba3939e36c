//! The fused CPU kernels: functions on contiguous row-major `f32` slices.
//!
//! Results are bit-identical on every CPU and for every thread count. Matrix products accumulate each output
//! element sequentially over `k` with fused multiply-add, reductions use sixteen lanes combined in a fixed order,
//! and `exp`, `erf` and `tanh` are polynomials of our own. What differs between CPUs is only the width of the
//! vectors. Kernels run inside the caller's rayon pool and do not split work when it has one thread.
//!
//! Shapes are the caller's business: a slice whose length contradicts them is a programming error and panics
//! before anything is written.

pub mod activation;
pub mod conv;
pub(crate) mod count;
pub(crate) mod dispatch;
pub mod elementwise;
pub mod fake_quant;
pub mod function;
pub mod gather;
pub mod gemm;
pub mod layout;
pub mod log_grid;
mod math;
pub mod matmul;
pub mod norm;
mod parallel;
pub mod pool;
pub mod powers;
mod reduce;
pub mod resize;
mod scratch;
pub mod softmax;
pub mod steps;
#[cfg(test)]
mod testing;
