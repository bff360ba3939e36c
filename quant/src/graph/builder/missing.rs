//! Building on when tensors are missing, so that one error names all of them: a tensor that is not there gets a stand-in,
//! a shape without values. The shape is what the architecture asks for, or is guessed from tensors of the same name in
//! other layers. A wrong guess can only end the list early: a graph with stand-ins is never finished.

use super::{Builder, Scope};
use crate::graph::{Conv, Param, ParamId};
use crate::models::ModelError;

/// Stand-ins with more values than this have no values to read while building (256 MiB of f32).
const MAX_READ: usize = 1 << 26;
/// Most stand-ins; a configuration may ask for millions.
const MAX_MISSING: usize = 4096;

impl Builder<'_> {
    /// A stand-in for a missing tensor; without a shape, or after too many, the error that names what is missing.
    pub(super) fn stand_in(
        &mut self,
        name: &str,
        shape: Option<Vec<usize>>,
        values: bool,
    ) -> Result<ParamId, ModelError> {
        let count = self.weights.note_missing(name);
        let numbers = shape.as_ref().and_then(|s| s.iter().try_fold(1_usize, |all, &n| all.checked_mul(n)));
        let (Some(shape), Some(numbers)) = (shape, numbers) else { return Err(self.weights.missing()) };
        if count >= MAX_MISSING || values && numbers > MAX_READ {
            return Err(self.weights.missing());
        }
        let data = vec![0.0; if values { numbers } else { 0 }].into();
        let id = ParamId(self.graph.params.len() as u32);
        self.graph.params.push(Param { name: name.to_owned(), shape, data });
        self.params.insert(name.to_owned(), id);
        Ok(id)
    }

    /// Whether a tensor of this name is there, or its stand-in.
    fn is_missing(&self, name: &str) -> bool {
        !self.params.contains_key(name) && self.weights.shape(name).is_none()
    }

    /// Shapes of the tensors whose names differ from this one only in numbers, those of nearer layers first.
    fn sisters(&self, name: &str) -> Vec<Vec<usize>> {
        let parts: Vec<&str> = name.split('.').collect();
        let differ = |other: &str| {
            let others: Vec<&str> = other.split('.').collect();
            let alike = |(a, b): (&&str, &&str)| a == b || is_number(a) && is_number(b);
            let same = others.len() == parts.len() && others.iter().zip(&parts).all(alike);
            // The first number that differs: the later it stands, the nearer is the layer.
            same.then(|| others.iter().zip(&parts).position(|(a, b)| a != b).unwrap_or(0))
        };
        let mut found: Vec<(usize, &str)> =
            self.weights.names().filter_map(|other| Some((differ(other)?, other))).collect();
        found.sort_by_key(|&(place, _)| std::cmp::Reverse(place));
        found.into_iter().filter_map(|(_, other)| self.weights.shape(other)).collect()
    }

    /// Whether a bias of this whole name belongs to the model: other layers have theirs. The last module is the same in
    /// all of them, since the numbers of a sequence stand for modules of different kinds.
    pub(super) fn lacks_bias(&self, name: &str) -> bool {
        if !self.weights.are_regular() {
            return false;
        }
        let Some((layer, module)) = name
            .strip_suffix(".bias")
            .and_then(|path| path.rsplit_once('.'))
            .filter(|(_, module)| !is_number(module))
        else {
            return false;
        };
        let Some((stack, _)) = layer.split_once(|c: char| c.is_ascii_digit()) else { return false };
        let end = format!(".{module}.bias");
        let candidates =
            || self.weights.names().filter(|other| other.starts_with(stack) && other.ends_with(&end));
        let parts: Vec<&str> = name.split('.').collect();
        candidates().any(|other| {
            let others: Vec<&str> = other.split('.').collect();
            let alike = |(a, b): (&&str, &&str)| a == b || is_number(a) && is_number(b);
            others.len() == parts.len() && others.iter().zip(&parts).all(alike)
        })
    }
}

impl Scope<'_, '_> {
    /// The weight of a linear layer over `width` numbers, or its stand-in.
    pub(super) fn linear_weight(
        &mut self,
        name: &str,
        bias: &str,
        width: usize,
    ) -> Result<ParamId, ModelError> {
        if !self.builder.is_missing(name) {
            return self.builder.param(name, None);
        }
        let sisters = self.builder.sisters(name);
        let matrices = || sisters.iter().filter_map(|shape| <[usize; 2]>::try_from(shape.as_slice()).ok());
        // As many outputs as in a layer of the same width, as there are biases, in the same proportion, or as inputs.
        let out = matrices()
            .find_map(|[out, inner]| (inner == width).then_some(out))
            .or_else(|| self.builder.weights.shape(bias)?.first().copied())
            .or_else(|| matrices().find_map(|[out, inner]| (out * width).checked_div(inner)))
            .unwrap_or(width);
        self.builder.stand_in(name, Some(vec![out, width]), false)
    }

    /// The weight of a convolution of an input `[N, C, …]`, or its stand-in.
    pub(super) fn conv_weight(
        &mut self,
        name: &str,
        bias: &str,
        input: &[usize],
        geometry: Conv,
    ) -> Result<ParamId, ModelError> {
        if !self.builder.is_missing(name) {
            return self.builder.param(name, None);
        }
        let inner = input.get(1).map_or(1, |channels| channels / geometry.groups.max(1));
        let sisters = self.builder.sisters(name);
        let of_rank = || sisters.iter().filter(|shape| shape.len() == input.len());
        let shape = of_rank().find(|shape| shape[1] == inner).cloned().or_else(|| {
            let bias = self.builder.weights.shape(bias).and_then(|shape| shape.first().copied());
            let wider = of_rank().find_map(|shape| (shape[0] * inner).checked_div(shape[1]));
            let kernel = match of_rank().next() {
                Some(shape) => shape[2..].to_vec(),
                // One that keeps the size with this padding.
                None => {
                    (0..input.len().saturating_sub(2)).map(|axis| 2 * geometry.padding[axis] + 1).collect()
                }
            };
            let out = bias.or(wider).unwrap_or(inner * geometry.groups);
            Some([vec![out, inner], kernel].concat())
        });
        self.builder.stand_in(name, shape, false)
    }

    /// The weight of a transposed convolution of an input `[N, C, H, W]`, or its stand-in.
    pub(super) fn conv_transpose_weight(
        &mut self,
        name: &str,
        bias: &str,
        input: &[usize],
        geometry: Conv,
    ) -> Result<ParamId, ModelError> {
        if !self.builder.is_missing(name) {
            return self.builder.param(name, None);
        }
        let shape = self.builder.weights.shape(bias).and_then(|bias| {
            Some(vec![*input.get(1)?, *bias.first()?, geometry.stride[0], geometry.stride[1]])
        });
        self.builder.stand_in(name, shape, false)
    }

    /// A table of rows, or its stand-in, whose width is that of what stands beside it.
    pub(super) fn table(&mut self, name: &str) -> Result<ParamId, ModelError> {
        if !self.builder.is_missing(name) {
            return self.builder.param(name, None);
        }
        let module = name.strip_suffix(".weight").unwrap_or(name);
        let beside = module.rsplit_once('.').map_or("", |(path, _)| path);
        let weights = self.builder.weights;
        let inside = |other: &&str| other.strip_prefix(beside).is_some_and(|rest| rest.starts_with('.'));
        let width = weights
            .names()
            .filter(inside)
            .filter_map(|other| weights.shape(other))
            .find_map(|shape| shape.last().copied());
        self.builder.stand_in(name, width.map(|width| vec![1, width]), false)
    }
}

fn is_number(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
}
