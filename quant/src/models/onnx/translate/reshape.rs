//! Operators that move values or ask for shapes.

use super::super::flow::{Id, Op};
use super::super::tensor::{Data, Dtype, numbers};
use super::Handler;
use super::call::{Call, Fail, axis, size};

pub(super) fn handler(op: &str) -> Option<Handler> {
    Some(match op {
        "Shape" => shape,
        "Size" => |call| {
            let x = call.operand(0)?;
            let count = numbers(&call.shape(x)).unwrap_or(0) as i64;
            Ok(vec![call.flow.constant(vec![], Dtype::INT, Data::ints(vec![count]))?])
        },
        "Reshape" => reshape,
        "Flatten" => |call| {
            let x = call.operand(0)?;
            let shape = call.shape(x);
            let at = call.int("axis", 1);
            let at = if at == shape.len() as i64 { shape.len() } else { axis(at, shape.len())? };
            let to = vec![shape[..at].iter().product(), shape[at..].iter().product()];
            Ok(vec![call.reshape(x, to)?])
        },
        "Squeeze" => squeeze,
        "Unsqueeze" => unsqueeze,
        "Transpose" => |call| {
            let x = call.operand(0)?;
            let rank = call.rank(x);
            let order = match call.ints("perm") {
                Some(order) => order.iter().map(|&a| axis(a, rank)).collect::<Result<_, _>>()?,
                None => (0..rank).rev().collect::<Vec<_>>(),
            };
            Ok(vec![call.permute(x, &order)?])
        },
        "Expand" => expand,
        "Tile" => tile,
        "Concat" => |call| {
            let parts = call.operands();
            let first = call.operand(0)?;
            let along = call.axis("axis", 0, call.rank(first))?;
            // Empty parts are common where nothing is padded.
            let kept: Vec<Id> =
                parts.iter().copied().filter(|&p| call.flow.shape(p).get(along) != Some(&0)).collect();
            let parts = if kept.is_empty() { vec![first] } else { kept };
            Ok(vec![call.concat(&parts, along)?])
        },
        "Split" => split,
        "Slice" => slice,
        "Pad" => pad,
        "DepthToSpace" => depth_to_space,
        "SpaceToDepth" => space_to_depth,
        _ => return None,
    })
}

fn shape(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    let x = call.operand(0)?;
    let shape: Vec<i64> = call.shape(x).iter().map(|&n| n as i64).collect();
    let rank = shape.len() as i64;
    let place = |at: i64| (if at < 0 { at.saturating_add(rank) } else { at }).clamp(0, rank) as usize;
    let (start, end) = (place(call.int("start", 0)), place(call.int("end", rank)));
    Ok(vec![call.flow.ints(shape[start..end.max(start)].to_vec())?])
}

fn reshape(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    let x = call.operand(0)?;
    let from = call.shape(x);
    let wanted = call.list("shape", 1)?.ok_or("its shape is missing")?;
    let keep_zero = call.flag("allowzero", false);
    let mut to = Vec::with_capacity(wanted.len());
    let mut open = None;
    for (i, &n) in wanted.iter().enumerate() {
        to.push(match n {
            -1 if open.is_none() => {
                open = Some(i);
                1
            }
            0 if !keep_zero => *from.get(i).ok_or_else(|| format!("{from:?} cannot become {wanted:?}"))?,
            n => size(n)?,
        });
    }
    if let Some(open) = open {
        let (all, rest) = (numbers(&from).unwrap_or(0), numbers(&to).unwrap_or(0));
        if rest == 0 || !all.is_multiple_of(rest) {
            return Err(format!("{from:?} cannot become {wanted:?}").into());
        }
        to[open] = all / rest;
    }
    Ok(vec![call.reshape(x, to)?])
}

fn squeeze(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    let x = call.operand(0)?;
    let from = call.shape(x);
    let gone: Vec<usize> = match call.list("axes", 1)? {
        Some(axes) => axes.iter().map(|&a| axis(a, from.len())).collect::<Result<_, _>>()?,
        None => (0..from.len()).filter(|&a| from[a] == 1).collect(),
    };
    let to = (0..from.len()).filter(|a| !gone.contains(a)).map(|a| from[a]).collect();
    Ok(vec![call.reshape(x, to)?])
}

fn unsqueeze(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    let x = call.operand(0)?;
    let from = call.shape(x);
    let axes = call.list("axes", 1)?.ok_or("its axes are missing")?;
    let rank = from.len() + axes.len();
    let new: Vec<usize> = axes.iter().map(|&a| axis(a, rank)).collect::<Result<_, _>>()?;
    let mut old = from.iter();
    let to = (0..rank).map(|a| if new.contains(&a) { 1 } else { old.next().copied().unwrap_or(1) }).collect();
    Ok(vec![call.reshape(x, to)?])
}

