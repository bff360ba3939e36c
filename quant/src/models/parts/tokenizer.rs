//! The tokenizer in a model's folder.

use crate::data::{TextEncoder, Truncation};
use crate::models::ModelError;
use crate::models::source::Source;

/// Reads the folder's tokenizer for texts of `tokens` ids, as Hugging Face pads and cuts them; none where the folder
/// has no tokenizer.
pub(in crate::models) fn read(source: &Source<'_>, tokens: usize) -> Result<Option<TextEncoder>, ModelError> {
    if !TextEncoder::is_in(source.files) || tokens < 2 {
        return Ok(None);
    }
    Ok(Some(TextEncoder::read(source.files, tokens, Truncation::KeepLast)?))
}
