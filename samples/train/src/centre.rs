//! Centres the word values of the finished model.
//!
//! What a pixel takes from the words is a weighted mean of their values with weights that sum to one, and the
//! projection that follows is normalised over the pixels (`InstanceNorm`): a constant added to a value channel
//! disappears. Training therefore leaves the value biases wherever they happened to go, for this model at up to ten
//! times the spread of a channel, and an 8-bit grid over all channels then loses what distinguishes the pixels. The
//! shipped biases put the middle of each channel's range, over the calibration pairs, at zero. The function stays.

use crate::batch::Batch;
use crate::bundle::calibration_pairs;
use crate::model::{Model, SIDE};
use crate::nn::params::Params;
use crate::nn::tape::{Tape, Workspace};
use crate::sprites::Art;

/// Pairs that run at once.
const BATCH: usize = 8;

/// Moves the value biases of `params`.
pub fn values(art: &Art, model: &Model, params: &mut Params) {
    let biases = model.value_biases();
    let empty = |id: &usize| vec![(f32::INFINITY, f32::NEG_INFINITY); params.get(*id).len()];
    let mut ranges: Vec<Vec<(f32, f32)>> = biases.iter().map(empty).collect();
    let plans = model.plans(SIDE);
    for pairs in calibration_pairs(art).chunks(BATCH) {
        let mut batch = Batch::default();
        for (scene, text) in pairs {
            batch.push_plain(scene, text, SIDE);
        }
        let mut tape = Tape::new(params, Workspace::default(), false);
        let out = model.forward(&mut tape, &plans, batch.patches, &batch.ids, &batch.words);
        for (range, id) in ranges.iter_mut().zip(&out.attended) {
            for row in tape.value(*id).chunks_exact(range.len()) {
                for ((low, high), x) in range.iter_mut().zip(row) {
                    *low = low.min(*x);
                    *high = high.max(*x);
                }
            }
        }
    }
    for (id, range) in biases.into_iter().zip(ranges) {
        for (bias, (low, high)) in params.get_mut(id).iter_mut().zip(range) {
            *bias -= f32::midpoint(low, high);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::{Drawings, compose};
    use crate::words;

    fn logits(model: &Model, params: &Params, batch: &Batch) -> Vec<f32> {
        let mut tape = Tape::new(params, Workspace::default(), false);
        let plans = model.plans(SIDE);
        let out = model.forward(&mut tape, &plans, batch.patches.clone(), &batch.ids, &batch.words);
        tape.value(out.logits).to_vec()
    }

    #[test]
    fn centring_changes_biases_and_nothing_else() {
        let art = Art::open("../art".as_ref()).unwrap();
        let mut params = Params::default();
        let model = Model::new(&mut params, words::vocabulary().len(), 3);
        for id in model.value_biases() {
            params.get_mut(id).iter_mut().enumerate().for_each(|(i, b)| *b = 1.0 - (i % 3) as f32);
        }
        let mut batch = Batch::default();
        let scene = compose(&art, 77, 0, Drawings::Known);
        batch.push_plain(&scene, "the dog", SIDE);
        let before = logits(&model, &params, &batch);
        let biases = params.get(model.value_biases()[0]).to_vec();
        values(&art, &model, &mut params);
        let after = logits(&model, &params, &batch);
        let gap = before.iter().zip(&after).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(gap < 1e-2, "{gap}");
        let moved = params.get(model.value_biases()[0]);
        assert!(moved.iter().zip(&biases).any(|(a, b)| (a - b).abs() > 0.3));
    }
}
