//! The sizes of a plain vision transformer in Hugging Face's naming, read off its tensors where there is no `config.json`.

use super::config::{Sides, VitConfig};
use super::timm::published_heads;
use super::vit::count_modules;
use crate::models::ModelError;
use crate::models::source::Source;

/// What differs between the architectures.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tokens<'s> {
    /// Module of the encoder, or nothing.
    pub(crate) root: &'s str,
    /// Rows of the position table that are not patches.
    pub(crate) special: usize,
    /// Height and width of the pictures of published models, for tables that are not square.
    pub(crate) pictures: &'s [(usize, usize)],
}

/// The configuration in the folder, or what the tensors tell: width, layers, side of a patch, and the picture that fills
/// the position table. No tensor shows the number of heads: it is that of the published models of this width, which is
/// said as a warning. Errors name the tensor that does not tell, and ask for the configuration.
pub(crate) fn of(source: &Source<'_>, tokens: Tokens<'_>) -> Result<VitConfig, ModelError> {
    if source.config.is_some() {
        return source.parse();
    }
    let weights = source.weights;
    let full = |name: &str| match tokens.root {
        "" => name.to_owned(),
        root => format!("{root}.{name}"),
    };
    let shape = |name: &str| match weights.shape(name) {
        Some(shape) => Ok(shape),
        // Says that it is missing, and what is near.
        None => weights.get(name).map(|tensor| tensor.shape),
    };
    let untold =
        |what: String| source.wrong(format!("it is missing, and {what}; copy it beside the weights"));
    let projection = full("embeddings.patch_embeddings.projection.weight");
    let &[width, _, patch, _] = shape(&projection)?.as_slice() else {
        return Err(untold(format!("`{projection}` has not the four axes of a patch embedding")));
    };
    let table = full("embeddings.position_embeddings");
    let rows = shape(&table)?.get(1).copied().unwrap_or(0);
    let patches = rows.saturating_sub(tokens.special);
    let side = patches.isqrt();
    let fills =
        |&&(height, width): &&(usize, usize)| (height / patch.max(1)) * (width / patch.max(1)) == patches;
    let image = match tokens.pictures.iter().find(fills) {
        _ if side > 0 && side * side == patches => Sides::Square(side.saturating_mul(patch)),
        Some(&(height, width)) => Sides::Rectangle([height, width]),
        None => {
            return Err(untold(format!(
                "the {patches} patches of `{table}` are no square, so that `image_size` is not known"
            )));
        }
    };
    let Some(heads) = published_heads(width) else {
        return Err(untold(format!("the width {width} does not tell `num_attention_heads`")));
    };
    source.assume(format!(
        "without config.json {heads} heads are taken for the width {width}, as in the published models: no tensor shows them"
    ));
    Ok(VitConfig {
        image_size: Some(image),
        patch_size: Some(patch),
        hidden_size: width,
        num_hidden_layers: count_modules(weights.names(), &full("encoder.layer")),
        num_attention_heads: heads,
        ..VitConfig::default()
    })
}
