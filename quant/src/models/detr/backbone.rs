//! DETR's backbone: ResNet (He et al., CVPR 2016) with frozen batch normalisation, in two namings.

use super::config::DetrConfig;
use crate::exec::kernels::activation::Activation;
use crate::exec::kernels::pool::{PoolKind, Pooling};
use crate::graph::{Conv, NodeId, Scope};
use crate::models::ModelError;
use crate::models::numbered::count_in;

/// Epsilon of DETR's frozen normalisation.
const EPS: f32 = 1e-5;

/// Names within the backbone, and what they tell about it.
struct Naming {
    /// The stem's convolution, normalisation, activation.
    stem: [&'static str; 3],
    /// A stage by its number from 0.
    stage: fn(usize) -> String,
    /// Convolution `i` from 0 of a block, its normalisation, its activation.
    conv: fn(usize) -> [String; 3],
    /// Convolution and normalisation of a shortcut.
    shortcut: [&'static str; 2],
}

/// timm: `layer1.0.conv1`.
const TIMM: Naming = Naming {
    stem: ["conv1", "bn1", "act1"],
    stage: |i| format!("layer{}", i + 1),
    conv: |i| ["conv", "bn", "act"].map(|part| format!("{part}{}", i + 1)),
    shortcut: ["downsample.0", "downsample.1"],
};

/// Hugging Face: `encoder.stages.0.layers.0.layer.0.convolution`.
const HF: Naming = Naming {
    stem: [
        "embedder.embedder.convolution",
        "embedder.embedder.normalization",
        "embedder.embedder.activation",
    ],
    stage: |i| format!("encoder.stages.{i}.layers"),
    conv: |i| ["convolution", "normalization", "activation"].map(|part| format!("layer.{i}.{part}")),
    shortcut: ["shortcut.convolution", "shortcut.normalization"],
};

impl Naming {
    /// The first tensor of a block of a stage.
    fn first(&self, stage: usize, block: usize) -> String {
        let [conv, ..] = (self.conv)(0);
        format!("{}.{block}.{conv}.weight", (self.stage)(stage))
    }
}

/// Picture `[1, 3, H, W]` to the map of the last stage, `[1, C, H/32, W/32]`.
pub(super) fn features(
    g: &mut Scope<'_, '_>,
    config: &DetrConfig,
    pixels: NodeId,
) -> Result<NodeId, ModelError> {
    let hf = g.param_shape(&format!("{}.weight", HF.stem[0])).is_some();
    let naming = if hf { HF } else { TIMM };
    let [conv, norm, act] = naming.stem;
    let x = normalised(g, [conv, norm], pixels, Conv::new(2, 3))?;
    let x = g.activation(act, Activation::Relu, x)?;
    let windows = Pooling { kind: PoolKind::Max, kernel: [3; 2], stride: [2; 2], padding: [1; 4] };
    let halved = |size: usize| size.div_ceil(2);
    let (h, w) = (g.shape(x)[2], g.shape(x)[3]);
    let mut x = g.pool("maxpool", x, windows, (halved(h), halved(w)))?;
    // At least one of each, so that a missing tensor is named.
    let stages = count_in(g, |i| naming.first(i, 0)).max(1);
    for stage in 0..stages {
        let halves = stage > 0 || (hf && config.first_stage_halves());
        let dilated = !hf && config.dilated() && stage == 3;
        let blocks = count_in(g, |i| naming.first(stage, i)).max(1);
        for block in 0..blocks {
            let geometry = Place {
                stride: if block == 0 && halves && !dilated { 2 } else { 1 },
                // timm: the first block of a dilated stage still has the dilation of the stage before.
                dilation: if dilated && block > 0 { 2 } else { 1 },
                first: hf && config.bottleneck_halves(),
            };
            let path = format!("{}.{block}", (naming.stage)(stage));
            x = self::block(&mut g.at(path), &naming, x, geometry)?;
        }
    }
    Ok(x)
}

/// What a block does to the grid.
struct Place {
    stride: usize,
    dilation: usize,
    /// Whether the first 1x1 convolution of a bottleneck has the stride.
    first: bool,
}

/// A bottleneck (1x1, 3x3, 1x1) or a basic block (3x3, 3x3), with a residual.
fn block(g: &mut Scope<'_, '_>, naming: &Naming, x: NodeId, place: Place) -> Result<NodeId, ModelError> {
    let weight = |i: usize| format!("{}.weight", (naming.conv)(i)[0]);
    let bottleneck = g.param_shape(&weight(2)).is_some();
    let count = if bottleneck { 3 } else { 2 };
    let strided = usize::from(bottleneck && !place.first);
    let mut y = x;
    for i in 0..count {
        let [conv, norm, act] = (naming.conv)(i);
        let stride = if i == strided { place.stride } else { 1 };
        let wide = !bottleneck || i == 1;
        let geometry = if wide {
            Conv { dilation: [place.dilation; 2], ..Conv::new(stride, place.dilation) }
        } else {
            Conv::new(stride, 0)
        };
        y = normalised(g, [&conv, &norm], y, geometry)?;
        if i + 1 < count {
            y = g.activation(&act, Activation::Relu, y)?;
        }
    }
    let [conv, norm] = naming.shortcut;
    let shortcut = if g.param_shape(&format!("{conv}.weight")).is_some() {
        normalised(g, [conv, norm], x, Conv::new(place.stride, 0))?
    } else {
        x
    };
    let y = g.add(y, shortcut)?;
    g.activation("act", Activation::Relu, y)
}

/// A convolution and its normalisation.
fn normalised(
    g: &mut Scope<'_, '_>,
    [conv, norm]: [&str; 2],
    x: NodeId,
    geometry: Conv,
) -> Result<NodeId, ModelError> {
    let y = g.conv(conv, x, geometry)?;
    g.batch_norm(norm, y, EPS)
}
