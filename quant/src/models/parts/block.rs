//! The pre-normalised transformer block of ViT (Dosovitskiy et al., ICLR 2021) and Swin, with the layer scale of CaiT
//! (Touvron et al., ICCV 2021) where the checkpoint has one: `x + γ₁ · attention(norm(x))`, then `x + γ₂ · mlp(norm(x))`.

use super::attention::Projections;
use crate::exec::kernels::activation::Activation;
use crate::graph::{NodeId, Scope};
use crate::models::ModelError;

/// How the modules of a block are called, relative to it.
#[derive(Debug)]
pub(crate) struct BlockNames {
    /// Normalisation before the attention.
    pub(crate) norm1: &'static str,
    /// Module of the projections, and of tables for the scores.
    pub(crate) attention: &'static str,
    /// How queries, keys and values are made there.
    pub(crate) projections: Projections,
    /// Output projection of the attention.
    pub(crate) out: &'static str,
    /// Normalisation before the MLP.
    pub(crate) norm2: &'static str,
    /// The MLP.
    pub(crate) mlp: Mlp,
    /// Modules and tensors of the factors that both branches are multiplied with.
    pub(crate) scales: Option<[(&'static str, &'static str); 2]>,
}

/// How the modules of an MLP are called.
#[derive(Debug)]
pub(crate) enum Mlp {
    /// Two layers with an activation between.
    Plain { fc1: &'static str, act: &'static str, fc2: &'static str },
    /// SwiGLU (Shazeer 2020): one layer makes gates and values, `silu(gate) · value` goes to the other.
    Gated { joined: &'static str, out: &'static str },
}

const SPLIT: Projections = Projections::Split(["query", "key", "value"]);

/// ViT, DeiT and YOLOS of Hugging Face.
pub(crate) const HF: BlockNames = BlockNames {
    norm1: "layernorm_before",
    attention: "attention.attention",
    projections: SPLIT,
    out: "attention.output.dense",
    norm2: "layernorm_after",
    mlp: Mlp::Plain {
        fc1: "intermediate.dense",
        act: "intermediate.intermediate_act_fn",
        fc2: "output.dense",
    },
    scales: None,
};

/// Swin of Hugging Face.
pub(crate) const HF_SWIN: BlockNames = BlockNames { attention: "attention.self", ..HF };

/// DINOv2 of Hugging Face.
pub(crate) const HF_DINOV2: BlockNames = BlockNames {
    norm1: "norm1",
    norm2: "norm2",
    mlp: Mlp::Plain { fc1: "mlp.fc1", act: "mlp.activation", fc2: "mlp.fc2" },
    scales: Some([("layer_scale1", "lambda1"), ("layer_scale2", "lambda1")]),
    ..HF
};

/// The same with a gated MLP (the giant one).
pub(crate) const HF_DINOV2_GATED: BlockNames =
    BlockNames { mlp: Mlp::Gated { joined: "mlp.weights_in", out: "mlp.weights_out" }, ..HF_DINOV2 };

/// timm, and the original ViT, DeiT, Swin and DINOv2.
pub(crate) const TIMM: BlockNames = BlockNames {
    norm1: "norm1",
    attention: "attn",
    projections: Projections::Fused("qkv"),
    out: "attn.proj",
    norm2: "norm2",
    mlp: Mlp::Plain { fc1: "mlp.fc1", act: "mlp.act", fc2: "mlp.fc2" },
    scales: None,
};

/// The same with layer scale.
pub(crate) const TIMM_SCALED: BlockNames =
    BlockNames { scales: Some([("ls1", "gamma"), ("ls2", "gamma")]), ..TIMM };

/// The same with a gated MLP, under the names of DINOv2.
pub(crate) const DINOV2_GATED: BlockNames =
    BlockNames { mlp: Mlp::Gated { joined: "mlp.w12", out: "mlp.w3" }, ..TIMM_SCALED };

/// One block on tokens `[1, N, C]`; `attend` is the attention with its output projection.
pub(crate) fn block(
    g: &mut Scope<'_, '_>,
    names: &BlockNames,
    act: Activation,
    eps: f32,
    x: NodeId,
    attend: impl FnOnce(&mut Scope<'_, '_>, NodeId) -> Result<NodeId, ModelError>,
) -> Result<NodeId, ModelError> {
    let y = g.layer_norm(names.norm1, x, eps)?;
    let y = attend(g, y)?;
    let y = scaled(g, names.scales.map(|scales| scales[0]), y)?;
    let x = g.add(x, y)?;

    let y = g.layer_norm(names.norm2, x, eps)?;
    let y = mlp(g, &names.mlp, act, y)?;
    let y = scaled(g, names.scales.map(|scales| scales[1]), y)?;
    g.add(x, y)
}

fn mlp(g: &mut Scope<'_, '_>, names: &Mlp, act: Activation, x: NodeId) -> Result<NodeId, ModelError> {
    match names {
        Mlp::Plain { fc1, act: module, fc2 } => {
            let y = g.linear(fc1, x)?;
            let y = g.activation(module, act, y)?;
            g.linear(fc2, y)
        }
        Mlp::Gated { joined, out } => {
            let y = g.linear(joined, x)?;
            let width = g.shape(y)[2] / 2;
            let gate = g.narrow(y, 2, 0, width)?;
            let value = g.narrow(y, 2, width, width)?;
            let gate = g.activation("mlp.silu", Activation::Silu, gate)?;
            let y = g.at("mlp").mul(gate, value)?;
            g.linear(out, y)
        }
    }
}

/// Every channel times its factor.
fn scaled(g: &mut Scope<'_, '_>, factors: Option<(&str, &str)>, x: NodeId) -> Result<NodeId, ModelError> {
    let Some((module, tensor)) = factors else { return Ok(x) };
    let mut s = g.at(module);
    let width = s.shape(x)[2];
    let factors = s.read(tensor, &[width])?;
    s.reserve(tensor, &[width])?;
    let factors = s.constant(tensor, &[width], factors.to_vec())?;
    s.mul(x, factors)
}
