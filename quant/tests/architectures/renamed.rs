//! A fixture's checkpoint under other names, as other publishers save it.

use std::path::Path;

use bitloupe_quant::models::ModelFiles;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

use crate::fixture::Fixture;

/// A folder with the fixture's tensors, called what `name` says; it lasts as long as the folder is kept.
pub(crate) struct Renamed(tempfile::TempDir);

impl Renamed {
    /// Writes it; other files of the fixture are copied under their own names.
    pub(crate) fn new(fixture: &Fixture, name: impl Fn(&str) -> String, copied: &[&str]) -> Self {
        let bytes = std::fs::read(fixture.path("model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensors: Vec<(String, TensorView<'_>)> =
            file.iter().map(|(old, view)| (name(old), view)).collect();
        let folder = tempfile::tempdir().unwrap();
        let written = safetensors::serialize(tensors, None).unwrap();
        std::fs::write(folder.path().join("model.safetensors"), written).unwrap();
        for file in copied {
            std::fs::copy(fixture.path(file), folder.path().join(file)).unwrap();
        }
        Self(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn files(&self) -> ModelFiles {
        ModelFiles::Path(self.path().to_owned())
    }
}
