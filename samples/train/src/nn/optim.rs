//! AdamW on the flat parameter vector.

use super::kernels;
use super::params::Params;

/// Optimizer state, saved with every checkpoint: losing it costs more than a thousand images.
#[derive(Default)]
pub struct AdamW {
    /// First moments.
    pub m: Vec<f32>,
    /// Second moments.
    pub v: Vec<f32>,
    /// Steps done.
    pub steps: u64,
}

const BETAS: [f32; 2] = [0.9, 0.98];
const DECAY: f32 = 0.05;

impl AdamW {
    /// One step with the gradient averaged over replicas into `grads[0]`; returns the gradient norm. The norm is
    /// clipped at 1.
    pub fn step(&mut self, params: &mut Params, grads: &mut [Vec<f32>], rate: f32) -> f32 {
        let n = params.data.len();
        self.m.resize(n, 0.0);
        self.v.resize(n, 0.0);
        self.steps += 1;
        let (first, rest) = grads.split_at_mut(1);
        for other in rest.iter() {
            kernels::add(&mut first[0], other);
        }
        let share = 1.0 / (1 + rest.len()) as f32;
        let sum: f64 = first[0].chunks(4096).map(|c| c.iter().map(|g| g * g).sum::<f32>() as f64).sum();
        let norm = sum.sqrt() as f32 * share;
        let clip = share * (1.0 / norm.max(1e-6)).min(1.0);
        let t = self.steps as i32;
        let lr = rate / (1.0 - BETAS[0].powi(t));
        let correction = 1.0 / (1.0 - BETAS[1].powi(t));
        for (id, spec) in params.specs.iter().enumerate() {
            if !spec.learned {
                continue;
            }
            let r = params.range(id);
            let decay = if spec.decay { 1.0 - rate * DECAY } else { 1.0 };
            let p = &mut params.data[r.clone()];
            let k = [lr, BETAS[0], BETAS[1], correction, decay, clip];
            kernels::adamw(p, &first[0][r.clone()], &mut self.m[r.clone()], &mut self.v[r], k);
        }
        norm
    }
}
