//! Moving values: permute, roll, pad, slice, concatenate, gather. All copy to a contiguous output.

use super::parallel;

/// `out = x` with axis `order[i]` of `shape` as axis `i`.
pub fn permute(x: &[f32], shape: &[usize], order: &[usize], out: &mut [f32]) {
    assert_eq!(x.len(), shape.iter().product::<usize>(), "tensor of {shape:?}");
    assert_eq!(out.len(), x.len(), "output of {shape:?}");
    let mut seen = vec![false; shape.len()];
    for &axis in order {
        assert!(
            axis < seen.len() && !std::mem::replace(&mut seen[axis], true),
            "order {order:?} of {shape:?}"
        );
    }
    assert_eq!(order.len(), shape.len(), "order {order:?} of {shape:?}");
    if x.is_empty() {
        return;
    }
    let strides = strides_of(shape);
    // Output axes as (size, input stride); neighbours that stay together become one.
    let mut axes: Vec<(usize, usize)> = Vec::new();
    for (size, stride) in
        order.iter().map(|&axis| (shape[axis], strides[axis])).filter(|&(size, _)| size != 1)
    {
        match axes.last_mut() {
            Some((last, step)) if *step == size * stride => (*last, *step) = (*last * size, stride),
            _ => axes.push((size, stride)),
        }
    }
    if axes.len() < 2 {
        out.copy_from_slice(x);
        return;
    }
    let row = out.len() / axes[0].0;
    parallel::for_rows(out, row, row, |first, rows| {
        let mut part = axes.clone();
        part[0].0 = rows.len() / row;
        move_axes(&x[first * axes[0].1..], &part, rows);
    });
}

/// Distance of neighbours along each axis of a contiguous tensor.
fn strides_of(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i];
    }
    strides
}

/// Fills `out`, whose axes are `(size, input stride)`.
fn move_axes(x: &[f32], axes: &[(usize, usize)], out: &mut [f32]) {
    match axes {
        [] => out.copy_from_slice(&x[..1]),
        &[(size, 1)] => out.copy_from_slice(&x[..size]),
        &[(_, stride)] => out.iter_mut().zip(x.iter().step_by(stride)).for_each(|(o, &v)| *o = v),
        &[(rows, 1), (cols, stride)] => transpose(x, rows, cols, stride, out),
        [(_, stride), rest @ ..] if axes.last().is_some_and(|a| a.1 == 1) || !bring_unit_inward(axes) => {
            let row = rest.iter().map(|a| a.0).product::<usize>();
            if let &[(size, 1)] = rest {
                for (line, source) in out.chunks_exact_mut(size).zip(x.chunks(*stride)) {
                    line.copy_from_slice(&source[..size]);
                }
            } else {
                for (i, line) in out.chunks_exact_mut(row).enumerate() {
                    move_axes(&x[i * stride..], rest, line);
                }
            }
        }
        _ => transpose_across(x, axes, out),
    }
}

/// Whether the outermost axis is the contiguous one of the input, with axes between it and the innermost.
fn bring_unit_inward(axes: &[(usize, usize)]) -> bool {
    axes[0].1 == 1
}

/// The outermost axis is contiguous in the input: the axes between become loops around a transposition whose
/// output rows lie apart.
fn transpose_across(x: &[f32], axes: &[(usize, usize)], out: &mut [f32]) {
    let (rows, &(cols, stride)) = (axes[0].0, &axes[axes.len() - 1]);
    let between = &axes[1..axes.len() - 1];
    let count = between.iter().map(|a| a.0).product::<usize>();
    for block in 0..count {
        let (mut rest, mut offset) = (block, 0);
        for &(size, stride) in between.iter().rev() {
            offset += rest % size * stride;
            rest /= size;
        }
        transpose_into(&x[offset..], rows, cols, stride, &mut out[block * cols..], count * cols);
    }
}

fn transpose(x: &[f32], rows: usize, cols: usize, stride: usize, out: &mut [f32]) {
    transpose_into(x, rows, cols, stride, out, cols);
}

/// `out[r · out_stride + c] = x[c · stride + r]`, in blocks that stay in the first cache.
fn transpose_into(x: &[f32], rows: usize, cols: usize, stride: usize, out: &mut [f32], out_stride: usize) {
    // Eight lines of the input at a time: more would compete for the same cache sets when they lie a multiple of
    // 4 KiB apart.
    const HEIGHT: usize = 16;
    const WIDTH: usize = 8;
    for row in (0..rows).step_by(HEIGHT) {
        let height = HEIGHT.min(rows - row);
        for col in (0..cols).step_by(WIDTH) {
            let width = WIDTH.min(cols - col);
            for r in row..row + height {
                let line = &mut out[r * out_stride + col..][..width];
                for (o, source) in line.iter_mut().zip(x[col * stride + r..].iter().step_by(stride)) {
                    *o = *source;
                }
            }
        }
    }
}

