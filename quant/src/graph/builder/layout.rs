//! Nodes that move values: shapes, axes, parts, sizes.

use super::Scope;
use crate::exec::kernels::resize::Sampling;
use crate::graph::{NodeId, Op};
use crate::models::ModelError;

impl Scope<'_, '_> {
    /// The same values under another shape.
    pub fn reshape(&mut self, x: NodeId, shape: &[usize]) -> Result<NodeId, ModelError> {
        let from = self.shape(x);
        if from.iter().product::<usize>() != shape.iter().product::<usize>() {
            return self.fail("reshape", format!("{from:?} cannot become {shape:?}"));
        }
        let name = self.derived("reshape");
        self.builder.push(name, Op::Reshape, vec![x], shape.to_vec())
    }

    /// Axes in the order `axes`.
    pub fn permute(&mut self, x: NodeId, axes: &[usize]) -> Result<NodeId, ModelError> {
        let from = self.shape(x);
        let mut sorted = axes.to_vec();
        sorted.sort_unstable();
        if sorted != (0..from.len()).collect::<Vec<_>>() {
            return self.fail("permute", format!("{axes:?} is no order of the axes of {from:?}"));
        }
        let shape = axes.iter().map(|&axis| from[axis]).collect();
        let name = self.derived("permute");
        self.builder.push(name, Op::Permute(axes.to_vec()), vec![x], shape)
    }

    /// Cyclic shift by `(axis, by)` pairs.
    pub fn roll(&mut self, x: NodeId, shifts: &[(usize, isize)]) -> Result<NodeId, ModelError> {
        let (name, shape) = (self.derived("roll"), self.shape(x));
        self.builder.push(name, Op::Roll(shifts.to_vec()), vec![x], shape)
    }

    /// Zeros after the end of axes; nothing is added where nothing is asked for.
    pub fn pad(&mut self, x: NodeId, ends: &[(usize, usize)]) -> Result<NodeId, ModelError> {
        let ends: Vec<_> = ends.iter().copied().filter(|&(_, n)| n > 0).collect();
        if ends.is_empty() {
            return Ok(x);
        }
        let mut shape = self.shape(x);
        for &(axis, n) in &ends {
            shape[axis] += n;
        }
        let name = self.derived("pad");
        self.builder.push(name, Op::Pad { ends, fill: None }, vec![x], shape)
    }

    /// `len` entries of `axis` from `start`; the node itself if that is all of them.
    pub fn narrow(&mut self, x: NodeId, axis: usize, start: usize, len: usize) -> Result<NodeId, ModelError> {
        let mut shape = self.shape(x);
        if axis >= shape.len() || start + len > shape[axis] {
            return self
                .fail("narrow", format!("entries {start}..{} of axis {axis} of {shape:?}", start + len));
        }
        if shape[axis] == len {
            return Ok(x);
        }
        shape[axis] = len;
        let name = self.derived("narrow");
        self.builder.push(name, Op::Narrow { axis, start, len }, vec![x], shape)
    }

    /// Operands one after another along `axis`.
    pub fn concat(&mut self, operands: &[NodeId], axis: usize) -> Result<NodeId, ModelError> {
        let shapes: Vec<_> = operands.iter().map(|&x| self.shape(x)).collect();
        let Some(mut shape) = shapes.first().cloned() else {
            return self.fail("concat", "no operands".into());
        };
        let fits = axis < shape.len()
            && shapes
                .iter()
                .all(|s| s.len() == shape.len() && (0..s.len()).all(|i| i == axis || s[i] == shape[i]));
        if !fits {
            return self.fail("concat", format!("shapes {shapes:?} along axis {axis}"));
        }
        shape[axis] = shapes.iter().map(|s| s[axis]).sum();
        let name = self.derived("concat");
        self.builder.push(name, Op::Concat { axis }, operands.to_vec(), shape)
    }

    /// Bilinear resize of `[1, C, H, W]`.
    pub fn resize(
        &mut self,
        x: NodeId,
        (h, w): (usize, usize),
        align_corners: bool,
    ) -> Result<NodeId, ModelError> {
        self.resample(x, (h, w), Sampling::bilinear(align_corners))
    }

    /// Resize of `[1, C, H, W]`.
    pub fn resample(
        &mut self,
        x: NodeId,
        (h, w): (usize, usize),
        how: Sampling,
    ) -> Result<NodeId, ModelError> {
        let from = self.shape(x);
        if from.len() != 4 {
            return self.fail("resize", format!("expected [1, C, H, W], found {from:?}"));
        }
        let name = self.derived("resize");
        self.builder.push(name, Op::Resize(how), vec![x], vec![1, from[1], h, w])
    }
}
