//! What the codes of a tensor mean, and the codes of values that are already on a grid.

use crate::terms::Bits;

/// How the codes of a tensor become values.
#[derive(Debug, Clone, PartialEq)]
pub enum Grid {
    /// (code − zero point) · scale.
    Affine {
        /// One number, or one a row.
        scale: Vec<f32>,
        /// As many.
        zero_point: Vec<f32>,
    },
    /// A table of `2^bits` values, or one a row.
    Levels(Vec<f32>),
}

/// Why a grid does not fit this many rows, if it does not.
pub(super) fn check_grid(grid: &Grid, rows: usize, bits: Bits) -> Result<(), String> {
    let levels = bits.levels().ok_or("values in full precision have no codes")? as usize;
    let numbers = |n: usize, each: usize, what: &str| {
        if n == each || Some(n) == rows.checked_mul(each) {
            Ok(())
        } else {
            Err(format!("{n} {what} for {rows} rows; expected {each} or {each} a row"))
        }
    };
    let all_finite = |v: &[f32]| v.iter().all(|v| v.is_finite());
    match grid {
        Grid::Affine { scale, zero_point } => {
            numbers(scale.len(), 1, "scales")?;
            numbers(zero_point.len(), 1, "zero points")?;
            if !(all_finite(scale) && all_finite(zero_point)) {
                return Err("a scale or zero point is not finite; fit it again".to_owned());
            }
        }
        Grid::Levels(table) => numbers(table.len(), levels, "levels")?,
    }
    Ok(())
}

/// Values of codes, row by row.
pub(super) fn decode(codes: &[u16], columns: usize, bits: Bits, grid: &Grid) -> Vec<f32> {
    let one_or = |values: &[f32], row: usize| values.get(row).or(values.first()).copied().unwrap_or(0.0);
    let levels = bits.levels().unwrap_or(1) as usize;
    codes
        .chunks(columns.max(1))
        .enumerate()
        .flat_map(|(row, codes)| {
            let (scale, zero_point, table): (f32, f32, &[f32]) = match grid {
                Grid::Affine { scale, zero_point } => (one_or(scale, row), one_or(zero_point, row), &[]),
                Grid::Levels(all) => {
                    let own = row.saturating_mul(levels);
                    (0.0, 0.0, all.get(own..own.saturating_add(levels)).or(all.get(..levels)).unwrap_or(&[]))
                }
            };
            let affine = matches!(grid, Grid::Affine { .. });
            codes.iter().map(move |&code| {
                if affine {
                    (f32::from(code) - zero_point) * scale
                } else {
                    table.get(usize::from(code)).copied().unwrap_or(0.0)
                }
            })
        })
        .collect()
}

/// Codes of values that were already brought to a uniform grid. `None` unless each value comes back from its
/// code to the last bit (the sign of a zero aside).
pub fn affine_codes(values: &[f32], rows: usize, bits: Bits, grid: &Grid) -> Option<Vec<u16>> {
    let Grid::Affine { scale, zero_point } = grid else { return None };
    check_grid(grid, rows, bits).ok()?;
    let most = f32::from(u16::try_from(bits.levels()? - 1).ok()?);
    let columns = values.len().checked_div(rows).unwrap_or(0);
    let codes: Vec<u16> = values
        .chunks(columns.max(1))
        .enumerate()
        .flat_map(|(row, values)| {
            let s = scale.get(row).or(scale.first()).copied().unwrap_or(1.0);
            let z = zero_point.get(row).or(zero_point.first()).copied().unwrap_or(0.0);
            values.iter().map(move |v| ((v / s).round_ties_even() + z).clamp(0.0, most) as u16)
        })
        .collect();
    (decode(&codes, columns, bits, grid) == values).then_some(codes)
}

/// Codes and tables of values that lie on any grid of at most 8 bits: the distinct values, ascending, become
/// the levels, of the whole tensor if they are few enough, else of each row. `None` when they are too many.
pub fn level_codes(values: &[f32], rows: usize, bits: Bits) -> Option<(Vec<u16>, Grid)> {
    // A table of 16 bits would be larger than the values.
    let each = bits.levels().filter(|&n| n <= 256)? as usize;
    table_codes(values, 1, each).or_else(|| table_codes(values, rows, each))
}

fn table_codes(values: &[f32], rows: usize, each: usize) -> Option<(Vec<u16>, Grid)> {
    let columns = values.len().checked_div(rows).filter(|c| c * rows == values.len())?;
    let (mut codes, mut table) = (Vec::with_capacity(values.len()), Vec::new());
    for row in values.chunks(columns.max(1)) {
        // The few values there are, not a sorted copy of all.
        let mut levels: Vec<f32> = Vec::with_capacity(each);
        for value in row {
            if let Err(at) = levels.binary_search_by(|l| l.total_cmp(value)) {
                if levels.len() == each {
                    return None;
                }
                levels.insert(at, *value);
            }
        }
        for value in row {
            codes.push(levels.binary_search_by(|l| l.total_cmp(value)).ok()? as u16);
        }
        // Codes that no value has repeat the largest level.
        levels.resize(each, *levels.last()?);
        table.extend(levels);
    }
    Some((codes, Grid::Levels(table)))
}
