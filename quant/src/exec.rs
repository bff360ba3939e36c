//! The executor: runs a [`Graph`](crate::graph::Graph) for one sample, in full precision or under a plan.
//!
//! * [`Engine`] holds what a graph needs once: packed weights, its own threads, caches.
//! * [`Quantization`] says which sites are fake-quantized and how; it is made from a fitted plan.
//! * Values are addressed by their content: every node has a key made of its operation, the quantizers at its
//!   operands and the keys of its inputs. A value whose key is in the cache is not computed again, so after an
//!   edit only the nodes it reaches run, and undoing the edit runs nothing.
//! * A [`Baseline`] is a run that others start from, where one sample is run again and again: it holds the values that
//!   they can start from, and costs no keys.
//! * Where pictures have sizes of their own, an engine has siblings for them ([`Engine::with_sizes`]); runs go to the one
//!   that their inputs fit.
//! * [`reference`] computes the same graph with candle's operations; tests hold the two together.

mod baseline;
pub mod buffers;
mod cache;
mod engine;
mod error;
mod fusion;
pub mod kernels;
mod keys;
mod lockstep;
mod quantization;
pub mod reference;
mod sizes;
mod step;
mod value;
mod workers;

pub use baseline::{Baseline, Keep};
pub use cache::ActivationCache;
pub use engine::{Cancel, Engine, NoTap, Run, Tap};
pub use error::ExecError;
pub use lockstep::Decision;
pub use quantization::Quantization;
pub use sizes::Resized;
pub use value::Value;
pub use workers::Workers;
