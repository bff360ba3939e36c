//! SAM's prompt encoder: points and boxes become tokens, a mask becomes a map.

use super::config::Sizes;
use super::names::Names;
use super::positions::Gaussian;
use crate::exec::kernels::activation::Activation;
use crate::exec::kernels::elementwise::BinaryOp;
use crate::graph::{Conv, NodeId, Scope};
use crate::models::{InputShapes, ModelError};

/// The prompts that the graph has inputs for.
pub(super) struct Inputs {
    /// Points `[1, P, N, 2]` and their labels `[1, P, N]`.
    points: Option<(NodeId, NodeId)>,
    /// Whether corners of boxes and what stands in their place are among the points, with labels 2, 3 and -1.
    labelled: bool,
    /// `[1, P, 4]`: left, top, right, bottom.
    boxes: Option<NodeId>,
    /// `[1, 1, h, w]`.
    mask: Option<NodeId>,
}

/// Encoded prompts.
pub(super) struct Prompts {
    /// Tokens `[1, P, n, C]`, if there are points or boxes.
    pub(super) sparse: Option<NodeId>,
    /// Added to the image embeddings: `[1, C, s, s]`, or `[1, C, 1, 1]` without a mask.
    pub(super) dense: NodeId,
    /// How many prompts.
    pub(super) count: usize,
}

impl Inputs {
    /// Makes the inputs that are named in `shapes`; one prompt of one point if none is.
    pub(super) fn declare(
        g: &mut Scope<'_, '_>,
        shapes: &InputShapes,
        sizes: &Sizes,
    ) -> Result<Self, ModelError> {
        let named = |name: &str| shapes.contains(name);
        if let Some(shape) = shapes.get("point_coords") {
            let &[_, p, n, 2] = shape else {
                return wrong("point_coords", "expected [1, prompts, points, 2]");
            };
            let points = (g.input("point_coords", &[1, p, n, 2])?, g.input("point_labels", &[1, p, n])?);
            return Ok(Self { points: Some(points), labelled: true, boxes: None, mask: None });
        }
        let any = ["input_points", "input_labels", "input_boxes", "input_masks"].into_iter().any(named);
        let points = match (shapes.get("input_points"), shapes.get("input_labels")) {
            (Some(&[_, p, n, 2]), _) | (None, Some(&[_, p, n])) => Some((p, n)),
            (None, None) => (!any).then_some((1, 1)),
            _ => {
                return wrong(
                    "input_points",
                    "expected [1, prompts, points, 2] and labels [1, prompts, points]",
                );
            }
        };
        let boxes = match shapes.get("input_boxes") {
            Some(&[_, p, 4]) => Some(p),
            None => None,
            Some(_) => return wrong("input_boxes", "expected [1, prompts, 4]"),
        };
        if let (Some((p, _)), Some(q)) = (points, boxes)
            && p != q
        {
            return wrong(
                "input_boxes",
                &format!("{q} prompts with a box, {p} with points; give as many of both"),
            );
        }
        let mask = named("input_masks").then(|| 4 * sizes.grid());
        Ok(Self {
            points: points
                .map(|(p, n)| -> Result<_, ModelError> {
                    Ok((g.input("input_points", &[1, p, n, 2])?, g.input("input_labels", &[1, p, n])?))
                })
                .transpose()?,
            labelled: false,
            boxes: boxes.map(|p| g.input("input_boxes", &[1, p, 4])).transpose()?,
            mask: mask.map(|side| g.input("input_masks", &[1, 1, side, side])).transpose()?,
        })
    }
}

fn wrong<T>(input: &str, message: &str) -> Result<T, ModelError> {
    Err(ModelError::Input { input: input.to_owned(), message: message.to_owned() })
}

/// Encodes all prompts.
pub(super) fn encode(
    g: &mut Scope<'_, '_>,
    names: &Names,
    sizes: &Sizes,
    table: &Gaussian,
    inputs: &Inputs,
) -> Result<Prompts, ModelError> {
    let mut tokens = Vec::new();
    if let Some((points, labels)) = inputs.points {
        // Where no box follows, a token that is no point stands in its place.
        let end = match (inputs.labelled, inputs.boxes) {
            (true, _) => End::Given,
            (false, None) => End::NoPoint,
            (false, Some(_)) => End::Box,
        };
        tokens.push(self::points(g, names, sizes, table, (points, labels), end)?);
    }
    if let Some(boxes) = inputs.boxes {
        tokens.push(corners(g, names, sizes, table, boxes)?);
    }
    let count = tokens.first().map_or(1, |&token| g.shape(token)[1]);
    let sparse = match tokens[..] {
        [] => None,
        [alone] => Some(alone),
        _ => Some(g.concat(&tokens, 2)?),
    };
    let width = table.width();
    let dense = if let Some(mask) = inputs.mask {
        self::mask(g, names, sizes, mask)?
    } else {
        let none = g.read("no_mask_embed.weight", &[1, width])?;
        g.constant("no_mask_embed", &[1, width, 1, 1], none.to_vec())?
    };
    // All of them belong to the model, whichever prompts this graph is for.
    for kind in 0..4 {
        g.read(&format!("{}.{kind}.weight", names.points), &[1, width])?;
    }
    for embedding in ["not_a_point_embed.weight", "no_mask_embed.weight"] {
        g.read(embedding, &[1, width])?;
    }
    if inputs.mask.is_none() {
        unused_mask(g, names, width)?;
    }
    Ok(Prompts { sparse, dense, count })
}

