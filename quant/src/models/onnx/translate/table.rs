//! Operators that make tables: constants, ranges, masks.

use super::super::flow::{Binary, Id, Op};
use super::super::tensor::{Data, Dtype, numbers, places, strides};
use super::Handler;
use super::call::{Call, Fail, size};

pub(super) fn handler(op: &str) -> Option<Handler> {
    Some(match op {
        "Constant" => constant,
        "ConstantOfShape" => constant_of_shape,
        "Range" => range,
        "OneHot" => one_hot,
        "Trilu" => trilu,
        "EyeLike" => eye_like,
        "NonZero" => non_zero,
        _ => return None,
    })
}

fn constant(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    let attribute = call.node.attributes.iter().find(|a| a.name.starts_with("value"));
    let attribute = attribute.ok_or("it has no value")?;
    let (shape, dtype, data) = match attribute.name.as_str() {
        "value" => {
            let tensor = attribute.tensor.as_ref().ok_or("its value is no tensor")?;
            call.files.tensor(tensor)?
        }
        "value_float" => (vec![], Dtype::Float, Data::floats(vec![attribute.float])),
        "value_int" => (vec![], Dtype::INT, Data::ints(vec![attribute.int])),
        "value_floats" => {
            (vec![attribute.floats.len()], Dtype::Float, Data::floats(attribute.floats.clone()))
        }
        "value_ints" => (vec![attribute.ints.len()], Dtype::INT, Data::ints(attribute.ints.clone())),
        other => return Err(Fail::Unsupported(format!("a constant given as `{other}`"))),
    };
    call.flow.stored = call.flow.stored.saturating_add(data.len());
    let name = std::sync::Arc::clone(&call.flow.name);
    Ok(vec![call.flow.named_constant(name, shape, dtype, data)])
}

fn constant_of_shape(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    let shape = call.operand(0)?;
    let shape: Vec<usize> =
        call.known(shape)?.to_ints().iter().map(|&n| size(n)).collect::<Result<_, _>>()?;
    let value = match call.node.attribute("value").and_then(|a| a.tensor.as_ref()) {
        Some(tensor) => {
            let (_, dtype, data) = call.files.tensor(tensor)?;
            if data.len() != 1 {
                return Err("its value must be one number".into());
            }
            call.flow.constant(vec![], dtype, data)?
        }
        None => call.flow.float(0.0),
    };
    Ok(vec![call.expand(value, shape)?])
}

fn range(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    let ids = [call.operand(0)?, call.operand(1)?, call.operand(2)?];
    let known = [call.known(ids[0])?, call.known(ids[1])?, call.known(ids[2])?];
    if known.iter().any(|data| data.len() != 1) {
        return Err("start, limit and step must be single numbers".into());
    }
    if let [Data::Int(start), Data::Int(limit), Data::Int(step)] = &known {
        let (start, limit, step) = (i128::from(start[0]), i128::from(limit[0]), i128::from(step[0]));
        if step == 0 {
            return Err("a step of 0".into());
        }
        let span = limit - start;
        let count = if (span > 0) == (step > 0) && span != 0 {
            (span.abs() + step.abs() - 1) / step.abs()
        } else {
            0
        };
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        call.flow.reserve(&[count])?;
        let values: Vec<i64> = (0..count as i128).map(|i| (start + i * step) as i64).collect();
        let name = std::sync::Arc::clone(&call.flow.name);
        return Ok(vec![call.flow.named_constant(name, vec![count], Dtype::INT, Data::ints(values))]);
    }
    let [start, limit, step] = known.map(|data| f64::from(data.to_floats()[0]));
    let count = ((limit - start) / step).ceil().max(0.0);
    if !count.is_finite() || count >= f64::from(u32::MAX) {
        return Err(format!("a range of {count} numbers").into());
    }
    let count = count as usize;
    call.flow.reserve(&[count])?;
    let values = (0..count).map(|i| (start + i as f64 * step) as f32).collect();
    let name = std::sync::Arc::clone(&call.flow.name);
    Ok(vec![call.flow.named_constant(name, vec![count], Dtype::Float, Data::floats(values))])
}

