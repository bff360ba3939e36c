//! The two namings of SAM's tensors.

use crate::graph::Scope;
use crate::models::Weights;
use crate::models::numbered::count_in;

/// What one naming calls the parts; what both call alike is not listed.
pub(super) struct Names {
    /// The image encoder.
    pub(super) encoder: &'static str,
    /// Its patch embedding.
    pub(super) projection: &'static str,
    /// Its blocks, numbered.
    pub(super) blocks: &'static str,
    /// Start of the normalisations of a block, numbered from 1.
    pub(super) norm: &'static str,
    /// 1x1 convolution, norm, 3x3 convolution, norm.
    pub(super) neck: [&'static str; 4],
    /// Where the table of random frequencies may lie.
    pub(super) gaussian: &'static [&'static str],
    /// Embeddings of background and object points and of two corners, numbered.
    pub(super) points: &'static str,
    /// Convolution, norm, convolution, norm, convolution of a mask prompt.
    pub(super) mask: [&'static str; 5],
    /// The last normalisation of the decoder's tokens.
    pub(super) final_norm: &'static str,
    /// Transposed convolution, norm, transposed convolution.
    pub(super) upscale: [&'static str; 3],
    /// Whether the ends of a feed-forward head have names of their own.
    named_ends: bool,
    /// Epsilon of the decoder's normalisations where no config says it.
    pub(super) decoder_eps: f32,
}

/// Hugging Face.
pub(super) const HF: Names = Names {
    encoder: "vision_encoder",
    projection: "patch_embed.projection",
    blocks: "layers",
    norm: "layer_norm",
    neck: ["neck.conv1", "neck.layer_norm1", "neck.conv2", "neck.layer_norm2"],
    gaussian: &[
        "shared_image_embedding.positional_embedding",
        "prompt_encoder.shared_embedding.positional_embedding",
    ],
    points: "point_embed",
    mask: [
        "mask_embed.conv1",
        "mask_embed.layer_norm1",
        "mask_embed.conv2",
        "mask_embed.layer_norm2",
        "mask_embed.conv3",
    ],
    final_norm: "layer_norm_final_attn",
    upscale: ["upscale_conv1", "upscale_layer_norm", "upscale_conv2"],
    named_ends: true,
    decoder_eps: 1e-6,
};

/// The authors' own.
pub(super) const ORIGINAL: Names = Names {
    encoder: "image_encoder",
    projection: "patch_embed.proj",
    blocks: "blocks",
    norm: "norm",
    neck: ["neck.0", "neck.1", "neck.2", "neck.3"],
    gaussian: &["prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"],
    points: "point_embeddings",
    mask: [
        "mask_downscaling.0",
        "mask_downscaling.1",
        "mask_downscaling.3",
        "mask_downscaling.4",
        "mask_downscaling.6",
    ],
    final_norm: "norm_final_attn",
    upscale: ["output_upscaling.0", "output_upscaling.1", "output_upscaling.3"],
    named_ends: false,
    decoder_eps: 1e-5,
};

impl Names {
    /// The naming of a checkpoint; none if it is no SAM.
    pub(super) fn of(weights: &Weights) -> Option<&'static Self> {
        [&HF, &ORIGINAL].into_iter().find(|names| {
            let has = |name: String| weights.shape(&name).is_some();
            has(format!("{}.{}.0.attn.qkv.weight", names.encoder, names.blocks))
                && has("mask_decoder.iou_token.weight".to_owned())
        })
    }

    /// Whether a checkpoint is a MobileSAM, which has the authors' names but for the image encoder.
    pub(super) fn are_mobile(weights: &Weights) -> bool {
        let has = |name: &str| weights.shape(name).is_some();
        has("image_encoder.patch_embed.seq.0.c.weight") && has("mask_decoder.iou_token.weight")
    }

    /// The layers of a feed-forward head, which `head` is the scope of.
    pub(super) fn head(&self, head: &Scope<'_, '_>) -> Vec<String> {
        let inner = count_in(head, |i| format!("layers.{i}.weight"));
        let mut layers: Vec<String> = (0..inner).map(|i| format!("layers.{i}")).collect();
        if self.named_ends {
            layers.insert(0, "proj_in".to_owned());
            layers.push("proj_out".to_owned());
        } else if layers.is_empty() {
            // So that the tensor that is missing is named.
            layers.push("layers.0".to_owned());
        }
        layers
    }
}
