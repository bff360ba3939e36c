//! The engine of bitloupe.

pub mod exec;
