//! Operations that know about the grid: patches, merging, convolution, resizing, position tables.

use super::gemm::{Mat, gemm};
use super::kernels as k;
use super::params::ParamId;
use super::tape::{Id, Tape};

/// Bilinear interpolation with `align_corners = false`: for every output index the two sources and the weight of
/// the second.
pub fn taps(from: usize, to: usize) -> Vec<(usize, usize, f32)> {
    (0..to)
        .map(|i| {
            let at = ((i as f32 + 0.5) * from as f32 / to as f32 - 0.5).max(0.0);
            let low = (at as usize).min(from - 1);
            (low, (low + 1).min(from - 1), at - low as f32)
        })
        .collect()
}

/// Resizes `[h, w, n]` to `[oh, ow, n]`.
fn resize(x: &[f32], [h, w]: [usize; 2], [oh, ow]: [usize; 2], n: usize, y: &mut [f32]) {
    let columns = taps(w, ow);
    let mut line = vec![0.0; w * n];
    for ((a, b, t), out) in taps(h, oh).into_iter().zip(y.chunks_exact_mut(ow * n)) {
        k::lerp(&x[a * w * n..][..w * n], &x[b * w * n..][..w * n], t, &mut line);
        for (&(a, b, t), out) in columns.iter().zip(out.chunks_exact_mut(n)) {
            k::lerp(&line[a * n..][..n], &line[b * n..][..n], t, out);
        }
    }
}

/// Backward of [`resize`]: adds to `dx`.
fn resize_grad(g: &[f32], [h, w]: [usize; 2], [oh, ow]: [usize; 2], n: usize, dx: &mut [f32]) {
    let columns = taps(w, ow);
    let mut line = vec![0.0; w * n];
    for ((a, b, t), g) in taps(h, oh).into_iter().zip(g.chunks_exact(ow * n)) {
        line.fill(0.0);
        for (&(a, b, t), g) in columns.iter().zip(g.chunks_exact(n)) {
            k::axpy(1.0 - t, g, &mut line[a * n..][..n]);
            k::axpy(t, g, &mut line[b * n..][..n]);
        }
        k::axpy(1.0 - t, &line, &mut dx[a * w * n..][..w * n]);
        k::axpy(t, &line, &mut dx[b * w * n..][..w * n]);
    }
}

