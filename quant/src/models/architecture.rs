//! The architectures that open, and how each is recognised.

use super::OwnSizes;
use super::source::Source;
use super::task::Task;
use super::{ModelError, bert, clip, clipseg, deit, detr, dinov2, lavt, sam, swin, vit, yolos};
use crate::data::{PreprocessorConfig, TextEncoder};
use crate::graph::Graph;

/// What an architecture makes of its files.
pub(crate) struct Built {
    /// The graph for one sample.
    pub(crate) graph: Graph,
    /// How a picture becomes `pixel_values`; none for models that see no picture.
    pub(crate) preprocessor: Option<PreprocessorConfig>,
    /// What may have another size in every sample.
    pub(crate) own_sizes: OwnSizes,
    /// How a sentence becomes `input_ids`; none for models that read none, or where the folder has no tokenizer.
    pub(crate) text: Option<TextEncoder>,
    /// What the outputs mean.
    pub(crate) task: Task,
}

/// One architecture.
pub(super) struct Architecture {
    /// Its name, as `info` and plans say it.
    pub(super) name: &'static str,
    /// Whether configuration or tensor names are its own.
    pub(super) recognises: fn(&Source<'_>) -> bool,
    /// Builds it.
    pub(super) build: fn(&Source<'_>) -> Result<Built, ModelError>,
}

/// All of them; the first that recognises a model builds it.
const ARCHITECTURES: &[Architecture] = &[
    Architecture { name: "lavt", recognises: lavt::recognises, build: lavt::open },
    Architecture { name: "bert", recognises: bert::recognises, build: bert::open },
    Architecture { name: "clip", recognises: clip::recognises, build: clip::open },
    Architecture { name: "clipseg", recognises: clipseg::recognises, build: clipseg::open },
    Architecture { name: "dinov2", recognises: dinov2::recognises, build: dinov2::open },
    Architecture { name: "deit", recognises: deit::recognises, build: deit::open },
    Architecture { name: "vit", recognises: vit::recognises, build: vit::open },
    Architecture { name: "yolos", recognises: yolos::recognises, build: yolos::open },
    Architecture { name: "swin", recognises: swin::recognises, build: swin::open },
    Architecture { name: "mobile_sam", recognises: sam::recognises_mobile, build: sam::open_mobile },
    Architecture { name: "sam", recognises: sam::recognises, build: sam::open },
    Architecture { name: "detr", recognises: detr::recognises, build: detr::open },
];

/// The architecture of a model.
pub(super) fn of(source: &Source<'_>) -> Result<&'static Architecture, ModelError> {
    ARCHITECTURES.iter().find(|architecture| (architecture.recognises)(source)).ok_or_else(|| {
        let known: Vec<&str> = ARCHITECTURES.iter().map(|architecture| architecture.name).collect();
        let what = match source.model_type() {
            _ if source.config.is_none() => {
                "no such file, and the names of the tensors are not those of an architecture".to_owned()
            }
            "" => "neither `model_type` nor the names of the tensors are those of an architecture".to_owned(),
            kind => format!("`model_type` is `{kind}`"),
        };
        source.wrong(format!("{what}; this version opens {}", known.join(", ")))
    })
}
