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

/// Part of the vectors, worked on by one thread.
struct Part<'a> {
    first: usize,
    p: &'a mut [f32],
    g: &'a mut [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
}

impl AdamW {
    /// One step with the mean of the replicas' gradients, clipped to norm 1; returns the norm before clipping.
    /// The gradients are overwritten. Uses one thread per replica.
    pub fn step(&mut self, params: &mut Params, grads: &mut [Vec<f32>], rate: f32) -> f32 {
        let n = params.data.len();
        self.m.resize(n, 0.0);
        self.v.resize(n, 0.0);
        self.steps += 1;
        let replicas = grads.len();
        let Some((first, rest)) = grads.split_first_mut() else { return 0.0 };
        let size = n.div_ceil(replicas);
        let mut parts: Vec<Part> = first
            .chunks_mut(size)
            .zip(params.data.chunks_mut(size))
            .zip(self.m.chunks_mut(size).zip(self.v.chunks_mut(size)))
            .enumerate()
            .map(|(i, ((g, p), (m, v)))| Part { first: i * size, p, g, m, v })
            .collect();
        let squares = |part: &mut Part| {
            for other in rest.iter() {
                kernels::add(part.g, &other[part.first..part.first + part.g.len()]);
            }
            part.g.chunks(4096).map(|c| f64::from(c.iter().map(|g| g * g).sum::<f32>())).sum::<f64>()
        };
        let squares = &squares;
        let sum: f64 = std::thread::scope(|scope| {
            let threads: Vec<_> = parts.iter_mut().map(|part| scope.spawn(move || squares(part))).collect();
            threads.into_iter().map(|t| t.join().expect("an optimizer thread panicked")).sum()
        });
        let share = 1.0 / replicas as f32;
        let norm = sum.sqrt() as f32 * share;
        let t = self.steps as i32;
        let lr = rate / (1.0 - BETAS[0].powi(t));
        let correction = 1.0 / (1.0 - BETAS[1].powi(t));
        let clip = share * (1.0 / norm.max(1e-6)).min(1.0);
        let segments: Vec<_> = params
            .specs
            .iter()
            .filter(|s| s.learned)
            .map(|s| (s.range(), if s.decay { 1.0 - rate * DECAY } else { 1.0 }))
            .collect();
        std::thread::scope(|scope| {
            for part in parts {
                let segments = &segments;
                scope.spawn(move || {
                    let end = part.first + part.p.len();
                    for (range, decay) in segments {
                        let (a, b) = (range.start.max(part.first), range.end.min(end));
                        if a < b {
                            let r = a - part.first..b - part.first;
                            let k = [lr, BETAS[0], BETAS[1], correction, *decay, clip];
                            let (p, m, v) =
                                (&mut part.p[r.clone()], &mut part.m[r.clone()], &mut part.v[r.clone()]);
                            kernels::adamw(p, &part.g[r], m, v, k);
                        }
                    }
                });
            }
        });
        norm
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::params::Layout;

    /// Two replicas and one with the mean gradient do the same, and the first step has the size of the rate.
    #[test]
    fn replicas_are_averaged() {
        let gradients = [vec![3.0, -1.0, 0.5], vec![1.0, -1.0, 1.5]];
        let mean: Vec<f32> = (0..3).map(|i| f32::midpoint(gradients[0][i], gradients[1][i])).collect();
        let run = |mut grads: Vec<Vec<f32>>| {
            let mut params = Params::default();
            params.add("w.bias".into(), &[2], Layout::Plain, vec![1.0, 2.0]);
            params.add("x.bias".into(), &[1], Layout::Plain, vec![3.0]);
            let norm = AdamW::default().step(&mut params, &mut grads, 0.1);
            (params.data, norm)
        };
        let (two, norm) = run(gradients.to_vec());
        assert_eq!((two.clone(), norm), run(vec![mean]));
        assert!((norm - 6.0f32.sqrt()).abs() < 1e-5);
        for (value, want) in two.iter().zip([0.9, 2.1, 2.9]) {
            assert!((value - want).abs() < 1e-4, "{value} {want}");
        }
    }
}
