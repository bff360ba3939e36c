//! Operators of neural networks: convolutions, pools, normalisations, softmax, resizing.

use super::super::flow::{
    Binary, Coordinates, Function, Id, Interpolation, Nearest, Op, PoolKind, Reduce, Resize, Unary, Window,
};
use super::super::shape::plane;
use super::super::tensor::numbers;
use super::Handler;
use super::call::{Call, Fail, size};

pub(super) fn handler(op: &str) -> Option<Handler> {
    Some(match op {
        "Conv" => |call| {
            let mut inputs = vec![call.operand(0)?, call.operand(1)?];
            inputs.extend(call.optional(2));
            Ok(vec![conv(call, &inputs)?])
        },
        "ConvTranspose" => conv_transpose,
        "MaxPool" | "AveragePool" => pool,
        "GlobalAveragePool" | "GlobalMaxPool" => |call| {
            let x = call.operand(0)?;
            let kind = if call.node.op == "GlobalMaxPool" { Reduce::Max } else { Reduce::Mean };
            let axes = (2..call.rank(x)).collect();
            Ok(vec![call.reduce(kind, x, axes)?])
        },
        "BatchNormalization" => |call| {
            let operands = [0, 1, 2, 3, 4].map(|i| call.operand(i));
            let [x, gamma, beta, mean, variance] = operands;
            if call.flag("training_mode", false) {
                return Err(Fail::Unsupported("training_mode".into()));
            }
            let eps = call.float("epsilon", 1e-5);
            Ok(vec![call.push(Op::BatchNorm { eps }, &[x?, gamma?, beta?, mean?, variance?])?])
        },
        "InstanceNormalization" => |call| {
            let (x, gain, shift) = (call.operand(0)?, call.operand(1)?, call.operand(2)?);
            let y = call.push(Op::InstanceNorm { eps: call.float("epsilon", 1e-5) }, &[x])?;
            Ok(vec![per_channel(call, y, gain, shift)?])
        },
        "GroupNormalization" => group_norm,
        "LayerNormalization" | "SimplifiedLayerNormalization" => layer_norm,
        "LpNormalization" => |call| {
            let x = call.operand(0)?;
            let axis = call.axis("axis", -1, call.rank(x))?;
            let kind = if call.int("p", 2) == 1 { Reduce::L1 } else { Reduce::L2 };
            let length = call.reduce(kind, x, vec![axis])?;
            // Nothing stays nothing.
            let length = call.with(Binary::Max, length, f32::MIN_POSITIVE)?;
            Ok(vec![call.binary(Binary::Div, x, length)?])
        },
        "Softmax" | "LogSoftmax" => softmax,
        "Resize" | "Upsample" => resize,
        _ => return None,
    })
}

/// Strides, padding, dilation and groups of a kernel of `kernel` over an operand of shape `shape`.
fn window(call: &Call<'_, '_>, shape: &[usize], kernel: [usize; 2]) -> Result<Window, Fail> {
    let spatial = shape.len().saturating_sub(2);
    if !(1..=2).contains(&spatial) {
        return Err(Fail::Unsupported(format!("an operand of shape {shape:?}")));
    }
    let pair = |name: &str, default: usize| -> Result<[usize; 2], Fail> {
        let Some(given) = call.ints(name) else { return Ok([default; 2]) };
        let given: Vec<usize> = given.iter().map(|&n| size(n)).collect::<Result<_, _>>()?;
        match given.as_slice() {
            [w] if spatial == 1 => Ok([default, *w]),
            [h, w] if spatial == 2 => Ok([*h, *w]),
            _ => Err(format!("`{name}` is {given:?} for {spatial} axes").into()),
        }
    };
    let (stride, dilation) = (pair("strides", 1)?, pair("dilations", 1)?);
    let pads: Vec<usize> =
        call.ints("pads").unwrap_or_default().iter().map(|&n| size(n)).collect::<Result<_, _>>()?;
    let mut pads = match pads.as_slice() {
        [] => [0; 4],
        [left, right] if spatial == 1 => [0, *left, 0, *right],
        [top, left, bottom, right] if spatial == 2 => [*top, *left, *bottom, *right],
        _ => return Err(format!("`pads` is {pads:?} for {spatial} axes").into()),
    };
    let automatic = call.text("auto_pad", "NOTSET");
    if automatic.starts_with("SAME") {
        let plane = plane(shape)?;
        for i in 0..2 {
            let steps = plane[i].div_ceil(stride[i].max(1)).saturating_sub(1);
            let reach = kernel[i].saturating_sub(1).saturating_mul(dilation[i]).saturating_add(1);
            let total = steps.saturating_mul(stride[i]).saturating_add(reach).saturating_sub(plane[i]);
            let before = if automatic == "SAME_LOWER" { total.div_ceil(2) } else { total / 2 };
            (pads[i], pads[i + 2]) = (before, total - before);
        }
    }
    let groups = size(call.int("group", 1))?;
    let ceil = call.flag("ceil_mode", false);
    Ok(Window { kernel, stride, pads, dilation, groups, extra: [0; 2], ceil })
}