/// `out[i] = x[i - shift]` along `axis`, wrapping around (`torch.roll`).
pub fn roll(x: &[f32], shape: &[usize], axis: usize, shift: isize, out: &mut [f32]) {
    assert_eq!(x.len(), shape.iter().product::<usize>(), "tensor of {shape:?}");
    assert_eq!(out.len(), x.len(), "output of {shape:?}");
    if x.is_empty() {
        return;
    }
    let block = shape[axis..].iter().product::<usize>();
    let by = shift.rem_euclid(shape[axis] as isize) as usize * (block / shape[axis]);
    parallel::for_rows(out, block, block, |first, rows| {
        let source = x[first * block..].chunks_exact(block);
        for (line, source) in rows.chunks_exact_mut(block).zip(source) {
            line[by..].copy_from_slice(&source[..block - by]);
            line[..by].copy_from_slice(&source[block - by..]);
        }
    });
}

/// Surrounds `x` with zeros: `pads` holds (before, after) per axis.
pub fn pad(x: &[f32], shape: &[usize], pads: &[(usize, usize)], fill: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), shape.iter().product::<usize>(), "tensor of {shape:?}");
    assert_eq!(shape.len(), pads.len(), "pads of {shape:?}");
    let padded: Vec<usize> = shape.iter().zip(pads).map(|(s, (b, a))| s + b + a).collect();
    assert_eq!(out.len(), padded.iter().product::<usize>(), "output of {padded:?}");
    if fill.is_empty() {
        out.fill(0.0);
    } else {
        assert_eq!(padded.last(), Some(&fill.len()), "one value per entry of the last axis of {padded:?}");
        out.chunks_exact_mut(fill.len()).for_each(|row| row.copy_from_slice(fill));
    }
    if x.is_empty() {
        return;
    }
    let Some(axis) = pads.iter().rposition(|&pad| pad != (0, 0)) else {
        return out.copy_from_slice(x);
    };
    // Runs of the input that stay contiguous end at the last padded axis.
    let run = shape[axis..].iter().product::<usize>();
    let strides = strides_of(&padded);
    for (i, values) in x.chunks_exact(run).enumerate() {
        let (mut rest, mut at) = (i, pads[axis].0 * strides[axis]);
        for d in (0..axis).rev() {
            at += (rest % shape[d] + pads[d].0) * strides[d];
            rest /= shape[d];
        }
        out[at..at + run].copy_from_slice(values);
    }
}

/// `length` entries of `axis` from `start` on.
pub fn narrow(x: &[f32], shape: &[usize], axis: usize, start: usize, length: usize, out: &mut [f32]) {
    assert_eq!(x.len(), shape.iter().product::<usize>(), "tensor of {shape:?}");
    assert!(start + length <= shape[axis], "{start}+{length} of axis {axis} of {shape:?}");
    let inner = shape[axis + 1..].iter().product::<usize>();
    let outer = shape[..axis].iter().product::<usize>();
    assert_eq!(out.len(), outer * length * inner, "output of {length} entries of axis {axis} of {shape:?}");
    let block = shape[axis] * inner;
    parallel::for_rows(out, length * inner, length * inner, |first, rows| {
        for (i, line) in rows.chunks_exact_mut(length * inner).enumerate() {
            line.copy_from_slice(&x[(first + i) * block + start * inner..][..length * inner]);
        }
    });
}

/// Joins tensors along an axis. Each part is given with the product of its dimensions from that axis on.
pub fn concat(parts: &[(&[f32], usize)], outer: usize, out: &mut [f32]) {
    let row = parts.iter().map(|part| part.1).sum::<usize>();
    assert_eq!(out.len(), outer * row, "output of {outer} x {row}");
    for (data, length) in parts {
        assert_eq!(data.len(), outer * length, "part of {outer} x {length}");
    }
    parallel::for_rows(out, row, row, |first, rows| {
        for (i, line) in rows.chunks_exact_mut(row).enumerate() {
            let mut at = 0;
            for (data, length) in parts {
                line[at..at + length].copy_from_slice(&data[(first + i) * length..][..*length]);
                at += length;
            }
        }
    });
}

/// `out[i, :] = table[indices[i], :]`, rows of `width` values: an embedding.
pub fn gather_rows(table: &[f32], width: usize, indices: &[u32], out: &mut [f32]) {
    assert_eq!(out.len(), indices.len() * width, "output of {} x {width}", indices.len());
    parallel::for_rows(out, width, width, |first, rows| {
        for (line, &index) in rows.chunks_exact_mut(width).zip(&indices[first..]) {
            line.copy_from_slice(&table[index as usize * width..][..width]);
        }
    });
}

#[cfg(test)]
mod tests;
