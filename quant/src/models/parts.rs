//! What several architectures have in common.

pub(super) mod activation;
pub(super) mod attention;
pub(super) mod bert;
pub(super) mod block;
pub(super) mod clip;
pub(super) mod config;
pub(super) mod embedding;
pub(super) mod heads;
pub(super) mod pictures;
pub(super) mod positions;
pub(super) mod timm;
pub(super) mod tokenizer;
pub(super) mod tokens;
pub(super) mod vit;
pub(super) mod vit_sizes;
pub(super) mod window;
