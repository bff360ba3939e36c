//! Element-wise and row-wise loops, written so that the compiler vectorises them, each compiled twice: for any
//! processor and for AVX-512, chosen at run time.
#![allow(unsafe_code)] // one call per kernel into the version compiled for detected features

use std::sync::OnceLock;

/// Whether the processor has the vector extensions that the wide versions are compiled for.
pub fn wide_cpu() -> bool {
    static WIDE: OnceLock<bool> = OnceLock::new();
    *WIDE.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        {
            is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("fma")
        }
        #[cfg(not(target_arch = "x86_64"))]
        false
    })
}

macro_rules! kernels {
    ($($(#[$meta:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block)*) => { $(
        $(#[$meta])*
        pub fn $name($($arg: $type),*) {
            #[inline(always)]
            fn body($($arg: $type),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,fma")]
                fn wide($($arg: $type),*) {
                    body($($arg),*);
                }
                if wide_cpu() {
                    // SAFETY: exactly the features that `wide` is compiled for were detected.
                    unsafe { wide($($arg),*) };
                    return;
                }
            }
            body($($arg),*);
        }
    )* };
}

/// e^x to about 2 ulp for |x| < 87 (clamped), branch-free.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 87.0);
    // Adding 1.5 * 2^23 rounds to an integer that then sits in the low mantissa bits.
    let t = x.mul_add(std::f32::consts::LOG2_E, 12_582_912.0);
    let n = t - 12_582_912.0;
    let r = n.mul_add(-1.428_606_8e-6, n.mul_add(-0.693_145_75, x));
    let mut p = 1.987_569_1e-4_f32;
    p = p.mul_add(r, 1.398_199_9e-3);
    p = p.mul_add(r, 8.333_452e-3);
    p = p.mul_add(r, 4.166_579_6e-2);
    p = p.mul_add(r, 1.666_666_5e-1);
    p = p.mul_add(r, 0.5);
    let y = (p * r).mul_add(r, r) + 1.0;
    y * f32::from_bits(t.to_bits().wrapping_add(127) << 23)
}

/// Normal distribution function and density times sqrt(2 pi) at x (Abramowitz and Stegun 7.1.26, error 1.5e-7).
#[inline(always)]
fn normal(x: f32) -> (f32, f32) {
    let z = (x * std::f32::consts::FRAC_1_SQRT_2).abs();
    let t = 1.0 / z.mul_add(0.327_591_1, 1.0);
    let mut p = 1.061_405_4_f32;
    p = p.mul_add(t, -1.453_152);
    p = p.mul_add(t, 1.421_413_7);
    p = p.mul_add(t, -0.284_496_74);
    p = p.mul_add(t, 0.254_829_6);
    let e = exp(-z * z);
    let half = 0.5 * p * t * e;
    (if x < 0.0 { half } else { 1.0 - half }, e)
}

#[inline(always)]
fn sum(row: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 16];
    let chunks = row.chunks_exact(16);
    let tail: f32 = chunks.remainder().iter().sum();
    for chunk in chunks {
        for j in 0..16 {
            lanes[j] += chunk[j];
        }
    }
    fold(lanes) + tail
}

#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 16];
    let (x, y) = (a.chunks_exact(16), b.chunks_exact(16));
    let tail: f32 = x.remainder().iter().zip(y.remainder()).map(|(p, q)| p * q).sum();
    for (p, q) in x.zip(y) {
        for j in 0..16 {
            lanes[j] = p[j].mul_add(q[j], lanes[j]);
        }
    }
    fold(lanes) + tail
}

#[inline(always)]
fn fold(mut lanes: [f32; 16]) -> f32 {
    for width in [8, 4, 2, 1] {
        for j in 0..width {
            lanes[j] += lanes[j + width];
        }
    }
    lanes[0]
}

