//! Operators that multiply matrices.

use super::super::flow::{Binary, Id, Op};
use super::super::shape::join;
use super::Handler;
use super::call::{Call, Fail};

pub(super) fn handler(op: &str) -> Option<Handler> {
    Some(match op {
        "MatMul" => |call| {
            let (x, y) = (call.operand(0)?, call.operand(1)?);
            Ok(vec![matmul(call, x, y)?])
        },
        "Gemm" => gemm,
        "Einsum" => einsum,
        _ => return None,
    })
}

/// The product as NumPy's `matmul` defines it. A known matrix on the right makes a Linear, whose weight is stored
/// `[out, in]`.
pub(super) fn matmul(call: &mut Call<'_, '_>, x: Id, y: Id) -> Result<Id, Fail> {
    let (a, b) = (call.shape(x), call.shape(y));
    if a.is_empty() || b.is_empty() {
        return Err(format!("shapes {a:?} and {b:?} cannot be multiplied").into());
    }
    let weight = b.len() >= 2 && b[..b.len() - 2].iter().all(|&n| n == 1) && call.flow.data(y).is_some();
    if weight && a.len() >= b.len().min(2) && a.len() + 2 >= b.len() {
        let w = call.reshape(y, b[b.len() - 2..].to_vec())?;
        let w = call.permute(w, &[1, 0])?;
        let mut product = call.push(Op::Linear, &[x, w])?;
        if b.len() > a.len() {
            let mut shape = vec![1; b.len() - a.len()];
            shape.extend(call.shape(product));
            product = call.reshape(product, shape)?;
        }
        return Ok(product);
    }
    // A vector is a row on the left and a column on the right.
    let (x, a) = if a.len() == 1 { (call.reshape(x, vec![1, a[0]])?, vec![1, a[0]]) } else { (x, a) };
    let vector = b.len() == 1;
    let (y, b) = if vector { (call.reshape(y, vec![b[0], 1])?, vec![b[0], 1]) } else { (y, b) };
    let row = call.rank(call.operand(0)?) == 1;
    // One matrix for all: the rows of the left operand are joined.
    let product = if b[..b.len() - 2].iter().all(|&n| n == 1) && a.len() > 2 && b.len() <= a.len() {
        let (rows, k) = (a[..a.len() - 1].iter().product(), a[a.len() - 1]);
        let flat = call.reshape(x, vec![rows, k])?;
        let matrix = call.reshape(y, b[b.len() - 2..].to_vec())?;
        let product = if a[..a.len() - 2] == b[..b.len() - 2] {
            call.push(Op::MatMul { transpose_rhs: false, alpha: 1.0 }, &[x, y])?
        } else {
            call.push(Op::MatMul { transpose_rhs: false, alpha: 1.0 }, &[flat, matrix])?
        };
        let mut shape = a;
        let last = shape.len() - 1;
        shape[last] = b[b.len() - 1];
        call.reshape(product, shape)?
    } else {
        let lead = join(&[&a[..a.len() - 2], &b[..b.len() - 2]])?;
        let mut wide = |id: Id, shape: &[usize]| {
            let mut one = vec![1; lead.len() + 2 - shape.len()];
            one.extend(shape);
            let id = call.reshape(id, one)?;
            let mut to = lead.clone();
            to.extend(&shape[shape.len() - 2..]);
            call.expand(id, to)
        };
        let (x, y) = (wide(x, &a)?, wide(y, &b)?);
        call.push(Op::MatMul { transpose_rhs: false, alpha: 1.0 }, &[x, y])?
    };
    let mut shape = call.shape(product);
    if vector {
        shape.pop();
    }
    if row {
        shape.remove(shape.len() - if vector { 1 } else { 2 });
    }
    call.reshape(product, shape)
}

/// `alpha · A · B + beta · C`.
fn gemm(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    let (mut x, mut y) = (call.operand(0)?, call.operand(1)?);
    if call.rank(x) != 2 || call.rank(y) != 2 {
        return Err("its operands must be matrices".into());
    }
    if call.flag("transA", false) {
        x = call.permute(x, &[1, 0])?;
    }
    let (alpha, beta) = (call.float("alpha", 1.0), call.float("beta", 1.0));
    let transposed = call.flag("transB", false);
    if alpha != 1.0 {
        // Into a known weight, or else the left operand.
        if call.flow.data(y).is_some() {
            y = call.with(Binary::Mul, y, alpha)?;
        } else {
            x = call.with(Binary::Mul, x, alpha)?;
        }
    }
    let mut product = if transposed && call.flow.data(y).is_some() {
        // Already stored as a Linear wants it.
        call.push(Op::Linear, &[x, y])?
    } else {
        if transposed {
            y = call.permute(y, &[1, 0])?;
        }
        matmul(call, x, y)?
    };
    if let Some(mut c) = call.optional(2) {
        if beta != 1.0 {
            c = call.with(Binary::Mul, c, beta)?;
        }
        product = call.binary(Binary::Add, product, c)?;
    }
    Ok(vec![product])
}

