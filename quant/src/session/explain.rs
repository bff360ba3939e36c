//! Why a site or a model loses what it loses under a plan, in figures and in words, and what would help.
//!
//! [`Session::explain_site`] works from sketches and runs nothing. [`Session::prepare_explanations`] makes the passes
//! that let it say more: rewrites that are not on, and held-out samples. [`Session::confirm`] tries a remedy on samples.

mod faults;
mod gauge;
mod known;
mod remedy;
mod site;
mod waste;
mod words;

pub use faults::{
    EXCHANGED_DB, FAULT_DB, FLOOR_DB, Fault, HARMLESS_DB, MISMATCH_DB, MISMATCH_RATIO, MISMATCH_SHARE,
    NamedFault, SOUND_DB,
};
pub use known::HELD_OUT;
pub(super) use known::Known;
pub use remedy::Remedy;
pub use site::{Advice, Choice, HeldOut, Present, RewriteChoice, SiteExplanation, Width};
