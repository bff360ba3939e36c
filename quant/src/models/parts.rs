//! What several architectures have in common.

pub(super) mod activation;
pub(super) mod bert;
pub(super) mod clip;
pub(super) mod embedding;
pub(super) mod heads;
pub(super) mod tokenizer;
