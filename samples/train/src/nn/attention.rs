//! One attention for all uses: shifted windows, words among themselves, pixels over words.

use super::gemm::{Mat, gemm};
use super::kernels as k;
use super::params::ParamId;
use super::tape::{Id, Tape};
use std::sync::Arc;

/// Which rows attend to which, the same for every image.
pub struct Plan {
    /// Rows of one image among the queries; all groups have the same length.
    pub queries: Vec<Vec<u32>>,
    /// Rows of one image among the keys for every group.
    pub keys: Vec<Vec<u32>>,
    /// Rows per image of the query and of the key matrix.
    pub rows: [usize; 2],
    /// Heads, each with `dim` columns.
    pub heads: usize,
    /// Columns per head.
    pub dim: usize,
    /// Factor on the scores.
    pub scale: f32,
    /// Learned bias: table `[entries, heads]` and the entry of every (query, key).
    pub bias: Option<(ParamId, Vec<u32>)>,
    /// Constant added to the scores per group (window masks), empty where a group has none.
    pub masks: Vec<Vec<f32>>,
}

impl Plan {
    /// Shifted-window attention on a square grid; `table` has `(2 window_size - 1)^2` rows, indexed about its
    /// centre, whatever the window in use. The shift is an index mapping, nothing is rolled.
    pub fn windows(
        grid: usize,
        window_size: usize,
        odd: bool,
        heads: usize,
        dim: usize,
        table: ParamId,
    ) -> Self {
        let w = if grid.is_multiple_of(window_size) { window_size } else { 6 };
        let w = w.min(grid);
        assert_eq!(grid % w, 0, "training uses grids that windows divide");
        let shift = if odd && grid > w { w / 2 } else { 0 };
        let n = grid / w;
        let mut groups = Vec::new();
        let mut masks = Vec::new();
        // Regions of the rolled picture that were no neighbours before rolling must not see each other.
        let region = |at: usize| usize::from(at + w >= grid) + usize::from(at + shift >= grid);
        for wy in 0..n {
            for wx in 0..n {
                let cells = (0..w * w).map(|i| (wy * w + i / w, wx * w + i % w));
                groups.push(
                    cells
                        .clone()
                        .map(|(y, x)| ((y + shift) % grid * grid + (x + shift) % grid) as u32)
                        .collect(),
                );
                let mut mask = Vec::new();
                if shift > 0 && (wy + 1 == n || wx + 1 == n) {
                    for (y, x) in cells.clone() {
                        for (v, u) in cells.clone() {
                            let same = region(y) == region(v) && region(x) == region(u);
                            mask.push(if same { 0.0 } else { -100.0 });
                        }
                    }
                }
                masks.push(mask);
            }
        }
        let side = 2 * window_size - 1;
        let mut index = Vec::new();
        for q in 0..w * w {
            for c in 0..w * w {
                let dy = q / w + window_size - 1 - c / w;
                let dx = q % w + window_size - 1 - c % w;
                index.push((dy * side + dx) as u32);
            }
        }
        let rows = [grid * grid; 2];
        let scale = (dim as f32).powf(-0.5);
        Self {
            queries: groups.clone(),
            keys: groups,
            rows,
            heads,
            dim,
            scale,
            bias: Some((table, index)),
            masks,
        }
    }

    /// Every one of `queries` rows over all `keys` rows of the same image.
    pub fn dense(queries: usize, keys: usize, heads: usize, dim: usize) -> Self {
        let all = |n: usize| vec![(0..n as u32).collect::<Vec<_>>()];
        let scale = (dim as f32).powf(-0.5);
        let rows = [queries, keys];
        Self {
            queries: all(queries),
            keys: all(keys),
            rows,
            heads,
            dim,
            scale,
            bias: None,
            masks: vec![Vec::new()],
        }
    }

    /// The constant and learned parts of the scores: `[heads][queries, padded keys]`; padding never gets weight.
    fn offsets(
        &self,
        table: Option<&[f32]>,
        mask: &[f32],
        key_mask: &[f32],
        nq: usize,
        nk: usize,
    ) -> Vec<f32> {
        let padded = nk.next_multiple_of(16);
        let mut out = vec![-1e30; self.heads * nq * padded];
        for h in 0..self.heads {
            for q in 0..nq {
                let row = &mut out[(h * nq + q) * padded..][..nk];
                for (c, v) in row.iter_mut().enumerate() {
                    let i = q * nk + c;
                    *v = 0.0;
                    if let (Some((_, index)), Some(table)) = (&self.bias, table) {
                        *v += table[index[i] as usize * self.heads + h];
                    }
                    if !mask.is_empty() {
                        *v += mask[i];
                    }
                    if !key_mask.is_empty() {
                        *v += key_mask[c];
                    }
                }
            }
        }
        out
    }
}

