//! Miniatures of published architectures, recorded from the original code: every output and every activation.

mod activations;
mod damaged;
mod deit;
mod dinov2;
mod fixture;
mod lavt;
mod pictures;
mod published;
mod roles;
mod swin;
mod vit;
mod yolos;
