//! Resumable state of a run, and the model as it is shipped.

use crate::nn::optim::AdamW;
use crate::nn::params::Params;
use half::f16;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::collections::HashMap;
use std::{error::Error, fs, path::Path};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// Writes beside the target first: a run that is killed leaves the previous file.
pub fn write(
    path: &Path,
    tensors: &[(String, Dtype, Vec<usize>, Vec<u8>)],
    meta: &[(&str, String)],
) -> Result<()> {
    let meta: HashMap<String, String> = meta.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
    let views = tensors.iter().map(|(name, dtype, shape, data)| {
        Ok::<_, Box<dyn Error>>((name.as_str(), TensorView::new(*dtype, shape.clone(), data)?))
    });
    let views: Vec<_> = views.collect::<Result<_>>()?;
    let beside = path.with_extension("part");
    fs::write(&beside, safetensors::serialize(views, Some(meta))?)?;
    fs::rename(beside, path)?;
    Ok(())
}

/// Saves parameters and optimizer.
pub fn save(path: &Path, params: &Params, optimizer: &AdamW, images: u64) -> Result<()> {
    let tensor = |name: &str, v: &[f32]| (name.to_owned(), Dtype::F32, vec![v.len()], bytes(v));
    let tensors = [tensor("params", &params.data), tensor("m", &optimizer.m), tensor("v", &optimizer.v)];
    write(path, &tensors, &[("images", images.to_string()), ("steps", optimizer.steps.to_string())])
}

/// Restores what [`save`] wrote; returns the number of images seen.
pub fn load(path: &Path, params: &mut Params, optimizer: &mut AdamW) -> Result<u64> {
    let file = fs::read(path)?;
    let (_, header) = SafeTensors::read_metadata(&file)?;
    let meta = header.metadata().clone().unwrap_or_default();
    let number = |key: &str| {
        meta.get(key).and_then(|v| v.parse::<u64>().ok()).ok_or("not a checkpoint of this program")
    };
    let tensors = SafeTensors::deserialize(&file)?;
    let data = floats(tensors.tensor("params")?.data());
    if data.len() != params.data.len() {
        return Err("the checkpoint belongs to another model".into());
    }
    params.data = data;
    optimizer.m = floats(tensors.tensor("m")?.data());
    optimizer.v = floats(tensors.tensor("v")?.data());
    optimizer.steps = number("steps")?;
    Ok(number("images")?)
}

/// Writes the model in published names and shapes, rounded to f16, and rounds `params` likewise, so that what is
/// evaluated afterwards is what is shipped.
pub fn export(path: &Path, params: &mut Params) -> Result<()> {
    let mut tensors = Vec::new();
    for id in 0..params.specs.len() {
        params.get_mut(id).iter_mut().for_each(|v| *v = f16::from_f32(*v).to_f32());
        let spec = &params.specs[id];
        if spec.shipped {
            let data = params.published(id).iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
            tensors.push((spec.name.clone(), Dtype::F16, spec.shape.clone(), data));
        }
    }
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    write(path, &tensors, &[("format", "pt".to_owned())])
}

/// Reads a shipped model.
pub fn import(path: &Path, params: &mut Params) -> Result<()> {
    let file = fs::read(path)?;
    let tensors = SafeTensors::deserialize(&file)?;
    for id in 0..params.specs.len() {
        if params.specs[id].shipped {
            let tensor = tensors.tensor(&params.specs[id].name)?;
            let values: Vec<f32> =
                tensor.data().chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect();
            params.set_published(id, &values);
        }
    }
    Ok(())
}

/// Plain f32 and integer tensors for comparing implementations.
pub fn f32_tensor(name: &str, shape: &[usize], values: &[f32]) -> (String, Dtype, Vec<usize>, Vec<u8>) {
    (name.to_owned(), Dtype::F32, shape.to_vec(), bytes(values))
}

/// See [`f32_tensor`].
pub fn i64_tensor(name: &str, shape: &[usize], values: &[i64]) -> (String, Dtype, Vec<usize>, Vec<u8>) {
    (name.to_owned(), Dtype::I64, shape.to_vec(), values.iter().flat_map(|v| v.to_le_bytes()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::params::Layout;

    #[test]
    fn exports_round_to_f16_and_come_back() {
        let declare = |value: f32| {
            let mut params = Params::default();
            params.add(
                "a.weight".into(),
                &[2, 1, 3, 3],
                Layout::Taps,
                (0..18).map(|i| value * i as f32).collect(),
            );
            params.add("aux.head.bias".into(), &[1], Layout::Plain, vec![5.0]);
            params
        };
        let path = std::env::temp_dir().join(format!("bitloupe-train-{}.safetensors", std::process::id()));
        let mut params = declare(0.1);
        export(&path, &mut params).unwrap();
        let mut other = declare(0.0);
        import(&path, &mut other).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(params.get(0), other.get(0));
        assert_eq!(other.get(0)[1], f16::from_f32(0.1).to_f32());
    }
}