/// A convolution of `[operand, weight, bias…]`.
pub(super) fn conv(call: &mut Call<'_, '_>, inputs: &[Id]) -> Result<Id, Fail> {
    if call.flow.data(inputs[1]).is_none() {
        return Err(Fail::Unsupported("a weight that depends on the inputs".into()));
    }
    let kernel = plane(call.flow.shape(inputs[1]))?;
    let mut window = window(call, &call.shape(inputs[0]), kernel)?;
    window.ceil = false;
    call.push(Op::Conv(window), inputs)
}

/// A transposed convolution. One over a sequence gets a height of 1; padding that differs between the sides is cut off
/// afterwards.
fn conv_transpose(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    let mut inputs = vec![call.operand(0)?, call.operand(1)?];
    inputs.extend(call.optional(2));
    if call.flow.data(inputs[1]).is_none() {
        return Err(Fail::Unsupported("a weight that depends on the inputs".into()));
    }
    let (shape, kernel) = (call.shape(inputs[0]), plane(call.flow.shape(inputs[1]))?);
    let mut window = window(call, &shape, kernel)?;
    if window.groups != 1 {
        return Err(Fail::Unsupported(format!("{} groups", window.groups)));
    }
    let pair = |name: &str| -> Result<Option<[usize; 2]>, Fail> {
        Ok(match call.ints(name).as_deref() {
            None => None,
            Some([w]) => Some([usize::from(name == "output_shape"), size(*w)?]),
            Some([.., h, w]) => Some([size(*h)?, size(*w)?]),
            Some(other) => return Err(format!("`{name}` is {other:?}").into()),
        })
    };
    window.extra = pair("output_padding")?.unwrap_or_default();
    let from = plane(&shape)?;
    let automatic = call.text("auto_pad", "NOTSET");
    let mut wanted = pair("output_shape")?;
    if automatic.starts_with("SAME") && wanted.is_none() {
        wanted = Some([from[0].saturating_mul(window.stride[0]), from[1].saturating_mul(window.stride[1])]);
    }
    let full = Window { pads: [0; 4], ..window };
    let all = super::super::shape::deconvolved_plane(from, &full)?;
    if let Some(wanted) = wanted {
        for i in 0..2 {
            let total = all[i].checked_sub(wanted[i]).ok_or_else(|| format!("an output of {wanted:?}"))?;
            let before = if automatic == "SAME_UPPER" { total / 2 } else { total.div_ceil(2) };
            (window.pads[i], window.pads[i + 2]) = (before, total - before);
        }
    }
    let flat = shape.len() == 3;
    for id in inputs.iter_mut().take(if flat { 2 } else { 0 }) {
        let shape = call.shape(*id);
        *id = call.reshape(*id, vec![shape[0], shape[1], 1, shape[2]])?;
    }
    let [top, left, bottom, right] = window.pads;
    let mut y = if (top, left) == (bottom, right) {
        call.push(Op::ConvTranspose(window), &inputs)?
    } else {
        let mut y = call.push(Op::ConvTranspose(full), &inputs)?;
        for (i, (before, after)) in [(top, bottom), (left, right)].into_iter().enumerate() {
            let len = all[i].checked_sub(before.saturating_add(after));
            let len =
                len.ok_or_else(|| format!("its padding, {before} and {after}, cuts away all of {}", all[i]))?;
            y = call.slice(y, 2 + i, before, len)?;
        }
        y
    };
    if flat {
        let made = call.shape(y);
        y = call.reshape(y, vec![made[0], made[1], made[3]])?;
    }
    Ok(vec![y])
}

