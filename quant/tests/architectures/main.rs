//! Miniatures of published architectures, recorded from the original code: every output and every activation.

mod detr;
mod fixture;
mod lavt;
mod pictures;
mod published;
mod renamed;
mod roles;
mod sam;
