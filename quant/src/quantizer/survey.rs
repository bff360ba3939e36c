//! A sketch asked many questions.

use super::search::{ChannelModels, coarse};
use crate::stats::{Bucket, Ranks, Sketch};
use std::sync::OnceLock;

/// A sketch with what fits and predictions derive from it, each derived at most once. Worth making for more than one
/// fit of a site: the channels of a wide tensor take longer to model than to fit.
pub struct Survey<'s> {
    sketch: &'s Sketch,
    ranks: OnceLock<Ranks>,
    coarse: OnceLock<Vec<Bucket>>,
    models: OnceLock<ChannelModels>,
}

impl std::fmt::Debug for Survey<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Survey").field("sketch", self.sketch).finish_non_exhaustive()
    }
}

impl<'s> Survey<'s> {
    /// Of `sketch`; nothing is derived yet.
    pub fn new(sketch: &'s Sketch) -> Self {
        Self { sketch, ranks: OnceLock::new(), coarse: OnceLock::new(), models: OnceLock::new() }
    }

    /// The sketch.
    pub fn sketch(&self) -> &'s Sketch {
        self.sketch
    }

    pub(super) fn ranks(&self) -> &Ranks {
        self.ranks.get_or_init(|| Ranks::new(self.sketch))
    }

    pub(super) fn buckets(&self) -> &[Bucket] {
        self.ranks().buckets()
    }

    /// Buckets for searches over many candidates.
    pub(super) fn coarse(&self) -> &[Bucket] {
        self.coarse.get_or_init(|| coarse(self.buckets()))
    }

    pub(super) fn models(&self) -> &ChannelModels {
        self.models.get_or_init(|| ChannelModels::new(self.sketch, self.ranks()))
    }
}