/// A learned vector, as `[C]`.
fn vector(g: &mut Scope<'_, '_>, name: &str, width: usize) -> Result<NodeId, ModelError> {
    let values = g.read(&format!("{name}.weight"), &[1, width])?;
    g.constant(name, &[width], values.to_vec())
}

/// What comes after the points of a prompt.
#[derive(Clone, Copy, PartialEq)]
enum End {
    /// A token that is no point.
    NoPoint,
    /// The corners of a box.
    Box,
    /// What is among the points: corners have the labels 2 and 3.
    Given,
}

/// Points with labels to `[1, P, N, C]`, or one more where their end is to be made.
fn points(
    g: &mut Scope<'_, '_>,
    names: &Names,
    sizes: &Sizes,
    table: &Gaussian,
    (points, labels): (NodeId, NodeId),
    end: End,
) -> Result<NodeId, ModelError> {
    let shape = g.shape(labels);
    let (p, n) = (shape[1], shape[2]);
    let mut labels = g.reshape(labels, &[1, p, n, 1])?;
    let mut x = table.of_pixels(g, points, sizes.image)?;
    let width = table.width();
    if end == End::NoPoint {
        // Any place will do: the label -1 puts a learned vector there.
        x = g.pad(x, &[(2, 1)])?;
        g.reserve("padding", &[1, p, 1, 1])?;
        let none = g.constant("padding", &[1, p, 1, 1], vec![-1.0; p])?;
        labels = g.concat(&[labels, none], 2)?;
    }
    let mut is = |label: f32| -> Result<NodeId, ModelError> {
        let label = g.constant("label", &[1], vec![label])?;
        g.combine(BinaryOp::Equal, labels, label)
    };
    let (no_point, nothing) = (is(-1.0)?, is(-10.0)?);
    let mut kinds = vec![is(0.0)?, is(1.0)?];
    if end == End::Given {
        kinds.extend([is(2.0)?, is(3.0)?]);
    }
    let not_a_point = vector(g, "not_a_point_embed", width)?;
    x = g.select(no_point, not_a_point, x)?;
    let zero = g.constant("zero", &[1], vec![0.0])?;
    x = g.select(nothing, zero, x)?;
    for (kind, which) in kinds.into_iter().enumerate() {
        let learned = vector(g, &format!("{}.{kind}", names.points), width)?;
        let marked = g.add(x, learned)?;
        x = g.select(which, marked, x)?;
    }
    Ok(x)
}

/// Boxes to two tokens each, `[1, P, 2, C]`.
fn corners(
    g: &mut Scope<'_, '_>,
    names: &Names,
    sizes: &Sizes,
    table: &Gaussian,
    boxes: NodeId,
) -> Result<NodeId, ModelError> {
    let p = g.shape(boxes)[1];
    let corners = g.reshape(boxes, &[1, p, 2, 2])?;
    let x = table.of_pixels(g, corners, sizes.image)?;
    let width = table.width();
    let mut learned = Vec::with_capacity(2 * width);
    for kind in [2, 3] {
        learned.extend_from_slice(&g.read(&format!("{}.{kind}.weight", names.points), &[1, width])?);
    }
    let learned = g.constant("corners", &[2, width], learned)?;
    g.add(x, learned)
}

/// A mask `[1, 1, 4s, 4s]` (logits of an earlier answer) to a map `[1, C, s, s]`.
fn mask(g: &mut Scope<'_, '_>, names: &Names, sizes: &Sizes, mask: NodeId) -> Result<NodeId, ModelError> {
    let [conv1, norm1, conv2, norm2, conv3] = names.mask;
    let halve = Conv::new(2, 0);
    let x = g.conv(conv1, mask, halve)?;
    let x = g.channel_norm(norm1, x, sizes.prompt_eps)?;
    let x = g.activation("mask.act", Activation::Gelu, x)?;
    let x = g.conv(conv2, x, halve)?;
    let x = g.channel_norm(norm2, x, sizes.prompt_eps)?;
    let x = g.activation("mask.act", Activation::Gelu, x)?;
    g.conv(conv3, x, Conv::new(1, 0))
}

/// Reads what encodes masks where the graph has no input for one: all of a checkpoint must fit.
fn unused_mask(g: &mut Scope<'_, '_>, names: &Names, width: usize) -> Result<(), ModelError> {
    let [conv1, norm1, conv2, norm2, conv3] = names.mask;
    let channels =
        |conv: &str| g.param_shape(&format!("{conv}.weight")).and_then(|shape| shape.first().copied());
    let (c1, c2) = (channels(conv1).unwrap_or(0), channels(conv2).unwrap_or(0));
    for (part, weight) in [
        (conv1, vec![c1, 1, 2, 2]),
        (norm1, vec![c1]),
        (conv2, vec![c2, c1, 2, 2]),
        (norm2, vec![c2]),
        (conv3, vec![width, c2, 1, 1]),
    ] {
        g.read(&format!("{part}.weight"), &weight)?;
        g.read(&format!("{part}.bias"), &weight[..1])?;
    }
    Ok(())
}