/// Two operands whose labels are batch, left, right or summed; one operand whose labels change order.
fn einsum(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    let equation: String = call.text("equation", "").chars().filter(|c| !c.is_whitespace()).collect();
    let refuse = || Fail::Unsupported(format!("the equation `{equation}`"));
    let (left, out) = equation.split_once("->").ok_or_else(refuse)?;
    let terms: Vec<Vec<char>> = left.split(',').map(|t| t.chars().collect()).collect();
    let out: Vec<char> = out.chars().collect();
    let plain = |t: &[char]| {
        t.iter().all(char::is_ascii_alphabetic) && t.iter().enumerate().all(|(i, c)| !t[..i].contains(c))
    };
    if !terms.iter().all(|t| plain(t)) || !plain(&out) || terms.len() != call.operands.len() {
        return Err(refuse());
    }
    let x = call.operand(0)?;
    let place = |term: &[char], c: char| term.iter().position(|&t| t == c);
    if let [term] = terms.as_slice() {
        let order: Option<Vec<usize>> = out.iter().map(|&c| place(term, c)).collect();
        let order = order.filter(|o| o.len() == term.len()).ok_or_else(refuse)?;
        return Ok(vec![call.permute(x, &order)?]);
    }
    let [a, b] = terms.as_slice() else { return Err(refuse()) };
    let y = call.operand(1)?;
    let (shape_a, shape_b) = (call.shape(x), call.shape(y));
    if a.len() != shape_a.len() || b.len() != shape_b.len() {
        return Err(format!("`{equation}` for {shape_a:?} and {shape_b:?}").into());
    }
    let batch: Vec<char> = out.iter().copied().filter(|c| a.contains(c) && b.contains(c)).collect();
    let rows: Vec<char> = out.iter().copied().filter(|c| a.contains(c) && !b.contains(c)).collect();
    let columns: Vec<char> = out.iter().copied().filter(|c| b.contains(c) && !a.contains(c)).collect();
    let inner: Vec<char> = a.iter().copied().filter(|c| b.contains(c) && !out.contains(c)).collect();
    if batch.len() + rows.len() + columns.len() != out.len()
        || batch.len() + rows.len() + inner.len() != a.len()
        || batch.len() + columns.len() + inner.len() != b.len()
    {
        return Err(refuse());
    }
    let size = |c: char| place(a, c).map_or_else(|| place(b, c).map_or(1, |i| shape_b[i]), |i| shape_a[i]);
    let count = |labels: &[char]| labels.iter().map(|&c| size(c)).product::<usize>();
    let order = |term: &[char], parts: [&[char]; 3]| -> Vec<usize> {
        parts.iter().flat_map(|part| part.iter()).filter_map(|&c| place(term, c)).collect()
    };
    let (n, r, c, k) = (count(&batch), count(&rows), count(&columns), count(&inner));
    let x = call.permute(x, &order(a, [&batch, &rows, &inner]))?;
    let x = call.reshape(x, vec![n, r, k])?;
    // The right operand keeps its summed axis last if it has it there.
    let turned = inner.last().is_some_and(|c| b.last() == Some(c));
    let y = if turned {
        let y = call.permute(y, &order(b, [&batch, &columns, &inner]))?;
        call.reshape(y, vec![n, c, k])?
    } else {
        let y = call.permute(y, &order(b, [&batch, &inner, &columns]))?;
        call.reshape(y, vec![n, k, c])?
    };
    let product = call.push(Op::MatMul { transpose_rhs: turned, alpha: 1.0 }, &[x, y])?;
    let made: Vec<char> = batch.iter().chain(&rows).chain(&columns).copied().collect();
    let product = call.reshape(product, made.iter().map(|&c| size(c)).collect())?;
    let order: Vec<usize> = out.iter().filter_map(|&c| place(&made, c)).collect();
    Ok(vec![call.permute(product, &order)?])
}
