//! Plants what makes large transformers hard to quantize into the bundled model, without changing its function.
//!
//! * Outlier channels after `LayerNorm`: gain and shift of one channel in sixteen are multiplied by 8, and the same
//!   columns of the Linear that follows divided by 8. Both are powers of two, so the products are the same numbers.
//! * Bimodal keys: a constant of alternating sign is added to every key channel through the key bias. A query's
//!   product with a constant is the same for all keys, and softmax does not see what is the same for all.

use std::fmt;

use safetensors::{Dtype, SafeTensors};

/// The factor of outlier channels.
const OUTLIER: f32 = 8.0;
/// One channel in this many becomes an outlier.
const EVERY: usize = 16;
/// Distance of the two groups of keys from zero, in standard deviations of the keys' projection rows.
const OFFSET: f32 = 8.0;

/// Weights that the planting does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlantError(String);

impl fmt::Display for PlantError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the bundled weights cannot be planted: {}", self.0)
    }
}

impl std::error::Error for PlantError {}

struct Tensors<'a>(SafeTensors<'a>);

impl Tensors<'_> {
    fn read(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>), PlantError> {
        let view = self.0.tensor(name).map_err(|e| PlantError(format!("{name}: {e}")))?;
        let data = match view.dtype() {
            Dtype::F16 => {
                let (words, _) = view.data().as_chunks::<2>();
                words.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect()
            }
            Dtype::F32 => {
                let (words, _) = view.data().as_chunks::<4>();
                words.iter().map(|b| f32::from_le_bytes(*b)).collect()
            }
            other => return Err(PlantError(format!("{name} is stored as {other:?}"))),
        };
        Ok((view.shape().to_vec(), data))
    }
}

/// The changed tensors of a LAVT checkpoint.
pub(crate) fn plant(weights: &[u8]) -> Result<Vec<(String, Vec<f32>)>, PlantError> {
    let tensors = Tensors(SafeTensors::deserialize(weights).map_err(|e| PlantError(e.to_string()))?);
    let mut names: Vec<String> = tensors.0.names().into_iter().map(ToOwned::to_owned).collect();
    names.sort();
    let mut changed = Vec::new();
    for name in &names {
        let pair =
            [(".norm1.weight", ".attn.qkv"), (".norm2.weight", ".mlp.fc1"), (".norm.weight", ".reduction")]
                .iter()
                .find_map(|(norm, linear)| {
                    name.strip_suffix(norm).map(|path| (path.to_owned(), *norm, *linear))
                });
        if let Some((path, norm, linear)) = pair
            && name.starts_with("backbone.layers.")
        {
            outliers(&tensors, &path, norm, linear, &mut changed)?;
        }
        if let Some(path) = name.strip_suffix(".attn.qkv.bias") {
            let (_, mut bias) = tensors.read(name)?;
            let width = bias.len() / 3;
            let spread = spread(&tensors, &format!("{path}.attn.qkv.weight"), width..2 * width)?;
            offset(&mut bias[width..2 * width], OFFSET * spread);
            changed.push((name.clone(), bias));
        }
        if name.ends_with(".attention.self.key.bias") {
            let (_, mut bias) = tensors.read(name)?;
            let weight = name.replace(".bias", ".weight");
            let spread = spread(&tensors, &weight, 0..bias.len())?;
            offset(&mut bias, OFFSET * spread);
            changed.push((name.clone(), bias));
        }
    }
    if changed.is_empty() {
        return Err(PlantError("they hold no Swin block".into()));
    }
    Ok(changed)
}

/// Scales one channel in [`EVERY`] of a norm up and the columns that read it down.
fn outliers(
    tensors: &Tensors<'_>,
    path: &str,
    norm: &str,
    linear: &str,
    changed: &mut Vec<(String, Vec<f32>)>,
) -> Result<(), PlantError> {
    let stem = format!("{path}{}", norm.trim_end_matches(".weight"));
    let (_, mut gain) = tensors.read(&format!("{stem}.weight"))?;
    let (_, mut shift) = tensors.read(&format!("{stem}.bias"))?;
    let (shape, mut weight) = tensors.read(&format!("{path}{linear}.weight"))?;
    let channels = gain.len();
    if shape.len() != 2 || shape[1] != channels || shift.len() != channels {
        return Err(PlantError(format!(
            "{path}{linear}.weight has shape {shape:?} after {channels} channels"
        )));
    }
    // A different channel of each group of sixteen in every layer.
    let start = stem.bytes().map(usize::from).sum::<usize>() % EVERY;
    for channel in (start..channels).step_by(EVERY) {
        gain[channel] *= OUTLIER;
        shift[channel] *= OUTLIER;
        weight.iter_mut().skip(channel).step_by(channels).for_each(|w| *w /= OUTLIER);
    }
    changed.push((format!("{stem}.weight"), gain));
    changed.push((format!("{stem}.bias"), shift));
    changed.push((format!("{path}{linear}.weight"), weight));
    Ok(())
}

/// Root of the mean squared length of the given rows: the keys' spread when their inputs have unit variance.
fn spread(tensors: &Tensors<'_>, name: &str, rows: std::ops::Range<usize>) -> Result<f32, PlantError> {
    let (shape, data) = tensors.read(name)?;
    let columns = shape.get(1).copied().unwrap_or(0);
    let part = data
        .get(rows.start * columns..rows.end * columns)
        .ok_or_else(|| PlantError(format!("{name} has shape {shape:?}")))?;
    Ok((part.iter().map(|w| w * w).sum::<f32>() / rows.len().max(1) as f32).sqrt())
}

fn offset(keys: &mut [f32], by: f32) {
    for (i, bias) in keys.iter_mut().enumerate() {
        *bias += if i % 2 == 0 { by } else { -by };
    }
}