fn pool(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    let x = call.operand(0)?;
    let shape = call.shape(x);
    let kernel: Vec<usize> =
        call.ints("kernel_shape").unwrap_or_default().iter().map(|&n| size(n)).collect::<Result<_, _>>()?;
    let kernel = match kernel.as_slice() {
        [w] => [1, *w],
        [h, w] => [*h, *w],
        _ => return Err(format!("`kernel_shape` is {kernel:?}").into()),
    };
    let window = window(call, &shape, kernel)?;
    if window.dilation != [1; 2] {
        return Err(Fail::Unsupported("dilation".into()));
    }
    let kind = match (call.node.op.as_str(), call.flag("count_include_pad", false)) {
        ("MaxPool", _) => PoolKind::Max,
        (_, true) => PoolKind::AverageWithPadding,
        _ => PoolKind::Average,
    };
    let flat = shape.len() == 3;
    let wide = if flat { call.reshape(x, vec![shape[0], shape[1], 1, shape[2]])? } else { x };
    let y = call.push(Op::Pool(kind, window), &[wide])?;
    let made = call.shape(y);
    Ok(vec![if flat { call.reshape(y, vec![made[0], made[1], made[3]])? } else { y }])
}

/// `x · gain + shift` for each channel of `[1, C, …]`; nothing where they are 1 and 0.
fn per_channel(call: &mut Call<'_, '_>, mut x: Id, gain: Id, shift: Id) -> Result<Id, Fail> {
    let mut shape = vec![1; call.rank(x)];
    let all = |id: Id, value: f32| {
        call.flow.data(id).is_some_and(|data| data.to_floats().iter().all(|&x| x == value))
    };
    let (no_gain, no_shift) = (all(gain, 1.0), all(shift, 0.0));
    shape[1] = call.flow.shape(x)[1];
    if !no_gain {
        let gain = call.reshape(gain, shape.clone())?;
        x = call.binary(Binary::Mul, x, gain)?;
    }
    if !no_shift {
        let shift = call.reshape(shift, shape)?;
        x = call.binary(Binary::Add, x, shift)?;
    }
    Ok(x)
}

fn group_norm(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    let (x, gain, shift) = (call.operand(0)?, call.operand(1)?, call.operand(2)?);
    let shape = call.shape(x);
    let groups = size(call.int("num_groups", 1))?;
    if shape.len() < 3 || groups == 0 || !shape[1].is_multiple_of(groups) {
        return Err(format!("{groups} groups of {shape:?}").into());
    }
    let rest = numbers(&shape).unwrap_or(0) / (shape[0] * groups).max(1);
    let y = call.reshape(x, vec![shape[0], groups, rest])?;
    let y = call.push(Op::InstanceNorm { eps: call.float("epsilon", 1e-5) }, &[y])?;
    let y = call.reshape(y, shape.clone())?;
    if call.flow.shape(gain) == [shape[1]] {
        return Ok(vec![per_channel(call, y, gain, shift)?]);
    }
    Err(Fail::Unsupported("a gain per group".into()))
}

/// Over the last axes from `axis` on: they are joined.
fn layer_norm(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    if call.node.op != "LayerNormalization" {
        return Err(Fail::Unsupported("the normalisation without a mean".into()));
    }
    let (x, gain) = (call.operand(0)?, call.operand(1)?);
    let shape = call.shape(x);
    let axis = call.axis("axis", -1, shape.len())?;
    let width: usize = shape[axis..].iter().product();
    let shift = match call.optional(2) {
        Some(shift) => shift,
        None => call.floats(vec![width], vec![0.0; width])?,
    };
    let mut joined = shape[..axis].to_vec();
    joined.push(width);
    let y = call.reshape(x, joined)?;
    let gain = call.reshape(gain, vec![width])?;
    let shift = call.reshape(shift, vec![width])?;
    let y = call.push(Op::LayerNorm { eps: call.float("epsilon", 1e-5) }, &[y, gain, shift])?;
    Ok(vec![call.reshape(y, shape)?])
}

/// Over one axis, or, before opset 13, over all axes from one on.
fn softmax(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    let (x, opset) = (call.operand(0)?, call.opset);
    let mut y = softmax_of(call, x, opset)?;
    if call.node.op == "LogSoftmax" {
        y = call.unary(Unary::Function(Function::Log), y)?;
    }
    Ok(vec![y])
}

/// The softmax of a value as `opset` defines it.
pub(super) fn softmax_of(call: &mut Call<'_, '_>, x: Id, opset: i64) -> Result<Id, Fail> {
    let shape = call.shape(x);
    let old = opset < 13;
    let axis = call.axis("axis", if old { 1 } else { -1 }, shape.len())?;
    let last = shape.len() - 1;
    if axis == last {
        call.push(Op::Softmax, &[x])
    } else if old {
        let flat = call.reshape(x, vec![shape[..axis].iter().product(), shape[axis..].iter().product()])?;
        let y = call.push(Op::Softmax, &[flat])?;
        call.reshape(y, shape)
    } else {
        let mut order: Vec<usize> = (0..shape.len()).collect();
        order.swap(axis, last);
        let y = call.permute(x, &order)?;
        let y = call.push(Op::Softmax, &[y])?;
        call.permute(y, &order)
    }
}

