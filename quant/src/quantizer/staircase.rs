//! A quantizer whose levels are not equally spaced, as the step function that it is.

use super::cells::Cells;
use super::distribution::Distribution;
use super::error::QuantizerError;
use super::params::Params;
use super::scheme::{Family, Scheme};
use super::{Quantizer, by_channel};
use crate::exec::kernels::steps::{Steps, cell};
use crate::terms::{Bits, Layout};

/// Levels and the bounds between them, found in f64 and rounded to the f32 values they separate.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Staircase {
    /// What is added to a value before it is compared.
    offset: f32,
    /// Ascending and positive: a value not below `bounds[i]` lies above cell `i`.
    bounds: Vec<f32>,
    /// Ascending, one more than the bounds.
    levels: Vec<f32>,
    /// The code of the lowest level, where codes fall with the values; they rise from 0 otherwise.
    zero: Option<u32>,
}

impl Staircase {
    /// Powers in descending order, each with the bound below it, and zero below the last. Codes count from the largest;
    /// zero has the code `zero`. Powers below the normal f32 count as zero.
    pub(super) fn powers(steps: impl Iterator<Item = (f64, f32)>, zero: u32) -> Self {
        let (mut bounds, mut levels): (Vec<f32>, Vec<f32>) = steps
            .take_while(|&(_, level)| level >= f32::MIN_POSITIVE)
            .map(|(bound, level)| (at_least(bound), level))
            .unzip();
        levels.push(0.0);
        bounds.reverse();
        levels.reverse();
        Self { offset: 0.0, bounds, levels, zero: Some(zero) }
    }

    /// Levels from zero upwards, numbered in this order, each but zero with the bound below it.
    pub(super) fn rising(steps: impl Iterator<Item = (f64, f32)>) -> Self {
        let (bounds, mut levels): (Vec<f32>, Vec<f32>) =
            steps.map(|(bound, level)| (at_least(bound), level)).unzip();
        levels.insert(0, 0.0);
        Self { offset: 0.0, bounds, levels, zero: None }
    }

    /// The same function of `x + offset`, less the offset.
    pub(super) fn shifted(mut self, offset: f32) -> Self {
        self.offset = offset;
        self.levels.iter_mut().for_each(|level| *level -= offset);
        self
    }

    /// Ready to be applied to `len` values.
    pub(super) fn steps(&self, len: usize) -> Steps<'_> {
        Steps::new(self.offset, &self.bounds, &self.levels, len)
    }

    fn code(&self, x: f32) -> u32 {
        let x = if x.is_nan() { 0.0 } else { x };
        let cell = cell(&self.bounds, x + self.offset);
        match self.zero {
            Some(zero) if cell == 0 => zero,
            Some(_) => (self.levels.len() - 1 - cell) as u32,
            None => cell as u32,
        }
    }

    fn value(&self, code: u32) -> f32 {
        let top = self.levels.len() - 1;
        let cell = match self.zero {
            Some(_) => top.saturating_sub(code as usize),
            None => top.min(code as usize),
        };
        self.levels[cell]
    }

    /// As bounds and levels of values.
    pub(super) fn cells(&self) -> Cells {
        let offset = f64::from(self.offset);
        Cells::Steps {
            bounds: self.bounds.iter().map(|&bound| f64::from(bound) - offset).collect(),
            levels: self.levels.iter().map(|&level| f64::from(level)).collect(),
        }
    }
}

/// The smallest f32 that is not below `bound`.
fn at_least(bound: f64) -> f32 {
    let nearest = bound as f32;
    if f64::from(nearest) < bound { nearest.next_up() } else { nearest }
}

/// The smallest f64 above `bound`, for bounds that belong to the cell below.
pub(super) fn above(bound: f64) -> f64 {
    bound.next_up()
}

/// A family that is a [`Staircase`].
pub(super) trait Stepped: Send + Sync {
    /// Which.
    const FAMILY: Family;

    /// As [`Quantizer::fit`].
    fn fit(&self, data: &Distribution<'_>, scheme: &Scheme, bits: Bits) -> Result<Params, QuantizerError>;

    /// Checks what the family has besides scales.
    fn check(&self, params: &Params) -> Result<(), QuantizerError>;

    /// The function of channel `c`.
    fn staircase(&self, params: &Params, c: usize) -> Staircase;

    /// That of every channel, or the only one.
    fn staircases(&self, params: &Params, channels: usize) -> Vec<Staircase> {
        let n = if params.per_channel() { channels.max(1) } else { 1 };
        (0..n).map(|c| self.staircase(params, c)).collect()
    }
}

impl<T: Stepped> Quantizer for T {
    fn name(&self) -> &'static str {
        T::FAMILY.as_str()
    }

