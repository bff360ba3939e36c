//! What several architectures are made of.

pub(super) mod attention;
pub(super) mod block;
pub(super) mod config;
pub(super) mod pictures;
pub(super) mod positions;
pub(super) mod timm;
pub(super) mod tokens;
pub(super) mod vit;
pub(super) mod window;
