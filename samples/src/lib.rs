//! The bundled model, its calibration set and samples, as files inside the program.
//!
//! `lavt-mini` is a miniature LAVT trained by `bitloupe-train` (beside this crate) on scenes it composes from openly
//! licensed emoji; `README.md` says how and under which licences. `lavt-mini-planted` is the same network with
//! difficulties planted into it by rescaling that does not change what it computes, to show what large published
//! models do; it is labelled so wherever it appears.

mod planted;

pub use planted::PlantError;

/// Files by name, relative to the model's folder.
pub type FileTable = &'static [(&'static str, &'static [u8])];

/// A model that comes with the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bundled {
    /// Its name, for `--sample`.
    pub name: &'static str,
    /// Shown wherever the name is.
    pub label: Option<&'static str>,
    /// Its files: `config.json`, `model.safetensors`, …, `calibration/samples.jsonl`, `evaluation/samples.jsonl`.
    pub files: FileTable,
    planted: bool,
}

const FILES: FileTable = include!(concat!(env!("OUT_DIR"), "/lavt_mini.rs"));

const BUNDLED: [Bundled; 2] = [
    Bundled { name: "lavt-mini", label: None, files: FILES, planted: false },
    Bundled { name: "lavt-mini-planted", label: Some("outliers planted"), files: FILES, planted: true },
];

/// All bundled models; the first is opened by default.
pub fn bundled() -> &'static [Bundled] {
    &BUNDLED
}

impl Bundled {
    /// Tensors that take the place of those in `model.safetensors`, by name; none for the model as trained.
    pub fn replacements(&self) -> Result<Vec<(String, Vec<f32>)>, PlantError> {
        if !self.planted {
            return Ok(Vec::new());
        }
        let weights = self.files.iter().find(|(name, _)| *name == "model.safetensors");
        planted::plant(weights.map_or(&[][..], |(_, bytes)| bytes))
    }
}