    fn fit(&self, data: &Distribution<'_>, scheme: &Scheme, bits: Bits) -> Result<Params, QuantizerError> {
        super::check_family(scheme, T::FAMILY, bits)?;
        data.check()?;
        Stepped::fit(self, data, scheme, bits)
    }

    fn check(&self, params: &Params, layout: Layout) -> Result<(), QuantizerError> {
        params.check_scales(layout)?;
        Stepped::check(self, params)
    }

    fn fake_quantize(&self, x: &mut [f32], layout: Layout, params: &Params) {
        let len = if params.per_channel() { layout.inner } else { x.len() };
        let stairs = self.staircases(params, layout.channels);
        let steps: Vec<Steps<'_>> = stairs.iter().map(|stairs| stairs.steps(len)).collect();
        by_channel(x, layout, params, |values, c| steps[c].apply(values));
    }

    fn codes(&self, x: &[f32], layout: Layout, params: &Params) -> Vec<u32> {
        let stairs = self.staircases(params, layout.channels);
        let of = |at| if stairs.len() == 1 { 0 } else { layout.channel_of(at) };
        x.iter().enumerate().map(|(at, &x)| stairs[of(at)].code(x)).collect()
    }

    fn dequantize(&self, codes: &[u32], layout: Layout, params: &Params) -> Vec<f32> {
        let stairs = self.staircases(params, layout.channels);
        let of = |at| if stairs.len() == 1 { 0 } else { layout.channel_of(at) };
        codes.iter().enumerate().map(|(at, &code)| stairs[of(at)].value(code)).collect()
    }

    fn levels(&self, params: &Params, c: usize) -> Vec<f32> {
        let mut levels = self.staircase(params, c).levels;
        levels.dedup();
        levels
    }

    fn cells(&self, params: &Params, c: usize) -> Cells {
        self.staircase(params, c).cells()
    }
}

/// Checks a further parameter: one number or as many as scales, all of them allowed.
pub(super) fn check_setting(
    params: &Params,
    name: &str,
    allowed: impl Fn(f32) -> bool,
    what: &str,
) -> Result<(), QuantizerError> {
    let values = params.numbers(name);
    if values.len() != 1 && values.len() != params.scale.len() || values.is_empty() {
        let (found, scales) = (values.len(), params.scale.len());
        return Err(params.problem(&format!("`{name}` has {found} numbers for {scales} scales")));
    }
    if let Some(value) = values.iter().find(|value| !allowed(**value)) {
        return Err(params.problem(&format!("`{name}` is {value}, expected {what}")));
    }
    Ok(())
}

/// A further parameter of channel `c`.
pub(super) fn setting(params: &Params, name: &str, c: usize, default: f32) -> f32 {
    let values = params.numbers(name);
    values.get(if values.len() == 1 { 0 } else { c }).copied().unwrap_or(default)
}

#[cfg(test)]
mod tests {
    use super::Staircase;

    #[test]
    fn codes_and_values_are_each_others_inverse() {
        let stairs = Staircase::powers([(0.75, 1.0), (0.375, 0.5)].into_iter(), 4);
        for (x, code, value) in [(2.0, 0, 1.0), (0.75, 0, 1.0), (0.7, 1, 0.5), (0.1, 4, 0.0), (-1.0, 4, 0.0)]
        {
            assert_eq!((stairs.code(x), stairs.value(code)), (code, value), "{x}");
        }
        // Codes between the last power and zero are powers that count as zero.
        assert_eq!((stairs.value(3), stairs.value(u32::MAX), stairs.code(f32::NAN)), (0.0, 0.0, 4));
        let stairs = Staircase::rising([(0.5, 1.0), (1.5, 2.0)].into_iter()).shifted(1.0);
        for (x, code, value) in [(-2.0, 0, -1.0), (-0.5, 1, 0.0), (0.5, 2, 1.0)] {
            assert_eq!((stairs.code(x), stairs.value(code)), (code, value), "{x}");
        }
    }
}