/// `off + (on − off) · [index = place]`, with the new axis where the file wants it.
fn one_hot(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    let (at, depth, values) = (call.operand(0)?, call.operand(1)?, call.operand(2)?);
    let depth =
        call.flow.scalar(depth).ok_or_else(|| Fail::Unsupported("a depth that is not known".into()))?;
    let depth = size(depth as i64)?;
    let rank = call.rank(at) + 1;
    let axis = call.axis("axis", -1, rank)?;
    let mut shape = call.shape(at);
    shape.insert(axis, 1);
    let at = call.reshape(at, shape)?;
    // Negative places count from the end.
    let zero = call.flow.constant(vec![], Dtype::INT, Data::ints(vec![0]))?;
    let size = call.flow.constant(vec![], Dtype::INT, Data::ints(vec![depth as i64]))?;
    let negative = call.binary(Binary::Less, at, zero)?;
    let from_end = call.binary(Binary::Add, at, size)?;
    let at = call.push(Op::Where, &[negative, from_end, at])?;
    call.flow.reserve(&[depth])?;
    let mut shape = vec![1; rank];
    shape[axis] = depth;
    let places = call.flow.constant(shape, Dtype::INT, Data::ints((0..depth as i64).collect()))?;
    let hit = call.binary(Binary::Equal, at, places)?;
    let (off, on) = (call.slice(values, 0, 0, 1)?, call.slice(values, 0, 1, 1)?);
    Ok(vec![call.push(Op::Where, &[hit, on, off])?])
}

/// Keeps one triangle of the last two axes.
fn trilu(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    let x = call.operand(0)?;
    let shape = call.shape(x);
    let &[.., rows, columns] = shape.as_slice() else { return Err("an operand without two axes".into()) };
    let shift = match call.optional(1) {
        Some(id) => call.known(id)?.to_ints().first().copied().unwrap_or(0),
        None => 0,
    };
    let upper = call.flag("upper", true);
    call.flow.reserve(&[rows, columns])?;
    let kept = |i: usize| {
        let (row, column) = ((i / columns) as i64, (i % columns) as i64);
        let beyond = column - row >= shift;
        i64::from(if upper { beyond } else { column - row <= shift })
    };
    let mask = (0..rows * columns).map(kept).collect();
    let mask = call.flow.constant(vec![rows, columns], Dtype::Bool, Data::ints(mask))?;
    let zero = if call.flow.dtype(x) == Dtype::Float {
        call.flow.float(0.0)
    } else {
        call.flow.constant(vec![], Dtype::INT, Data::ints(vec![0]))?
    };
    Ok(vec![call.push(Op::Where, &[mask, x, zero])?])
}

fn eye_like(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    let x = call.operand(0)?;
    let shape = call.shape(x);
    let &[rows, columns] = shape.as_slice() else { return Err("an operand without two axes".into()) };
    let shift = call.int("k", 0);
    call.flow.reserve(&[rows, columns])?;
    let one = |i: usize| if (i % columns) as i64 - (i / columns) as i64 == shift { 1.0 } else { 0.0 };
    let values = (0..rows * columns).map(one).collect();
    Ok(vec![call.floats(shape, values)?])
}

/// Places of values that are not zero, `[rank, count]`; the operand must be known.
fn non_zero(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    let x = call.operand(0)?;
    let shape = call.shape(x);
    let values = call.known(x)?.to_floats();
    call.flow.reserve(&[numbers(&shape).unwrap_or(0), shape.len()])?;
    let own = strides(&shape);
    let hits: Vec<usize> = places(&shape, &own).filter(|&place| values[place] != 0.0).collect();
    let rows = (0..shape.len()).flat_map(|axis| {
        let (stride, len) = (own[axis], shape[axis]);
        hits.iter().map(move |place| (place / stride % len) as i64)
    });
    let data = Data::ints(rows.collect());
    Ok(vec![call.flow.constant(vec![shape.len(), hits.len()], Dtype::INT, data)?])
}
