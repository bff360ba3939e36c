//! Pixel-word attention module (PWAM) and language gate (LAVT §3.2, §3.3).

use crate::exec::kernels::activation::Activation;
use crate::graph::{Conv, NodeId, Scope};
use crate::models::ModelError;

/// Epsilon of PyTorch's `InstanceNorm1d`.
const EPS: f32 = 1e-5;
/// Added to scores of padding words.
const MASKED: f32 = -1e4;
const POINTWISE: Conv = Conv::new(1, 0);

/// Pixels `[1, N, C]`, words `[1, L, T]`, mask `[1, T]` to word-aware pixels `[1, N, C]`.
pub(super) fn fuse(
    g: &mut Scope<'_, '_>,
    heads: usize,
    x: NodeId,
    words: NodeId,
    mask: NodeId,
) -> Result<NodeId, ModelError> {
    let pixels = g.permute(x, &[0, 2, 1])?;
    let visual = g.conv("vis_project.0", pixels, POINTWISE)?;
    let visual = g.activation("vis_project.1", Activation::Gelu, visual)?;
    let language = attend(&mut g.at("image_lang_att"), heads, pixels, words, mask)?;
    let joint = g.mul(visual, language)?;
    let joint = g.conv("project_mm.0", joint, POINTWISE)?;
    let joint = g.activation("project_mm.1", Activation::Gelu, joint)?;
    g.permute(joint, &[0, 2, 1])
}

/// Every pixel attends to the words; the scale is that of all key channels, not of one head.
fn attend(
    g: &mut Scope<'_, '_>,
    heads: usize,
    pixels: NodeId,
    words: NodeId,
    mask: NodeId,
) -> Result<NodeId, ModelError> {
    let query = g.conv("f_query.0", pixels, POINTWISE)?;
    let query = g.instance_norm("f_query.1", query, EPS)?;
    let key = g.conv("f_key.0", words, POINTWISE)?;
    let value = g.conv("f_value.0", words, POINTWISE)?;
    let (n, t) = (g.shape(query)[2], g.shape(words)[2]);
    let (key_width, value_width) = (g.shape(key)[1], g.shape(value)[1]);

    let present = g.reshape(mask, &[1, 1, t])?;
    let key = g.mul(key, present)?;
    let value = g.mul(value, present)?;
    let query = g.permute(query, &[0, 2, 1])?;
    let query = g.reshape(query, &[1, n, heads, key_width / heads])?;
    let query = g.permute(query, &[0, 2, 1, 3])?;
    let key = g.reshape(key, &[1, heads, key_width / heads, t])?;
    let value = g.reshape(value, &[1, heads, value_width / heads, t])?;

    let scores = g.matmul("qk", (query, key), false, 1.0 / (key_width as f32).sqrt())?;
    let absent = g.reshape(mask, &[1, 1, 1, t])?;
    let absent = g.affine(absent, -MASKED, MASKED)?;
    let scores = g.add(scores, absent)?;
    let probabilities = g.softmax("softmax", scores)?;
    let y = g.matmul("pv", (probabilities, value), true, 1.0)?;
    let y = g.permute(y, &[0, 1, 3, 2])?;
    let y = g.reshape(y, &[1, value_width, n])?;
    let y = g.conv("W.0", y, POINTWISE)?;
    g.instance_norm("W.1", y, EPS)
}

/// `x + tanh(L(relu(L(r)))) · r`: how much of the words enters the next stage.
pub(super) fn gate(g: &mut Scope<'_, '_>, x: NodeId, r: NodeId) -> Result<NodeId, ModelError> {
    let y = g.linear("res_gate.0", r)?;
    let y = g.activation("res_gate.1", Activation::Relu, y)?;
    let y = g.linear("res_gate.2", y)?;
    let y = g.activation("res_gate.3", Activation::Tanh, y)?;
    let y = g.mul(y, r)?;
    g.add(x, y)
}
