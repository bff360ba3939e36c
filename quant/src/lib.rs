//! The engine of bitloupe: what quantization does to a transformer, layer by layer.
//!
//! The way of the data: files become a [`graph`] and weights ([`models`]), pictures and sentences become its inputs
//! ([`data`]); the executor ([`exec`]) runs it on a calibration set and fills one sketch per site ([`stats`]); a
//! sketch and a [`quantizer`] make parameters and a predicted error without a run; a [`plan`] says which site gets
//! which; running the graph under a plan gives masks, and [`eval`] their figures; [`export`] writes them out.
//! [`session`] holds all of it together for the interfaces. This crate knows nothing of terminals and prints
//! nothing.

pub mod data;
pub mod eval;
pub mod exec;
pub mod export;
pub mod graph;
pub mod method;
pub mod models;
pub mod plan;
pub mod quantizer;
pub mod session;
pub mod stats;
pub mod terms;
