//! Operations on rows: linear layers, normalisations, activations, tables.

use super::gemm::{Mat, gemm};
use super::kernels as k;
use super::params::ParamId;
use super::tape::{Id, Tape};

impl Tape<'_> {
    /// `x w^T + b` with `w` stored `[out, in]`.
    pub fn linear(&mut self, x: Id, weight: ParamId, bias: Option<ParamId>) -> Id {
        let (rows, n_in) = (self.rows(x), self.cols(x));
        let w = self.param(weight);
        let n_out = w.len() / n_in;
        let mut y = self.take(rows * n_out);
        if let Some(bias) = bias {
            let b = self.param(bias);
            for row in y.chunks_exact_mut(n_out) {
                row.copy_from_slice(b);
            }
        }
        let a = Mat::rows(self.value(x), n_in);
        gemm([rows, n_out, n_in], a, Mat::transposed(w, n_in), &mut y, n_out, bias.is_some());
        self.push(y, n_out, move |t, g| {
            let value = t.lend(x);
            let dw = t.param_grad(weight);
            gemm([n_out, n_in, rows], Mat::transposed(&g, n_out), Mat::rows(&value, n_in), dw, n_in, true);
            t.put(x, value);
            if let Some(bias) = bias {
                k::column_sums(&g, t.param_grad(bias));
            }
            if t.wants_grad(x) {
                let mut dx = t.take(rows * n_in);
                gemm([rows, n_in, n_out], Mat::rows(&g, n_out), Mat::rows(w, n_in), &mut dx, n_in, false);
                t.add_grad(x, dx);
            }
            t.give(g);
        })
    }

    /// LayerNorm over the columns.
    pub fn layer_norm(&mut self, x: Id, weight: ParamId, bias: ParamId, eps: f32) -> Id {
        let (rows, n) = (self.rows(x), self.cols(x));
        let (w, b) = (self.param(weight), self.param(bias));
        let mut y = self.take(rows * n);
        let mut moments = self.take(2 * rows);
        k::layer_norm(self.value(x), w, b, eps, &mut y, &mut moments);
        self.push(y, n, move |t, mut g| {
            let value = t.lend(x);
            let (mut dw, mut db, mut hat) = (t.zeros(n), t.zeros(n), t.take(n));
            k::layer_norm_grad(&value, w, &moments, &mut g, &mut dw, &mut db, &mut hat);
            k::add(t.param_grad(weight), &dw);
            k::add(t.param_grad(bias), &db);
            t.put(x, value);
            for buffer in [dw, db, hat, moments] {
                t.give(buffer);
            }
            t.add_grad(x, g);
        })
    }

    /// Normalises every column over the `positions` rows of each image (InstanceNorm1d without affine).
    pub fn instance_norm(&mut self, x: Id, positions: usize) -> Id {
        let (rows, n) = (self.rows(x), self.cols(x));
        let mut y = self.take(rows * n);
        let mut rstds = Vec::new();
        let image = positions * n;
        for (x, y) in self.value(x).chunks_exact(image).zip(y.chunks_exact_mut(image)) {
            let (mut mean, mut variance) = (vec![0.0; n], vec![0.0; n]);
            k::column_sums(x, &mut mean);
            for m in &mut mean {
                *m /= positions as f32;
            }
            k::column_squares(x, &mean, &mut variance);
            let rstd: Vec<f32> =
                variance.iter().map(|v| 1.0 / (v / positions as f32 + 1e-5).sqrt()).collect();
            let shift: Vec<f32> = mean.iter().zip(&rstd).map(|(m, r)| -m * r).collect();
            k::affine(x, &rstd, &shift, y);
            rstds.push(rstd);
        }
        let id = self.nodes_len();
        self.push(y, n, move |t, mut g| {
            // y is normalised, so dx = rstd (g - mean(g) - y mean(g y)).
            let y = t.lend(id);
            for ((g, y), rstd) in g.chunks_exact_mut(image).zip(y.chunks_exact(image)).zip(&rstds) {
                let (mut a, mut b) = (vec![0.0; n], vec![0.0; n]);
                k::column_sums(g, &mut a);
                k::column_dots(g, y, &mut b);
                for c in 0..n {
                    a[c] *= -rstd[c] / positions as f32;
                    b[c] *= -rstd[c] / positions as f32;
                }
                k::normalise_grad(y, rstd, &b, &a, g);
            }
            t.put(id, y);
            t.add_grad(x, g);
        })
    }

    /// BatchNorm2d followed by ReLU. Training uses the statistics of this replica's batch and reports them in
    /// [`Tape::stats`]; evaluation uses the running ones. `p` is weight, bias, running mean, running variance.
    pub fn batch_norm_relu(&mut self, x: Id, p: [ParamId; 4]) -> Id {
        let (rows, n) = (self.rows(x), self.cols(x));
        let (w, b) = (self.param(p[0]), self.param(p[1]));
        let (mut mean, mut variance) = (vec![0.0; n], vec![0.0; n]);
        if self.train {
            k::column_sums(self.value(x), &mut mean);
            for m in &mut mean {
                *m /= rows as f32;
            }
            k::column_squares(self.value(x), &mean, &mut variance);
            for v in &mut variance {
                *v /= rows as f32;
            }
            let unbiased = rows as f32 / (rows as f32 - 1.0);
            self.stats.push((p[2], mean.clone()));
            self.stats.push((p[3], variance.iter().map(|v| v * unbiased).collect()));
        } else {
            mean.copy_from_slice(self.param(p[2]));
            variance.copy_from_slice(self.param(p[3]));
        }
        let rstd: Vec<f32> = variance.iter().map(|v| 1.0 / (v + 1e-5).sqrt()).collect();
        let scale: Vec<f32> = rstd.iter().zip(w).map(|(r, w)| r * w).collect();
        let shift: Vec<f32> = (0..n).map(|c| b[c] - mean[c] * scale[c]).collect();
        let mut y = self.take(rows * n);
        k::affine(self.value(x), &scale, &shift, &mut y);
        k::relu(&mut y);
        let id = self.nodes_len();
        self.push(y, n, move |t, mut g| {
            let y = t.lend(id);
            k::relu_grad(&y, &mut g);
            t.put(id, y);
            let value = t.lend(x);
            let (mut db, mut gx) = (vec![0.0; n], vec![0.0; n]);
            k::column_sums(&g, &mut db);
            k::column_dots(&g, &value, &mut gx);
            let (mut a, mut d) = (vec![0.0; n], vec![0.0; n]);
            for c in 0..n {
                let dw = (gx[c] - mean[c] * db[c]) * rstd[c];
                t.param_grad(p[0])[c] += dw;
                t.param_grad(p[1])[c] += db[c];
                // dx = scale (g - mean(g) - hat mean(g hat)), hat = (x - mean) rstd
                a[c] = -scale[c] * rstd[c] * dw / rows as f32;
                d[c] = -scale[c] * db[c] / rows as f32 - a[c] * mean[c];
            }
            k::normalise_grad(&value, &scale, &a, &d, &mut g);
            t.put(x, value);
            t.add_grad(x, g);
        })
    }

    /// Exact GELU.
    pub fn gelu(&mut self, x: Id) -> Id {
        let n = self.cols(x);
        let mut y = self.take(self.value(x).len());
        k::gelu(self.value(x), &mut y);
        self.push(y, n, move |t, mut g| {
            let value = t.lend(x);
            k::gelu_grad(&value, &mut g);
            t.put(x, value);
            t.add_grad(x, g);
        })
    }

    /// ReLU.
    pub fn relu(&mut self, x: Id) -> Id {
        let n = self.cols(x);
        let value = self.lend(x);
        let mut y = self.copy(&value);
        self.put(x, value);
        k::relu(&mut y);
        let id = self.nodes_len();
        self.push(y, n, move |t, mut g| {
            let y = t.lend(id);
            k::relu_grad(&y, &mut g);
            t.put(id, y);
            t.add_grad(x, g);
        })
    }

    /// tanh.
    pub fn tanh(&mut self, x: Id) -> Id {
        let n = self.cols(x);
        let mut y = self.take(self.value(x).len());
        k::tanh(self.value(x), &mut y);
        let id = self.nodes_len();
        self.push(y, n, move |t, mut g| {
            let y = t.lend(id);
            k::tanh_grad(&y, &mut g);
            t.put(id, y);
            t.add_grad(x, g);
        })
    }

    /// `a + b`.
    pub fn add(&mut self, a: Id, b: Id) -> Id {
        let n = self.cols(a);
        let mut y = self.take(self.value(a).len());
        k::sum_of(self.value(a), self.value(b), &mut y);
        self.push(y, n, move |t, g| {
            let copy = t.copy(&g);
            t.add_grad(b, copy);
            t.add_grad(a, g);
        })
    }

    /// `a * b`.
    pub fn mul(&mut self, a: Id, b: Id) -> Id {
        let n = self.cols(a);
        let mut y = self.take(self.value(a).len());
        k::product(self.value(a), self.value(b), &mut y);
        self.push(y, n, move |t, g| {
            let (mut da, mut db) = (t.take(g.len()), t.take(g.len()));
            k::product(&g, t.value(b), &mut da);
            k::product(&g, t.value(a), &mut db);
            t.give(g);
            t.add_grad(a, da);
            t.add_grad(b, db);
        })
    }

    /// Multiplies every row by its constant factor (the 0/1 mask of the words).
    pub fn scale_rows(&mut self, x: Id, factors: &[f32]) -> Id {
        let n = self.cols(x);
        let value = self.lend(x);
        let mut y = self.copy(&value);
        self.put(x, value);
        let scale = move |rows: &mut [f32], factors: &[f32]| {
            for (row, f) in rows.chunks_exact_mut(n).zip(factors) {
                for v in row.iter_mut() {
                    *v *= f;
                }
            }
        };
        scale(&mut y, factors);
        let factors = factors.to_vec();
        self.push(y, n, move |t, mut g| {
            scale(&mut g, &factors);
            t.add_grad(x, g);
        })
    }

    /// Sum of embedding rows: row r is the sum of the given rows of the given `[entries, n]` tables.
    pub fn embed(&mut self, tables: &[(ParamId, Vec<u32>)], n: usize) -> Id {
        let rows = tables[0].1.len();
        let mut y = self.zeros(rows * n);
        for (table, index) in tables {
            let values = self.param(*table);
            for (row, i) in y.chunks_exact_mut(n).zip(index) {
                k::add(row, &values[*i as usize * n..][..n]);
            }
        }
        let tables = tables.to_vec();
        self.push(y, n, move |t, g| {
            for (table, index) in &tables {
                let grad = t.param_grad(*table);
                for (row, i) in g.chunks_exact(n).zip(index) {
                    k::add(&mut grad[*i as usize * n..][..n], row);
                }
            }
            t.give(g);
        })
    }
}