impl Tape<'_> {
    /// Concatenates 2 x 2 neighbours in the order (0,0), (1,0), (0,1), (1,1) of (row, column), as Swin does.
    pub fn merge(&mut self, x: Id, grid: usize) -> Id {
        let n = self.cols(x);
        let len = self.value(x).len();
        let half = grid / 2;
        let source = move |row: usize, part: usize| {
            let (image, y, x) = (row / (half * half), row / half % half, row % half);
            (image * grid + 2 * y + part % 2) * grid + 2 * x + part / 2
        };
        let mut y = self.take(len);
        let value = self.value(x);
        for (row, out) in y.chunks_exact_mut(4 * n).enumerate() {
            for (part, out) in out.chunks_exact_mut(n).enumerate() {
                out.copy_from_slice(&value[source(row, part) * n..][..n]);
            }
        }
        self.push(y, 4 * n, move |t, g| {
            let mut dx = t.take(len);
            for (row, g) in g.chunks_exact(4 * n).enumerate() {
                for (part, g) in g.chunks_exact(n).enumerate() {
                    dx[source(row, part) * n..][..n].copy_from_slice(g);
                }
            }
            t.give(g);
            t.add_grad(x, dx);
        })
    }

    /// Adds a position table made for `made` x `made` cells, resized to the grid in use.
    pub fn add_table(&mut self, x: Id, table: ParamId, made: usize, grid: usize) -> Id {
        let n = self.cols(x);
        let values = self.param(table);
        let mut here = self.take(grid * grid * n);
        resize(values, [made; 2], [grid; 2], n, &mut here);
        let mut y = self.take(self.value(x).len());
        for (y, x) in y.chunks_exact_mut(here.len()).zip(self.value(x).chunks_exact(here.len())) {
            k::sum_of(x, &here, y);
        }
        self.give(here);
        self.push(y, n, move |t, g| {
            let mut sum = t.zeros(grid * grid * n);
            for g in g.chunks_exact(sum.len()) {
                k::add(&mut sum, g);
            }
            resize_grad(&sum, [made; 2], [grid; 2], n, t.param_grad(table));
            t.give(sum);
            t.add_grad(x, g);
        })
    }

    /// Bilinear resizing of every image from `from` x `from` to `to` x `to`, `align_corners = false`.
    pub fn upsample(&mut self, x: Id, from: usize, to: usize) -> Id {
        let n = self.cols(x);
        let images = self.rows(x) / (from * from);
        let mut y = self.take(images * to * to * n);
        for (x, y) in self.value(x).chunks_exact(from * from * n).zip(y.chunks_exact_mut(to * to * n)) {
            resize(x, [from; 2], [to; 2], n, y);
        }
        self.push(y, n, move |t, g| {
            let mut dx = t.zeros(images * from * from * n);
            for (dx, g) in dx.chunks_exact_mut(from * from * n).zip(g.chunks_exact(to * to * n)) {
                resize_grad(g, [from; 2], [to; 2], n, dx);
            }
            t.give(g);
            t.add_grad(x, dx);
        })
    }

    /// Columns of `a`, then columns of `b`.
    pub fn concat(&mut self, a: Id, b: Id) -> Id {
        let (na, nb) = (self.cols(a), self.cols(b));
        let rows = self.rows(a);
        let mut y = self.take(rows * (na + nb));
        let (va, vb) = (self.value(a).chunks_exact(na), self.value(b).chunks_exact(nb));
        for ((y, a), b) in y.chunks_exact_mut(na + nb).zip(va).zip(vb) {
            y[..na].copy_from_slice(a);
            y[na..].copy_from_slice(b);
        }
        self.push(y, na + nb, move |t, g| {
            let (mut da, mut db) = (t.take(rows * na), t.take(rows * nb));
            for ((g, a), b) in
                g.chunks_exact(na + nb).zip(da.chunks_exact_mut(na)).zip(db.chunks_exact_mut(nb))
            {
                a.copy_from_slice(&g[..na]);
                b.copy_from_slice(&g[na..]);
            }
            t.give(g);
            t.add_grad(a, da);
            t.add_grad(b, db);
        })
    }

    /// 3 x 3 convolution with zero padding and no bias; `weight` is stored `[3, 3, in, out]`.
    ///
    /// Instead of unfolding, the image is padded by one cell and each of the nine taps is one matrix product over
    /// a shifted view of it: rows of the padded width come out, two cells per line of which are dropped.
    pub fn conv3x3(&mut self, x: Id, weight: ParamId, grid: usize) -> Id {
        let n_in = self.cols(x);
        let w = self.param(weight);
        let n_out = w.len() / (9 * n_in);
        let image = grid * grid;
        let images = self.rows(x) / image;
        let line = grid + 2;
        let rows = grid * line;
        let padded_rows = line * line + 2;
        let offset = move |tap: usize| tap / 3 * line + tap % 3;
        let mut padded = self.zeros(padded_rows * n_in);
        let mut wide = self.take(rows * n_out);
        let mut y = self.take(images * image * n_out);
        for (x, y) in self.value(x).chunks_exact(image * n_in).zip(y.chunks_exact_mut(image * n_out)) {
            for (i, row) in x.chunks_exact(grid * n_in).enumerate() {
                padded[((i + 1) * line + 1) * n_in..][..grid * n_in].copy_from_slice(row);
            }
            for tap in 0..9 {
                let a = Mat::rows(&padded[offset(tap) * n_in..], n_in);
                let b = Mat::rows(&w[tap * n_in * n_out..], n_out);
                gemm([rows, n_out, n_in], a, b, &mut wide, n_out, tap > 0);
            }
            for (i, row) in y.chunks_exact_mut(grid * n_out).enumerate() {
                row.copy_from_slice(&wide[i * line * n_out..][..grid * n_out]);
            }
        }
        self.give(padded);
        self.give(wide);
        self.push(y, n_out, move |t, g| {
            let mut padded = t.zeros(padded_rows * n_in);
            let mut wide = t.zeros(rows * n_out);
            let mut dw = t.zeros(w.len());
            let mut dx = t.take(images * image * n_in);
            let mut back = t.take(padded_rows * n_in);
            for i in 0..images {
                let x = &t.value(x)[i * image * n_in..][..image * n_in];
                for (i, row) in x.chunks_exact(grid * n_in).enumerate() {
                    padded[((i + 1) * line + 1) * n_in..][..grid * n_in].copy_from_slice(row);
                }
                for (i, row) in g[i * image * n_out..][..image * n_out].chunks_exact(grid * n_out).enumerate()
                {
                    wide[i * line * n_out..][..grid * n_out].copy_from_slice(row);
                }
                back.fill(0.0);
                for tap in 0..9 {
                    let at = offset(tap) * n_in;
                    let (wt, out) = (tap * n_in * n_out, Mat::rows(&wide, n_out));
                    let a = Mat::transposed(&padded[at..], n_in);
                    gemm([n_in, n_out, rows], a, out, &mut dw[wt..], n_out, true);
                    let b = Mat::transposed(&w[wt..wt + n_in * n_out], n_out);
                    gemm([rows, n_in, n_out], out, b, &mut back[at..], n_in, true);
                }
                for (j, row) in
                    dx[i * image * n_in..][..image * n_in].chunks_exact_mut(grid * n_in).enumerate()
                {
                    row.copy_from_slice(&back[((j + 1) * line + 1) * n_in..][..grid * n_in]);
                }
            }
            k::add(t.param_grad(weight), &dw);
            for buffer in [padded, wide, dw, back, g] {
                t.give(buffer);
            }
            t.add_grad(x, dx);
        })
    }
}
