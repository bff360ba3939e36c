//! Miniatures of published architectures, recorded from the original code: every output and every activation.

mod bert;
mod broken_towers;
mod clip;
mod clipseg;
mod fixture;
mod lavt;
mod pictures;
mod published;
mod roles;
mod texts;