kernels! {
    /// y = GELU(x), the exact form with erf.
    fn gelu(x: &[f32], y: &mut [f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = x * normal(x).0;
        }
    }

    /// g *= GELU'(x).
    fn gelu_grad(x: &[f32], g: &mut [f32]) {
        for (g, &x) in g.iter_mut().zip(x) {
            let (cdf, e) = normal(x);
            *g *= (x * 0.398_942_3).mul_add(e, cdf);
        }
    }

    /// y += x.
    fn add(y: &mut [f32], x: &[f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y += x;
        }
    }

    /// y = a + b.
    fn sum_of(a: &[f32], b: &[f32], y: &mut [f32]) {
        for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
            *y = a + b;
        }
    }

    /// y = a * b.
    fn product(a: &[f32], b: &[f32], y: &mut [f32]) {
        for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
            *y = a * b;
        }
    }

    /// total[c] += sum over rows of x[., c].
    fn column_sums(x: &[f32], total: &mut [f32]) {
        for row in x.chunks_exact(total.len()) {
            for (t, v) in total.iter_mut().zip(row) {
                *t += v;
            }
        }
    }

    /// total[c] += sum over rows of a[., c] * b[., c].
    fn column_dots(a: &[f32], b: &[f32], total: &mut [f32]) {
        let n = total.len();
        for (a, b) in a.chunks_exact(n).zip(b.chunks_exact(n)) {
            for ((t, a), b) in total.iter_mut().zip(a).zip(b) {
                *t = a.mul_add(*b, *t);
            }
        }
    }

    /// total[c] += sum over rows of (x[., c] - mean[c])^2.
    fn column_squares(x: &[f32], mean: &[f32], total: &mut [f32]) {
        for row in x.chunks_exact(total.len()) {
            for ((t, v), m) in total.iter_mut().zip(row).zip(mean) {
                let d = v - m;
                *t = d.mul_add(d, *t);
            }
        }
    }

    /// y[., c] = x[., c] * scale[c] + shift[c].
    fn affine(x: &[f32], scale: &[f32], shift: &[f32], y: &mut [f32]) {
        let n = scale.len();
        for (y, x) in y.chunks_exact_mut(n).zip(x.chunks_exact(n)) {
            for c in 0..n {
                y[c] = x[c].mul_add(scale[c], shift[c]);
            }
        }
    }

    /// g[., c] = a[c] * g[., c] + b[c] * x[., c] + d[c]: the common form of the backward pass of normalisations
    /// over rows.
    fn normalise_grad(x: &[f32], a: &[f32], b: &[f32], d: &[f32], g: &mut [f32]) {
        let n = a.len();
        for (g, x) in g.chunks_exact_mut(n).zip(x.chunks_exact(n)) {
            for c in 0..n {
                g[c] = g[c].mul_add(a[c], x[c].mul_add(b[c], d[c]));
            }
        }
    }

    /// y = max(y, 0).
    fn relu(y: &mut [f32]) {
        for y in y {
            *y = y.max(0.0);
        }
    }

    /// g = 0 where y is not positive.
    fn relu_grad(y: &[f32], g: &mut [f32]) {
        for (g, y) in g.iter_mut().zip(y) {
            *g = if *y > 0.0 { *g } else { 0.0 };
        }
    }

    /// y = tanh(x).
    fn tanh(x: &[f32], y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            let e = exp(-2.0 * x.abs());
            *y = ((1.0 - e) / (1.0 + e)).copysign(*x);
        }
    }

    /// g *= 1 - y^2.
    fn tanh_grad(y: &[f32], g: &mut [f32]) {
        for (g, y) in g.iter_mut().zip(y) {
            *g *= 1.0 - y * y;
        }
    }

    /// LayerNorm over rows of `weight.len()` floats; `moments` gets mean and 1/sd of every row.
    fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, y: &mut [f32], moments: &mut [f32]) {
        let n = weight.len();
        for ((x, y), m) in x.chunks_exact(n).zip(y.chunks_exact_mut(n)).zip(moments.chunks_exact_mut(2)) {
            let mean = sum(x) / n as f32;
            for (y, x) in y.iter_mut().zip(x) {
                *y = x - mean;
            }
            let rstd = 1.0 / (dot(y, y) / n as f32 + eps).sqrt();
            for c in 0..n {
                y[c] = (y[c] * rstd).mul_add(weight[c], bias[c]);
            }
            m[0] = mean;
            m[1] = rstd;
        }
    }

    /// Backward of [`layer_norm`]: `g` becomes the gradient of x; `dw` and `db` are added to.
    fn layer_norm_grad(
        x: &[f32], weight: &[f32], moments: &[f32], g: &mut [f32], dw: &mut [f32], db: &mut [f32], hat: &mut [f32],
    ) {
        let n = weight.len();
        for ((x, g), m) in x.chunks_exact(n).zip(g.chunks_exact_mut(n)).zip(moments.chunks_exact(2)) {
            for c in 0..n {
                let h = (x[c] - m[0]) * m[1];
                hat[c] = h;
                dw[c] = g[c].mul_add(h, dw[c]);
                db[c] += g[c];
                g[c] *= weight[c];
            }
            let a = sum(g) / n as f32;
            let b = dot(g, hat) / n as f32;
            for c in 0..n {
                g[c] = m[1] * (g[c] - a - hat[c] * b);
            }
        }
    }

    /// Softmax of every row of `n` floats in place, after adding the same rows of `bias` (repeated as needed).
    fn softmax(x: &mut [f32], bias: &[f32], n: usize) {
        for (x, bias) in x.chunks_exact_mut(n).zip(bias.chunks_exact(n).cycle()) {
            let mut top = [f32::MIN; 16];
            for (x, b) in x.chunks_exact_mut(16).zip(bias.chunks_exact(16)) {
                for j in 0..16 {
                    x[j] += b[j];
                    top[j] = if x[j] > top[j] { x[j] } else { top[j] };
                }
            }
            for width in [8, 4, 2, 1] {
                for j in 0..width {
                    top[j] = if top[j + width] > top[j] { top[j + width] } else { top[j] };
                }
            }
            for v in x.iter_mut() {
                *v = exp(*v - top[0]);
            }
            let scale = 1.0 / sum(x);
            for v in x.iter_mut() {
                *v *= scale;
            }
        }
    }

    /// g = p * (g - <g, p>) for every row of `n` floats.
    fn softmax_grad(p: &[f32], g: &mut [f32], n: usize) {
        for (g, p) in g.chunks_exact_mut(n).zip(p.chunks_exact(n)) {
            let d = dot(g, p);
            for (g, p) in g.iter_mut().zip(p) {
                *g = p * (*g - d);
            }
        }
    }

    /// y = (1 - t) a + t b.
    fn lerp(a: &[f32], b: &[f32], t: f32, y: &mut [f32]) {
        for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
            *y = (b - a).mul_add(t, *a);
        }
    }

    /// y += s x.
    fn axpy(s: f32, x: &[f32], y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = x.mul_add(s, *y);
        }
    }

    /// One AdamW step with bias-corrected step size `lr` and corrected second moment (`1 / (1 - beta2^t)`).
    fn adamw(p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], k: [f32; 6]) {
        let [lr, beta1, beta2, correction, decay, clip] = k;
        for i in 0..p.len() {
            let g = g[i] * clip;
            m[i] = (1.0 - beta1).mul_add(g - m[i], m[i]);
            v[i] = (1.0 - beta2).mul_add(g * g - v[i], v[i]);
            p[i] = p[i] * decay - lr * m[i] / ((v[i] * correction).sqrt() + 1e-8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_and_gelu_are_accurate() {
        for i in -800..=800 {
            let x = i as f32 / 10.0;
            assert!((f64::from(exp(x)) / f64::from(x).exp() - 1.0).abs() < 5e-7, "{x}");
        }
        // erf by Simpson's rule.
        for i in -60..=60 {
            let x = f64::from(i) / 10.0;
            let (n, h) = (2000, x / 2000.0);
            let f = |t: f64| (-t * t / 2.0).exp() / std::f64::consts::TAU.sqrt();
            let integral: f64 = (0..n)
                .map(|j| {
                    let t = f64::from(j) * h;
                    (f(t) + 4.0 * f(t + h / 2.0) + f(t + h)) * h / 6.0
                })
                .sum();
            let mut y = [0.0];
            gelu(&[x as f32], &mut y);
            assert!((f64::from(y[0]) - x * (0.5 + integral)).abs() < 2e-6, "{x}");
        }
    }
}
