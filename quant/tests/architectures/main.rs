//! Miniatures of published architectures, recorded from the original code: every output and every activation.

mod fixture;
mod lavt;
