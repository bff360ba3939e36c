//! What the codes of a tensor mean, and the codes of values that are already on a grid.

use crate::terms::{Bits, Layout};

/// How the codes of a tensor become values.
#[derive(Debug, Clone, PartialEq)]
pub enum Grid {
    /// (code − zero point) · scale.
    Affine {
        /// One number, or one a channel.
        scale: Vec<f32>,
        /// As many.
        zero_point: Vec<f32>,
    },
    /// A table of `2^bits` values, or one a channel.
    Levels(Vec<f32>),
}

/// Why a grid does not fit this many channels, if it does not.
pub(super) fn check_grid(grid: &Grid, channels: usize, bits: Bits) -> Result<(), String> {
    let levels = bits.levels().ok_or("values in full precision have no codes")? as usize;
    let numbers = |n: usize, each: usize, what: &str| {
        if n == each || Some(n) == channels.checked_mul(each) {
            Ok(())
        } else {
            Err(format!("{n} {what} for {channels} channels; expected {each} or {each} a channel"))
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

/// The channels of a layout's blocks of neighbours, in the order in which they lie.
fn channels_of_blocks(layout: Layout) -> impl Iterator<Item = usize> {
    (0..layout.channels).cycle().take(layout.outer.saturating_mul(layout.channels))
}

/// Values of codes.
pub(super) fn decode(codes: &[u16], layout: Layout, bits: Bits, grid: &Grid) -> Vec<f32> {
    let one_or = |values: &[f32], at: usize| values.get(at).or(values.first()).copied().unwrap_or(0.0);
    let levels = bits.levels().unwrap_or(1) as usize;
    codes
        .chunks(layout.inner.max(1))
        .zip(channels_of_blocks(layout))
        .flat_map(|(codes, channel)| {
            let (scale, zero_point, table): (f32, f32, &[f32]) = match grid {
                Grid::Affine { scale, zero_point } => {
                    (one_or(scale, channel), one_or(zero_point, channel), &[])
                }
                Grid::Levels(all) => {
                    let own = channel.saturating_mul(levels);
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
pub fn affine_codes(values: &[f32], layout: Layout, bits: Bits, grid: &Grid) -> Option<Vec<u16>> {
    let Grid::Affine { scale, zero_point } = grid else { return None };
    check_grid(grid, layout.channels, bits).ok()?;
    let most = f32::from(u16::try_from(bits.levels()? - 1).ok()?);
    let codes: Vec<u16> = values
        .chunks(layout.inner.max(1))
        .zip(channels_of_blocks(layout))
        .flat_map(|(values, channel)| {
            let s = scale.get(channel).or(scale.first()).copied().unwrap_or(1.0);
            let z = zero_point.get(channel).or(zero_point.first()).copied().unwrap_or(0.0);
            values.iter().map(move |v| ((v / s).round_ties_even() + z).clamp(0.0, most) as u16)
        })
        .collect();
    (decode(&codes, layout, bits, grid) == values).then_some(codes)
}

/// Codes and tables of values that lie on any grid of at most 8 bits: the distinct values, ascending, become
/// the levels, of the whole tensor if they are few enough, else of each channel. `None` when they are too many.
pub fn level_codes(values: &[f32], layout: Layout, bits: Bits) -> Option<(Vec<u16>, Grid)> {
    // A table of 16 bits would be larger than the values.
    let each = bits.levels().filter(|&n| n <= 256)? as usize;
    table_codes(values, Layout::tensor(values.len()), each).or_else(|| table_codes(values, layout, each))
}

fn table_codes(values: &[f32], layout: Layout, each: usize) -> Option<(Vec<u16>, Grid)> {
    if layout.checked_len() != Some(values.len()) {
        return None;
    }
    let (mut codes, mut table) = (vec![0; values.len()], Vec::new());
    for channel in 0..layout.channels {
        let blocks = || {
            (0..layout.outer).flat_map(|block| {
                let from = (block * layout.channels + channel) * layout.inner;
                from..from + layout.inner
            })
        };
        // The few values there are, not a sorted copy of all.
        let mut levels: Vec<f32> = Vec::with_capacity(each);
        for at in blocks() {
            if let Err(place) = levels.binary_search_by(|l| l.total_cmp(&values[at])) {
                if levels.len() == each {
                    return None;
                }
                levels.insert(place, values[at]);
            }
        }
        for at in blocks() {
            codes[at] = levels.binary_search_by(|l| l.total_cmp(&values[at])).ok()? as u16;
        }
        // Codes that no value has repeat the largest level.
        levels.resize(each, *levels.last()?);
        table.extend(levels);
    }
    Some((codes, Grid::Levels(table)))
}
