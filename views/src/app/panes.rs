//! The panes and what they are switched to.

/// The panes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pane {
    /// Layers as a table.
    Layers,
    /// Distribution of the site.
    Histogram,
    /// Choices for the site.
    Quantizers,
    /// What the distribution means.
    Why,
    /// Pictures and masks.
    Samples,
}

impl Pane {
    /// In the order of the focus.
    pub const ALL: [Self; 5] = [Self::Layers, Self::Histogram, Self::Quantizers, Self::Why, Self::Samples];

    /// The title, short enough for a tab.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Layers => "Layers",
            Self::Histogram => "Histogram",
            Self::Quantizers => "Quantizers",
            Self::Why => "Why",
            Self::Samples => "Samples",
        }
    }
}

/// What the sample pane shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MaskView {
    /// Truth, full precision, this plan and the difference side by side.
    #[default]
    All,
    /// The picture with the truth.
    Truth,
    /// With the full-precision mask.
    Float,
    /// With the plan's mask.
    Quantized,
    /// What the plan lost and added.
    Difference,
}

impl MaskView {
    /// The single views.
    pub const SINGLE: [Self; 4] = [Self::Truth, Self::Float, Self::Quantized, Self::Difference];

    pub(super) const fn next(self) -> Self {
        match self {
            Self::All => Self::Truth,
            Self::Truth => Self::Float,
            Self::Float => Self::Quantized,
            Self::Quantized => Self::Difference,
            Self::Difference => Self::All,
        }
    }
}

/// How the distribution is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "four switches, each with a key of its own")]
pub struct Plot {
    /// Counts on a logarithmic axis.
    pub log_counts: bool,
    /// Magnitudes on a logarithmic axis.
    pub log_values: bool,
    /// Channels as a heat map instead.
    pub channels: bool,
    /// De-quantized values over the bars.
    pub dequantized: bool,
}
