//! Tokens: patches of an image, and the learned ones that go with them.

use crate::graph::{Conv, NodeId, Scope};
use crate::models::ModelError;

/// Height and width in patches.
pub(crate) type Grid = (usize, usize);

/// Patch embedding: image `[1, C, H, W]` to tokens `[1, h·w, width]` and their grid. Patches lie side by side; what is
/// left at the bottom and the right is not seen.
pub(crate) fn patches(
    g: &mut Scope<'_, '_>,
    conv: &str,
    pixels: NodeId,
) -> Result<(NodeId, Grid), ModelError> {
    // The step is the side of the kernel; a weight that is no kernel is an error of the convolution.
    let side = g.param_shape(&format!("{conv}.weight")).and_then(|shape| shape.get(2).copied());
    let map = g.conv(conv, pixels, Conv::new(side.unwrap_or(1).max(1), 0))?;
    let shape = g.shape(map);
    let grid = (shape[2], shape[3]);
    let map = g.reshape(map, &[1, shape[1], grid.0 * grid.1])?;
    Ok((g.permute(map, &[0, 2, 1])?, grid))
}

/// Learned tokens `[1, n, width]`.
pub(crate) fn learned(
    g: &mut Scope<'_, '_>,
    name: &str,
    (n, width): (usize, usize),
) -> Result<NodeId, ModelError> {
    let values = g.read(name, &[1, n, width])?;
    g.reserve(name, &[n, width])?;
    g.constant(name, &[1, n, width], values.to_vec())
}

/// One token of `[1, N, width]` as `[1, width]`.
pub(crate) fn token(g: &mut Scope<'_, '_>, x: NodeId, index: usize) -> Result<NodeId, ModelError> {
    let width = g.shape(x)[2];
    let y = g.narrow(x, 1, index, 1)?;
    g.reshape(y, &[1, width])
}
