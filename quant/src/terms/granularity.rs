//! What shares the parameters of a grid.

use super::words;

/// What has its own scale. The channel axis is that of the site's layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Granularity {
    /// The whole tensor.
    Tensor,
    /// Every channel.
    Channel,
    /// Every head of an operand of an attention product; where there are no heads, the whole tensor.
    Head,
}

words!(Granularity, "granularity", {
    Tensor => "tensor",
    Channel => "channel",
    Head => "head",
});