/// The list of a shape operand, as sizes.
fn sizes(call: &Call<'_, '_>, index: usize) -> Result<Vec<usize>, Fail> {
    let id = call.operand(index)?;
    call.known(id)?.to_ints().iter().map(|&n| size(n)).collect()
}

fn expand(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    let x = call.operand(0)?;
    let (from, wanted) = (call.shape(x), sizes(call, 1)?);
    let to = super::super::shape::join(&[&from, &wanted])?;
    let rank = to.len();
    let mut wide = vec![1; rank - from.len()];
    wide.extend(&from);
    let x = call.reshape(x, wide)?;
    Ok(vec![call.expand(x, to)?])
}

/// Repeats axes: `[…, n, …]` becomes `[…, 1, n, …]`, is repeated, and joined again.
fn tile(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    let mut x = call.operand(0)?;
    let repeats = sizes(call, 1)?;
    if repeats.len() != call.rank(x) {
        return Err(format!("{} repeats for {:?}", repeats.len(), call.shape(x)).into());
    }
    for (axis, &times) in repeats.iter().enumerate().filter(|&(_, &times)| times != 1) {
        let mut shape = call.shape(x);
        let joined = shape[axis].checked_mul(times).ok_or("it is too long")?;
        shape.insert(axis, 1);
        x = call.reshape(x, shape.clone())?;
        shape[axis] = times;
        x = call.expand(x, shape.clone())?;
        shape.remove(axis);
        shape[axis] = joined;
        x = call.reshape(x, shape)?;
    }
    Ok(vec![x])
}

fn split(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    let x = call.operand(0)?;
    let along = call.axis("axis", 0, call.rank(x))?;
    let whole = call.flow.shape(x)[along];
    let parts: Vec<usize> = if let Some(parts) = call.list("split", 1)? {
        parts.iter().map(|&n| size(n)).collect::<Result<_, _>>()?
    } else {
        let count = call.node.outputs.len().max(1);
        let part = whole.div_ceil(count);
        (0..count).map(|i| part.min(whole.saturating_sub(i * part))).collect()
    };
    let mut start = 0;
    let mut ids = Vec::with_capacity(parts.len());
    for len in parts {
        ids.push(call.slice(x, along, start, len)?);
        start += len;
    }
    Ok(ids)
}

fn slice(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    let mut x = call.operand(0)?;
    let rank = call.rank(x);
    let starts = call.list("starts", 1)?.ok_or("its starts are missing")?;
    let ends = call.list("ends", 2)?.ok_or("its ends are missing")?;
    let axes = call.list("axes", 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = call.list("steps", 4)?.unwrap_or_else(|| vec![1; starts.len()]);
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
        return Err("starts, ends, axes and steps have different lengths".into());
    }
    for i in 0..starts.len() {
        let along = axis(axes[i], rank)?;
        let len = call.flow.shape(x)[along] as i64;
        let from_end = |at: i64| if at < 0 { at.saturating_add(len) } else { at };
        let (start, end, step) = (from_end(starts[i]), from_end(ends[i]), steps[i]);
        x = match step {
            0 => return Err("a step of 0".into()),
            1 => {
                let (start, end) = (start.clamp(0, len), end.clamp(0, len));
                call.slice(x, along, start as usize, (end - start).max(0) as usize)?
            }
            step => {
                // Bounded by the axis, so that a huge range costs nothing.
                let (mut at, end) = if step > 0 {
                    (start.clamp(0, len), end.clamp(0, len))
                } else {
                    (start.clamp(-1, len - 1), if ends[i] < -len { -1 } else { end.clamp(-1, len - 1) })
                };
                call.flow.reserve(&[len as usize / step.unsigned_abs().max(1) as usize + 1])?;
                let mut places = Vec::new();
                while (step > 0 && at < end) || (step < 0 && at > end) {
                    places.push(at);
                    at = at.saturating_add(step);
                }
                call.pick(x, along, places)?
            }
        };
    }
    Ok(vec![x])
}

