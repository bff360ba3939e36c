//! Convolutions as linear layers: what each of their outputs is made of.

use crate::exec::Value;
use crate::graph::Conv;

/// What the output at a position of a convolution without groups is made of, `[channels, kernel…]`; zeros outside.
///
/// `weight` is the shape of the weight, `position` counts outputs of which `width` make a line; `row` is added to.
pub(super) fn patch(
    value: &Value,
    weight: &[usize],
    g: Conv,
    position: usize,
    width: usize,
    row: &mut Vec<f32>,
) {
    let (shape, values) = (value.shape(), value.as_slice());
    // `[1, C, W]` is one line of a picture.
    let (kernel, size) = match (weight, shape) {
        ([_, _, kw], [_, _, w]) => ([1, *kw], [1, *w]),
        ([_, _, kh, kw], [_, _, h, w]) => ([*kh, *kw], [*h, *w]),
        _ => return,
    };
    let corner = [position / width.max(1) * g.stride[0], position % width.max(1) * g.stride[1]];
    let flat = shape.len() == 3;
    let top = if flat { 0 } else { g.padding[0] };
    for plane in values.chunks_exact((size[0] * size[1]).max(1)) {
        for dy in 0..kernel[0] {
            for dx in 0..kernel[1] {
                let y = (corner[0] + dy * g.dilation[0]).checked_sub(top);
                let x = (corner[1] + dx * g.dilation[1]).checked_sub(g.padding[1]);
                row.push(match (y, x) {
                    (Some(y), Some(x)) if y < size[0] && x < size[1] => plane[y * size[1] + x],
                    _ => 0.0,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::patch;
    use crate::exec::Value;
    use crate::graph::Conv;

    #[test]
    fn patches_have_zeros_around_the_picture() {
        let picture = Value::new(vec![1, 2, 2, 3], (1..=12).map(|i| i as f32).collect());
        let g = Conv { stride: [1, 2], padding: [1, 1, 0, 0], dilation: [1, 1], groups: 1 };
        let at = |position: usize| {
            let mut row = Vec::new();
            patch(&picture, &[5, 2, 2, 2], g, position, 2, &mut row);
            row
        };
        assert_eq!(at(0), [0., 0., 0., 1., 0., 0., 0., 7.]);
        assert_eq!(at(3), [2., 3., 5., 6., 8., 9., 11., 12.]);
        let line = Value::new(vec![1, 2, 3], (1..=6).map(|i| i as f32).collect());
        let mut row = Vec::new();
        patch(&line, &[5, 2, 2], Conv::new(1, 1), 0, 4, &mut row);
        assert_eq!(row, [0., 1., 0., 4.]);
    }
}
