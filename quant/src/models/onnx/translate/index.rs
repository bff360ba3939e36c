//! Operators that read or write values at places.

use super::super::flow::{Binary, Id, Op};
use super::super::tensor::{Data, Dtype, numbers, places, strides};
use super::Handler;
use super::call::{Call, Fail};

pub(super) fn handler(op: &str) -> Option<Handler> {
    Some(match op {
        "Gather" => gather,
        "GatherElements" => gather_elements,
        "GatherND" => gather_nd,
        "ScatterND" => scatter_nd,
        "ScatterElements" | "Scatter" => scatter_elements,
        _ => return None,
    })
}

/// Indices without negative ones: they count from the end.
fn from_start(call: &mut Call<'_, '_>, at: Id, len: usize) -> Result<Id, Fail> {
    let Some(known) = call.flow.data(at).map(Data::to_ints) else { return Ok(at) };
    if known.iter().all(|&i| i >= 0) {
        return Ok(at);
    }
    let moved = known.iter().map(|&i| if i < 0 { i.saturating_add(len as i64) } else { i }).collect();
    let shape = call.shape(at);
    Ok(call.flow.constant(shape, Dtype::INT, Data::ints(moved))?)
}

fn gather(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    let (x, at) = (call.operand(0)?, call.operand(1)?);
    let shape = call.shape(x);
    let along = call.axis("axis", 0, shape.len())?;
    let at = from_start(call, at, shape[along])?;
    // One known place is a slice without its axis; neighbours in order are a slice.
    if let Some(places) = call.flow.data(at).map(Data::to_ints) {
        let first = places.first().and_then(|&i| usize::try_from(i).ok()).unwrap_or(usize::MAX);
        let in_order = places.windows(2).all(|w| w[1] == w[0].wrapping_add(1));
        if in_order && places.last().is_some_and(|&i| (i as usize) < shape[along]) && call.rank(at) <= 1 {
            let part = call.slice(x, along, first, places.len())?;
            if call.rank(at) == 1 {
                return Ok(vec![part]);
            }
            let mut to = shape;
            to.remove(along);
            return Ok(vec![call.reshape(part, to)?]);
        }
        if places.iter().any(|&i| i as usize >= shape[along]) {
            return Err(format!("an entry beyond {} of axis {along}", shape[along]).into());
        }
    }
    if along == 0 && shape.len() == 2 && call.flow.data(x).is_some() && call.flow.data(at).is_none() {
        return Ok(vec![call.push(Op::Embedding, &[x, at])?]);
    }
    Ok(vec![call.push(Op::Gather { axis: along }, &[x, at])?])
}

/// Known places of elements in a flattened operand, picked at once.
fn pick_flat(call: &mut Call<'_, '_>, x: Id, flat: Vec<i64>, shape: Vec<usize>) -> Result<Id, Fail> {
    let count = numbers(&call.shape(x)).unwrap_or(0);
    let x = call.reshape(x, vec![count])?;
    let x = call.pick(x, 0, flat)?;
    call.reshape(x, shape)
}

/// The place of every element of an index tensor of `GatherElements` or `ScatterElements` in the operand.
fn element_places(call: &Call<'_, '_>, at: Id, shape: &[usize], along: usize) -> Result<Vec<i64>, Fail> {
    let index_shape = call.shape(at);
    let index = call.known(at)?.to_ints();
    if index_shape.len() != shape.len() || (0..shape.len()).any(|a| a != along && index_shape[a] > shape[a]) {
        return Err(format!("indices of shape {index_shape:?} into {shape:?}").into());
    }
    let mut own = strides(shape);
    let step = own[along];
    own[along] = 0;
    let len = shape[along] as i64;
    places(&index_shape, &own)
        .zip(index.iter())
        .map(|(place, &i)| {
            let i = if i < 0 { i.saturating_add(len) } else { i };
            if (0..len).contains(&i) {
                Ok(place as i64 + i * step as i64)
            } else {
                Err(Fail::Wrong(format!("entry {i} of {len}")))
            }
        })
        .collect()
}

fn gather_elements(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    let (x, at) = (call.operand(0)?, call.operand(1)?);
    let shape = call.shape(x);
    let along = call.axis("axis", 0, shape.len())?;
    let flat = element_places(call, at, &shape, along)?;
    let to = call.shape(at);
    Ok(vec![pick_flat(call, x, flat, to)?])
}

/// `GatherND`: the places may depend on the inputs (the end of a sentence). They are turned into places in the
/// flattened operand by a product with its strides.
fn gather_nd(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    let (x, at) = (call.operand(0)?, call.operand(1)?);
    let (shape, index_shape) = (call.shape(x), call.shape(at));
    let deep = index_shape.last().copied().unwrap_or(0);
    if call.int("batch_dims", 0) != 0 {
        return Err(Fail::Unsupported("batch_dims".into()));
    }
    if deep == 0 || deep > shape.len() {
        return Err(format!("indices of shape {index_shape:?} into {shape:?}").into());
    }
    let rows: usize = shape[..deep].iter().product();
    let mut table = vec![rows];
    table.extend(&shape[deep..]);
    let table = call.reshape(x, table)?;
    let own = strides(&shape[..deep]);
    let mut row = None;
    for (axis, &stride) in own.iter().enumerate() {
        let part = call.slice(at, index_shape.len() - 1, axis, 1)?;
        let part = from_start(call, part, shape[axis])?;
        let part = call.reshape(part, index_shape[..index_shape.len() - 1].to_vec())?;
        let stride = call.flow.constant(vec![], Dtype::INT, Data::ints(vec![stride as i64]))?;
        let part = call.binary(Binary::Mul, part, stride)?;
        row = Some(match row {
            None => part,
            Some(sum) => call.binary(Binary::Add, sum, part)?,
        });
    }
    let row = row.ok_or("it has no index")?;
    Ok(vec![call.push(Op::Gather { axis: 0 }, &[table, row])?])
}

