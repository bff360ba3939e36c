//! Encodings that a quantized file carries, by the sites of its layers.

use super::flow::{Code, Flow, Id, Op};
use crate::terms::SiteId;

/// How a site is stored in the file: `value = scale · (code − zero_point)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoding {
    /// The operand of a layer.
    pub site: SiteId,
    /// Width of a code.
    pub bits: u8,
    /// Whether codes have a sign.
    pub signed: bool,
    /// Whether zero is the middle of the codes.
    pub symmetric: bool,
    /// One scale, or one per entry of `axis`; none if the scale is found anew for every value.
    pub scale: Vec<f32>,
    /// One zero point, or one per entry of `axis`.
    pub zero_point: Vec<i64>,
    /// Which axis of the operand the scales belong to.
    pub axis: Option<usize>,
}

impl Encoding {
    /// Whether the scale is found for every value while the model runs.
    pub fn is_dynamic(&self) -> bool {
        self.scale.is_empty()
    }

    pub(super) fn new(site: SiteId, code: Code) -> Self {
        let middle = if code.signed { 0 } else { 1_i64 << (code.bits - 1) };
        let zero_point = if code.zero_point.is_empty() { vec![0] } else { code.zero_point };
        Self {
            site,
            bits: code.bits,
            signed: code.signed,
            symmetric: !code.dynamic && zero_point.iter().all(|&z| z == middle),
            scale: if code.dynamic { vec![] } else { code.scale },
            zero_point,
            axis: code.axis,
        }
    }
}

/// The encoding of a value, or of the value that it is another arrangement of.
pub(super) fn of(flow: &Flow, id: Id) -> Option<Code> {
    let mut at = id;
    loop {
        let complete = |code: &&Code| code.dynamic || !code.scale.is_empty();
        if let Some(code) = flow.codes.get(&at).filter(complete) {
            // Along which axis a rearranged value has its scales is not followed.
            let kept = at == id || code.axis.is_none();
            return kept.then(|| code.clone());
        }
        let step = flow.step(at);
        match step.op {
            Op::Reshape(_) | Op::Permute(_) | Op::Slice { .. } | Op::Expand(_) | Op::Pad(_) => {
                at = step.inputs[0];
            }
            _ => return None,
        }
    }
}
