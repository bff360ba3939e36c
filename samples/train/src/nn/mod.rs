//! A small training library: matrix product, vectorised loops, tape, operations, parameters, optimizer.

pub mod attention;
#[cfg(test)]
mod checks;
pub mod gemm;
pub mod kernels;
pub mod ops;
pub mod optim;
pub mod params;
pub mod spatial;
pub mod tape;