fn pad(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    let mut x = call.operand(0)?;
    let rank = call.rank(x);
    let pads = call.list("pads", 1)?.ok_or("its pads are missing")?;
    let axes: Vec<usize> = match call.optional(3) {
        Some(id) => call.known(id)?.to_ints().iter().map(|&a| axis(a, rank)).collect::<Result<_, _>>()?,
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Err(format!("{} pads for {} axes", pads.len(), axes.len()).into());
    }
    let mut ends = vec![(0, 0); rank];
    for (i, &axis) in axes.iter().enumerate() {
        let (before, after) = (pads[i], pads[i + axes.len()]);
        // A negative padding cuts.
        let shape = call.shape(x);
        let (cut, cut_end) = (before.min(0).unsigned_abs() as usize, after.min(0).unsigned_abs() as usize);
        if cut.saturating_add(cut_end) > 0 {
            let len = shape[axis].checked_sub(cut.saturating_add(cut_end));
            let len = len.ok_or_else(|| {
                format!("its padding, -{cut} and -{cut_end}, cuts away all of {}", shape[axis])
            })?;
            x = call.slice(x, axis, cut, len)?;
        }
        ends[axis] = (before.max(0) as usize, after.max(0) as usize);
    }
    match call.text("mode", "constant").as_str() {
        "constant" => {
            let fill = match call.optional(2) {
                Some(id) => call.flow.scalar(id).ok_or("its fill depends on the inputs")?,
                None => call.float("value", 0.0),
            };
            if fill == 0.0 {
                return Ok(vec![call.push(Op::Pad(ends), &[x])?]);
            }
            filled(call, x, &ends, fill)
        }
        mode @ ("reflect" | "edge" | "wrap") => {
            for (axis, &(before, after)) in ends.iter().enumerate() {
                let len = call.flow.shape(x)[axis] as i64;
                if (before, after) == (0, 0) {
                    continue;
                }
                if len == 0 {
                    return Err("there is nothing to repeat".into());
                }
                let to = numbers(&[len as usize, 1]).and_then(|n| n.checked_add(before)?.checked_add(after));
                call.flow.reserve(&[to.ok_or("it is too long")?])?;
                let places = (-(before as i64)..len + after as i64).map(|i| match mode {
                    "edge" => i.clamp(0, len - 1),
                    "wrap" => i.rem_euclid(len),
                    _ => {
                        let turn = (2 * len - 2).max(1);
                        let i = i.rem_euclid(turn);
                        if i < len { i } else { turn - i }
                    }
                });
                let places = places.collect();
                x = call.pick(x, axis, places)?;
            }
            Ok(vec![x])
        }
        mode => Err(Fail::Unsupported(format!("mode `{mode}`"))),
    }
}

/// Blocks of one value around, axis by axis.
fn filled(call: &mut Call<'_, '_>, mut x: Id, ends: &[(usize, usize)], fill: f32) -> Result<Vec<Id>, Fail> {
    for (axis, &(before, after)) in ends.iter().enumerate() {
        let mut parts = vec![x];
        for (count, at) in [(after, 1), (before, 0)] {
            if count > 0 {
                let mut shape = call.shape(x);
                shape[axis] = count;
                let value = call.flow.float(fill);
                let block = call.expand(value, shape)?;
                parts.insert(at, block);
            }
        }
        x = call.concat(&parts, axis)?;
    }
    Ok(vec![x])
}

/// `[1, b·b·C, H, W]` to `[1, C, b·H, b·W]`.
fn depth_to_space(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    let x = call.operand(0)?;
    let (shape, b) = (call.shape(x), size(call.int("blocksize", 1))?);
    let &[n, c, h, w] = shape.as_slice() else { return Err(format!("an operand of shape {shape:?}").into()) };
    let inner =
        b.checked_mul(b).filter(|&b| b > 0 && c.is_multiple_of(b)).ok_or("its channels do not divide")?;
    let (parts, order) = if call.text("mode", "DCR") == "CRD" {
        (vec![n, c / inner, b, b, h, w], [0, 1, 4, 2, 5, 3])
    } else {
        (vec![n, b, b, c / inner, h, w], [0, 3, 4, 1, 5, 2])
    };
    let x = call.reshape(x, parts)?;
    let x = call.permute(x, &order)?;
    Ok(vec![call.reshape(x, vec![n, c / inner, h * b, w * b])?])
}

/// `[1, C, H, W]` to `[1, b·b·C, H / b, W / b]`.
fn space_to_depth(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    let x = call.operand(0)?;
    let (shape, b) = (call.shape(x), size(call.int("blocksize", 1))?);
    let &[n, c, h, w] = shape.as_slice() else { return Err(format!("an operand of shape {shape:?}").into()) };
    if b == 0 || !h.is_multiple_of(b) || !w.is_multiple_of(b) {
        return Err("its sizes do not divide".into());
    }
    let x = call.reshape(x, vec![n, c, h / b, b, w / b, b])?;
    let order = if call.text("mode", "DCR") == "CRD" { [0, 1, 3, 5, 2, 4] } else { [0, 3, 5, 1, 2, 4] };
    let x = call.permute(x, &order)?;
    let channels = c.checked_mul(b * b).ok_or("it is too long")?;
    Ok(vec![call.reshape(x, vec![n, channels, h / b, w / b])?])
}