/// A source of queries, keys or values: a value of the tape and the first column to use.
pub type Source = (Id, usize);

fn gather(rows: &[u32], base: usize, from: &[f32], cols: usize, at: usize, width: usize, out: &mut [f32]) {
    for (row, out) in rows.iter().zip(out.chunks_exact_mut(width)) {
        let start = (base + *row as usize) * cols + at;
        out.copy_from_slice(&from[start..start + width]);
    }
}

fn scatter(rows: &[u32], base: usize, from: &[f32], cols: usize, at: usize, width: usize, out: &mut [f32]) {
    for (row, from) in rows.iter().zip(from.chunks_exact(width)) {
        let start = (base + *row as usize) * cols + at;
        k::add(&mut out[start..start + width], from);
    }
}

impl Tape<'_> {
    /// Multi-head attention. `key_mask` holds one number per image and key to add to the scores, or nothing.
    /// The result has the rows of the queries and `heads * dim` columns.
    pub fn attention(&mut self, plan: &Arc<Plan>, q: Source, kk: Source, v: Source, key_mask: &[f32]) -> Id {
        let plan = Arc::clone(plan);
        let width = plan.heads * plan.dim;
        let images = self.rows(q.0) / plan.rows[0];
        let (nq, nk) = (plan.queries[0].len(), plan.keys[0].len());
        let np = nk.next_multiple_of(16);
        let groups = plan.queries.len();
        let table = plan.bias.as_ref().map(|(id, _)| self.param(*id));
        let mut out = self.take(images * plan.rows[0] * width);
        let mut probs = self.take(images * groups * plan.heads * nq * np);
        let (mut qs, mut ks, mut vs) = (self.take(nq * width), self.take(nk * width), self.take(nk * width));
        let mut os = self.take(nq * width);
        let plain = plan.offsets(table, &[], &[], nq, nk);
        let masked: Vec<_> = plan
            .masks
            .iter()
            .map(|m| if m.is_empty() { Vec::new() } else { plan.offsets(table, m, &[], nq, nk) })
            .collect();
        for image in 0..images {
            let own = (!key_mask.is_empty())
                .then(|| plan.offsets(table, &[], &key_mask[image * nk..(image + 1) * nk], nq, nk));
            for group in 0..groups {
                let (queries, keys) = (&plan.queries[group], &plan.keys[group]);
                gather(queries, image * plan.rows[0], self.value(q.0), self.cols(q.0), q.1, width, &mut qs);
                gather(keys, image * plan.rows[1], self.value(kk.0), self.cols(kk.0), kk.1, width, &mut ks);
                gather(keys, image * plan.rows[1], self.value(v.0), self.cols(v.0), v.1, width, &mut vs);
                for x in &mut qs {
                    *x *= plan.scale;
                }
                let offsets = match &own {
                    Some(own) => own,
                    None if masked[group].is_empty() => &plain,
                    None => &masked[group],
                };
                let p = &mut probs[(image * groups + group) * plan.heads * nq * np..][..plan.heads * nq * np];
                for h in 0..plan.heads {
                    let at = h * plan.dim;
                    let p = &mut p[h * nq * np..][..nq * np];
                    let (a, b) = (Mat::rows(&qs[at..], width), Mat::transposed(&ks[at..], width));
                    if np > nk {
                        p.fill(0.0);
                    }
                    gemm([nq, nk, plan.dim], a, b, p, np, false);
                    k::softmax(p, &offsets[h * nq * np..][..nq * np], np);
                    gemm(
                        [nq, plan.dim, nk],
                        Mat::rows(p, np),
                        Mat::rows(&vs[at..], width),
                        &mut os[at..],
                        width,
                        false,
                    );
                }
                for (row, from) in queries.iter().zip(os.chunks_exact(width)) {
                    let start = (image * plan.rows[0] + *row as usize) * width;
                    out[start..start + width].copy_from_slice(from);
                }
            }
        }
        for buffer in [qs, ks, vs, os] {
            self.give(buffer);
        }
        if !self.train {
            self.give(probs);
            return self.push(out, width, |_, _| ());
        }
        self.push(out, width, move |t, g| t.attention_grad(&plan, [q, kk, v], probs, g))
    }

    fn attention_grad(&mut self, plan: &Plan, sources: [Source; 3], probs: Vec<f32>, g: Vec<f32>) {
        let width = plan.heads * plan.dim;
        let images = g.len() / (plan.rows[0] * width);
        let (nq, nk) = (plan.queries[0].len(), plan.keys[0].len());
        let np = nk.next_multiple_of(16);
        let groups = plan.queries.len();
        let [q, kk, v] = sources;
        // Query, key and value may be column blocks of one value: one gradient buffer per distinct value.
        let mut ids = vec![q.0, kk.0, v.0];
        ids.sort_unstable();
        ids.dedup();
        let sizes: Vec<usize> = ids.iter().map(|id| self.value(*id).len()).collect();
        let mut grads: Vec<Vec<f32>> = sizes.into_iter().map(|n| self.zeros(n)).collect();
        let slot = |s: Source| ids.iter().position(|id| *id == s.0).unwrap_or(0);
        let mut bias = self.zeros(plan.heads * nq * np);
        let mut dp = self.take(nq * np);
        let mut buffers: Vec<Vec<f32>> = Vec::new();
        for rows in [nq, nk, nk, nq, nq, nk, nk] {
            buffers.push(self.take(rows * width));
        }
        let [qs, ks, vs, os, dq, dk, dv] = &mut buffers[..] else { unreachable!() };
        for image in 0..images {
            for group in 0..groups {
                let (queries, keys) = (&plan.queries[group], &plan.keys[group]);
                let (qb, kb) = (image * plan.rows[0], image * plan.rows[1]);
                gather(queries, qb, self.value(q.0), self.cols(q.0), q.1, width, qs);
                gather(keys, kb, self.value(kk.0), self.cols(kk.0), kk.1, width, ks);
                gather(keys, kb, self.value(v.0), self.cols(v.0), v.1, width, vs);
                gather(queries, qb, &g, width, 0, width, os);
                for x in qs.iter_mut() {
                    *x *= plan.scale;
                }
                let p = &probs[(image * groups + group) * plan.heads * nq * np..][..plan.heads * nq * np];
                for h in 0..plan.heads {
                    let at = h * plan.dim;
                    let d = plan.dim;
                    let p = &p[h * nq * np..][..nq * np];
                    if np > nk {
                        dp.fill(0.0);
                    }
                    let o = Mat::rows(&os[at..], width);
                    gemm([nk, d, nq], Mat::transposed(p, np), o, &mut dv[at..], width, false);
                    gemm([nq, nk, d], o, Mat::transposed(&vs[at..], width), &mut dp, np, false);
                    k::softmax_grad(p, &mut dp, np);
                    if plan.bias.is_some() {
                        k::add(&mut bias[h * nq * np..][..nq * np], &dp);
                    }
                    gemm(
                        [nq, d, nk],
                        Mat::rows(&dp, np),
                        Mat::rows(&ks[at..], width),
                        &mut dq[at..],
                        width,
                        false,
                    );
                    gemm(
                        [nk, d, nq],
                        Mat::transposed(&dp, np),
                        Mat::rows(&qs[at..], width),
                        &mut dk[at..],
                        width,
                        false,
                    );
                }
                for x in dq.iter_mut() {
                    *x *= plan.scale;
                }
                scatter(queries, qb, dq, self.cols(q.0), q.1, width, &mut grads[slot(q)]);
                scatter(keys, kb, dk, self.cols(kk.0), kk.1, width, &mut grads[slot(kk)]);
                scatter(keys, kb, dv, self.cols(v.0), v.1, width, &mut grads[slot(v)]);
            }
        }
        if let Some((table, index)) = &plan.bias {
            let grad = self.param_grad(*table);
            for h in 0..plan.heads {
                for (i, entry) in index.iter().enumerate() {
                    grad[*entry as usize * plan.heads + h] += bias[(h * nq + i / nk) * np + i % nk];
                }
            }
        }
        for (id, grad) in ids.into_iter().zip(grads) {
            self.add_grad(id, grad);
        }
        for buffer in buffers.into_iter().chain([bias, dp, probs, g]) {
            self.give(buffer);
        }
    }
}
