//! Why a site or a model loses what it loses under a plan, in figures and in words, and what would help.
//!
//! [`Session::explain_site`] works from sketches and runs nothing. [`Session::prepare_explanations`] makes the passes
//! that let it say more: rewrites that are not on, and held-out samples. [`Session::confirm`] tries a remedy on samples.

mod confirm;
mod faults;
mod gauge;
mod groups;
mod known;
mod model;
mod remedy;
mod site;
mod swapped_text;
mod waste;
mod words;

pub use confirm::{Confirmation, Outcome};
pub use faults::{
    EXCHANGED_DB, FAULT_DB, FLOOR_DB, Fault, HARMLESS_DB, MISMATCH_DB, MISMATCH_RATIO, MISMATCH_SHARE,
    NamedFault, SOUND_DB,
};
pub use groups::{Change, Group};
pub use known::HELD_OUT;
pub(super) use known::Known;
pub use model::{FaultySites, ModelExplanation, Ranking};
pub use remedy::Remedy;
pub use site::{Advice, Choice, HeldOut, Present, RewriteChoice, SiteExplanation, Width};
pub use swapped_text::{IGNORED, SwappedText, WEAKER};