fn resize(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    let x = call.operand(0)?;
    let from = call.shape(x);
    // Operands: roi, scales, sizes; before opset 11 only scales.
    let scales_at = if call.node.op == "Upsample" || call.opset < 11 { 1 } else { 2 };
    let given =
        |call: &Call<'_, '_>, index: usize| call.optional(index).filter(|&id| call.flow.shape(id) != [0]);
    let scales = match given(call, scales_at) {
        Some(id) => Some(call.known(id)?.to_floats().to_vec()),
        None => call.node.attribute("scales").map(|a| a.floats.clone()),
    };
    let sizes = match given(call, 3) {
        Some(id) => Some(call.known(id)?.to_ints().to_vec()),
        None => None,
    };
    let axes: Vec<usize> = match call.ints("axes") {
        Some(axes) => axes.iter().map(|&a| super::call::axis(a, from.len())).collect::<Result<_, _>>()?,
        None => (0..from.len()).collect(),
    };
    if call.flag("antialias", false) {
        return Err(Fail::Unsupported("antialias".into()));
    }
    if !matches!(call.text("keep_aspect_ratio_policy", "stretch").as_str(), "stretch" | "") {
        return Err(Fail::Unsupported("keep_aspect_ratio_policy".into()));
    }
    let (mut to, mut factors) = (from.clone(), vec![1.0_f32; from.len()]);
    for (i, &axis) in axes.iter().enumerate() {
        match (&sizes, &scales) {
            (Some(sizes), _) => {
                to[axis] = size(*sizes.get(i).ok_or("it has too few sizes")?)?;
                factors[axis] = to[axis] as f32 / from[axis].max(1) as f32;
            }
            (None, Some(scales)) => {
                let scale = *scales.get(i).ok_or("it has too few scales")?;
                let size = (from[axis] as f64 * f64::from(scale)).floor();
                if !(1.0..1e9).contains(&size) {
                    return Err(format!("a scale of {scale} for {} places", from[axis]).into());
                }
                (to[axis], factors[axis]) = (size as usize, scale);
            }
            _ => return Err("it has neither sizes nor scales".into()),
        }
    }
    let interpolation = match call.text("mode", "nearest").as_str() {
        "nearest" => {
            // Upsample takes the pixel before.
            let default = if call.node.op == "Upsample" { "floor" } else { "round_prefer_floor" };
            Interpolation::Nearest(match call.text("nearest_mode", default).as_str() {
                "floor" => Nearest::Floor,
                "ceil" => Nearest::Ceil,
                "round_prefer_ceil" => Nearest::PreferCeil,
                _ => Nearest::PreferFloor,
            })
        }
        "linear" | "bilinear" => Interpolation::Linear,
        "cubic" => Interpolation::Cubic { a: call.float("cubic_coeff_a", -0.75) },
        mode => return Err(Fail::Unsupported(format!("mode `{mode}`"))),
    };
    let default = if scales_at == 1 { "asymmetric" } else { "half_pixel" };
    let coordinates = match call.text("coordinate_transformation_mode", default).as_str() {
        "half_pixel" => Coordinates::HalfPixel,
        "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
        "align_corners" => Coordinates::AlignCorners,
        "asymmetric" => Coordinates::Asymmetric,
        mode => return Err(Fail::Unsupported(format!("coordinates `{mode}`"))),
    };
    let exclude_outside = call.flag("exclude_outside", false);
    // Tables are resized as the operator says; at run time there is what models use.
    let rank = from.len();
    let stretched = (0..rank).all(|axis| {
        let exact = f64::from(factors[axis]) * from[axis] as f64;
        (exact - to[axis] as f64).abs() < 1e-3
    });
    let known = call.flow.data(x).is_some();
    let plain = (3..=4).contains(&rank) && (0..rank.min(2)).all(|axis| to[axis] == from[axis]);
    let cubic = !matches!(interpolation, Interpolation::Cubic { a } if a != -0.75);
    let served = known || (plain && stretched && cubic && !exclude_outside);
    if !served || (coordinates == Coordinates::AlignCorners && !stretched) {
        return Err(Fail::Unsupported(format!("a resize of {from:?} to {to:?} of this kind")));
    }
    let spec = Resize { to, scales: factors, interpolation, coordinates, exclude_outside };
    Ok(vec![call.push(Op::Resize(spec), &[x])?])
}
