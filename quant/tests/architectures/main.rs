//! Miniatures of published architectures, recorded from the original code: every output and every activation.

mod activations;
mod bert;
mod broken_towers;
mod clip;
mod clipseg;
mod damaged;
mod deit;
mod detr;
mod dinov2;
mod fixture;
mod gradients;
mod lavt;
mod mobile_sam;
mod pictures;
mod published;
mod renamed;
mod rewrites;
mod roles;
mod sam;
mod swin;
mod texts;
mod vit;
mod without_config;
mod yolos;
