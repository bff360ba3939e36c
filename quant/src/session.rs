//! What the interfaces talk to.

pub mod messages;
