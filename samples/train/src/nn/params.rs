//! All parameters in one flat vector, named as in the published checkpoints.

use crate::rng::Rng;
use std::ops::Range;

/// Index of a parameter.
pub type ParamId = usize;

/// How the values are stored here against how checkpoints store them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// As declared.
    Plain,
    /// Here `[out, kh, kw, in]` (a matrix for patches), published `[out, in, kh, kw]`.
    Patch,
    /// Here `[kh, kw, in, out]` (one matrix per tap), published `[out, in, kh, kw]`.
    Taps,
    /// Here `[h * w, c]`, published `[1, c, h, w]`.
    Table,
}

/// One named parameter.
pub struct Spec {
    /// Published name.
    pub name: String,
    /// Published shape.
    pub shape: Vec<usize>,
    /// Order of the values in [`Params::data`].
    pub layout: Layout,
    /// Weight decay applies (matrices only).
    pub decay: bool,
    /// Running statistics are no targets of the optimizer.
    pub learned: bool,
    /// Exported with the model (the auxiliary heads are not).
    pub shipped: bool,
    range: Range<usize>,
}

impl Spec {
    /// Where the values lie in [`Params::data`].
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }
}

/// The parameters of a model.
#[derive(Default)]
pub struct Params {
    /// Declared parameters in order.
    pub specs: Vec<Spec>,
    /// Their values.
    pub data: Vec<f32>,
}

impl Params {
    /// Declares a parameter with its initial values, given in the order of the layout.
    pub fn add(&mut self, name: String, shape: &[usize], layout: Layout, values: Vec<f32>) -> ParamId {
        assert_eq!(values.len(), shape.iter().product::<usize>(), "{name}");
        let range = self.data.len()..self.data.len() + values.len();
        self.data.extend(values);
        let running = name.contains("running_");
        let matrix = name.ends_with("weight") && shape.len() > 1 && !name.contains("embeddings");
        let shipped = !name.starts_with("aux.");
        let shape = shape.to_vec();
        self.specs.push(Spec { name, shape, layout, decay: matrix, learned: !running, shipped, range });
        self.specs.len() - 1
    }

    /// Values of a parameter.
    pub fn get(&self, id: ParamId) -> &[f32] {
        &self.data[self.specs[id].range.clone()]
    }

    /// Values of a parameter, to change.
    pub fn get_mut(&mut self, id: ParamId) -> &mut [f32] {
        &mut self.data[self.specs[id].range.clone()]
    }

    /// Where a parameter lies in the flat vector.
    pub fn range(&self, id: ParamId) -> Range<usize> {
        self.specs[id].range.clone()
    }

    /// The values in published order.
    pub fn published(&self, id: ParamId) -> Vec<f32> {
        let values = self.get(id);
        self.order(id).into_iter().map(|i| values[i]).collect()
    }

    /// Sets the values from published order.
    pub fn set_published(&mut self, id: ParamId, values: &[f32]) {
        let order = self.order(id);
        let own = self.get_mut(id);
        for (i, v) in order.into_iter().zip(values) {
            own[i] = *v;
        }
    }

    /// For every published position, the position here.
    fn order(&self, id: ParamId) -> Vec<usize> {
        let spec = &self.specs[id];
        let s = &spec.shape;
        let at: Box<dyn Fn(usize, usize, usize, usize) -> usize> = match spec.layout {
            Layout::Plain => return (0..spec.range.len()).collect(),
            Layout::Patch => Box::new(|o, i, y, x| ((o * s[2] + y) * s[3] + x) * s[1] + i),
            Layout::Taps => Box::new(|o, i, y, x| ((y * s[3] + x) * s[1] + i) * s[0] + o),
            Layout::Table => Box::new(|_, c, y, x| (y * s[3] + x) * s[1] + c),
        };
        let mut order = Vec::with_capacity(spec.range.len());
        for o in 0..s[0] {
            for i in 0..s[1] {
                for y in 0..s[2] {
                    for x in 0..s[3] {
                        order.push(at(o, i, y, x));
                    }
                }
            }
        }
        order
    }
}

/// Normal values cut at two standard deviations.
pub fn truncated(rng: &mut Rng, n: usize, sd: f32) -> Vec<f32> {
    let mut draw = || loop {
        let x = rng.normal();
        if x.abs() < 2.0 {
            return x * sd;
        }
    };
    (0..n).map(|_| draw()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Published order and back, and one entry by hand for every layout.
    #[test]
    fn layouts_round_trip() {
        let mut params = Params::default();
        let values: Vec<f32> = (0..48).map(|i| i as f32).collect();
        for layout in [Layout::Plain, Layout::Patch, Layout::Taps] {
            params.add(format!("{layout:?}"), &[2, 3, 2, 4], layout, values.clone());
        }
        let table = params.add("table".into(), &[1, 12, 2, 2], Layout::Table, values.clone());
        // [out 1, in 2, row 0, column 3]
        let at = (3 + 2) * 2 * 4 + 3;
        assert_eq!(params.published(0)[at], at as f32);
        assert_eq!(params.published(1)[at], ((2 * 4 + 3) * 3 + 2) as f32);
        assert_eq!(params.published(2)[at], ((3 * 3 + 2) * 2 + 1) as f32);
        // [channel 5, row 1, column 0]
        assert_eq!(params.published(table)[5 * 4 + 2], (2 * 12 + 5) as f32);
        for id in 0..4 {
            let published = params.published(id);
            params.get_mut(id).fill(0.0);
            params.set_published(id, &published);
            assert_eq!(params.get(id), values);
        }
    }
}