/// Writes known places: every place of the result is either the operand's or one of the updates'.
fn scatter(call: &mut Call<'_, '_>, x: Id, flat: &[i64], updates: Id) -> Result<Vec<Id>, Fail> {
    let shape = call.shape(x);
    let count = numbers(&shape).unwrap_or(0);
    call.flow.reserve(&[count, 2])?;
    let (mut mask, mut source) = (vec![0_i64; count], vec![0_i64; count]);
    for (i, &place) in flat.iter().enumerate() {
        mask[place as usize] = 1;
        source[place as usize] = i as i64;
    }
    if flat.is_empty() {
        return Ok(vec![x]);
    }
    // Whole rows of one axis (a slice that is written) are a join of three parts, which moves values only.
    if let Some(joined) = as_slices(call, x, flat, updates)? {
        return Ok(vec![joined]);
    }
    let new = pick_flat(call, updates, source, shape.clone())?;
    let mask = call.flow.constant(shape, Dtype::Bool, Data::ints(mask))?;
    Ok(vec![call.push(Op::Where, &[mask, new, x])?])
}

/// The result as a join along one axis, where the updates fill a range of that axis in order.
fn as_slices(call: &mut Call<'_, '_>, x: Id, flat: &[i64], updates: Id) -> Result<Option<Id>, Fail> {
    let shape = call.shape(x);
    let own = strides(&shape);
    let (Some(&first), Some(&last)) = (flat.first(), flat.last()) else { return Ok(None) };
    for axis in 0..shape.len() {
        let start = (first as usize / own[axis]) % shape[axis];
        let end = (last as usize / own[axis]) % shape[axis];
        let mut part = shape.clone();
        let Some(len) = (end + 1).checked_sub(start) else { continue };
        part[axis] = len;
        let offset = start * own[axis];
        let fits = numbers(&part) == Some(flat.len())
            && places(&part, &own).zip(flat).all(|(place, &at)| place + offset == at as usize);
        if fits && len < shape[axis] {
            let new = call.reshape(updates, part)?;
            let mut parts = vec![new];
            if start > 0 {
                let before = call.slice(x, axis, 0, start)?;
                parts.insert(0, before);
            }
            if end + 1 < shape[axis] {
                let after = call.slice(x, axis, end + 1, shape[axis] - end - 1)?;
                parts.push(after);
            }
            return Ok(Some(call.concat(&parts, axis)?));
        }
        if fits {
            return Ok(Some(call.reshape(updates, shape)?));
        }
    }
    Ok(None)
}

fn no_reduction(call: &Call<'_, '_>) -> Result<(), Fail> {
    match call.text("reduction", "none").as_str() {
        "none" | "" => Ok(()),
        other => Err(Fail::Unsupported(format!("reduction `{other}`"))),
    }
}

fn scatter_elements(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    no_reduction(call)?;
    let (x, at, updates) = (call.operand(0)?, call.operand(1)?, call.operand(2)?);
    let shape = call.shape(x);
    let along = call.axis("axis", 0, shape.len())?;
    let flat = element_places(call, at, &shape, along)?;
    if numbers(&call.shape(updates)) != Some(flat.len()) {
        return Err("indices and updates have different shapes".into());
    }
    scatter(call, x, &flat, updates)
}

fn scatter_nd(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    no_reduction(call)?;
    let (x, at, updates) = (call.operand(0)?, call.operand(1)?, call.operand(2)?);
    let (shape, index_shape) = (call.shape(x), call.shape(at));
    let index = call.known(at)?.to_ints();
    let deep = index_shape.last().copied().unwrap_or(0);
    if deep == 0 || deep > shape.len() {
        return Err(format!("indices of shape {index_shape:?} into {shape:?}").into());
    }
    let own = strides(&shape);
    let inner: usize = shape[deep..].iter().product();
    let total = (index.len() / deep).checked_mul(inner);
    if total.is_none() || total != numbers(&call.shape(updates)) {
        return Err("indices and updates have different shapes".into());
    }
    call.flow.reserve(&[total.unwrap_or(0)])?;
    let mut flat = Vec::with_capacity(total.unwrap_or(0));
    for row in index.chunks_exact(deep) {
        let mut start = 0;
        for (a, &i) in row.iter().enumerate() {
            let i = if i < 0 { i.saturating_add(shape[a] as i64) } else { i };
            let i = usize::try_from(i).ok().filter(|&i| i < shape[a]);
            start += i.ok_or_else(|| format!("an entry beyond {} of axis {a}", shape[a]))? * own[a];
        }
        flat.extend((start..start + inner).map(|place| place as i64));
    }
    scatter(call, x, &flat, updates)
}
