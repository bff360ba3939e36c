//! Every operation against finite differences.

use super::attention::Plan;
use super::params::{Layout, ParamId, Params};
use super::tape::{Id, Tape, Workspace};
use crate::rng::Rng;
use std::sync::Arc;

/// Checks the gradient of `sum(coefficients * output)` for the input (declared as the first parameter) and all
/// further parameters, along random directions.
fn check(name: &str, shapes: &[usize], cols: usize, build: impl Fn(&mut Tape, Id, &[ParamId]) -> Id) {
    let mut rng = Rng::new(11, 1);
    let mut params = Params::default();
    for (i, n) in shapes.iter().enumerate() {
        let values = (0..*n).map(|_| rng.normal() * 0.7).collect();
        params.add(format!("{i}"), &[*n], Layout::Plain, values);
    }
    let ids: Vec<ParamId> = (1..shapes.len()).collect();
    let coefficients: Vec<f32> = (0..100_000).map(|_| rng.normal()).collect();
    let run = |params: &Params, backward: bool| {
        let mut t = Tape::new(params, Workspace::default(), true);
        // The input enters as rows of an embedding, so that its gradient arrives at a parameter.
        let rows = shapes[0] / cols;
        let x = t.embed(&[(0, (0..rows as u32).collect())], cols);
        let y = build(&mut t, x, &ids);
        let n = t.value(y).len();
        let total: f64 =
            t.value(y).iter().zip(&coefficients).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        if backward {
            t.add_grad(y, coefficients[..n].to_vec());
            t.backward();
        }
        (total, t.finish().0.grads)
    };
    let (_, grads) = run(&params, true);
    for id in 0..shapes.len() {
        let range = params.range(id);
        let g = grads[range.clone()].to_vec();
        let saved = params.data[range.clone()].to_vec();
        for _ in 0..3 {
            let direction: Vec<f32> = g.iter().map(|g| rng.normal() + g.signum()).collect();
            let want: f64 = g.iter().zip(&direction).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            let h = 1e-3;
            let mut at = |sign: f32| {
                for ((p, s), d) in params.data[range.clone()].iter_mut().zip(&saved).zip(&direction) {
                    *p = s + sign * h * d;
                }
                run(&params, false).0
            };
            let slope = (at(1.0) - at(-1.0)) / f64::from(2.0 * h);
            params.data[range.clone()].copy_from_slice(&saved);
            let scale = want.abs().max(g.iter().map(|v| f64::from(v.abs())).sum::<f64>() * 0.05).max(1e-3);
            assert!((slope - want).abs() < 0.02 * scale, "{name}, input {id}: {slope} for {want}");
        }
    }
}

#[test]
fn rows() {
    check("linear", &[60, 96, 8], 12, |t, x, p| t.linear(x, p[0], Some(p[1])));
    check("layer norm", &[5 * 32, 32, 32], 32, |t, x, p| t.layer_norm(x, p[0], p[1], 1e-5));
    check("instance norm", &[2 * 9 * 16], 16, |t, x, _| t.instance_norm(x, 9));
    check("gelu", &[64], 16, |t, x, _| t.gelu(x));
    check("tanh", &[64], 16, |t, x, _| t.tanh(x));
    check("product", &[64], 16, |t, x, _| {
        let y = t.tanh(x);
        let z = t.add(x, y);
        t.mul(z, y)
    });
    check("mask", &[64], 16, |t, x, _| t.scale_rows(x, &[1.0, 0.0, 1.0, 0.5]));
}

#[test]
fn grids() {
    check("merge", &[2 * 16 * 3], 3, |t, x, _| t.merge(x, 4));
    check("table", &[2 * 9 * 16, 16 * 16], 16, |t, x, p| t.add_table(x, p[0], 4, 3));
    check("upsample", &[2 * 9 * 5], 5, |t, x, _| t.upsample(x, 3, 7));
    check("concat", &[64], 16, |t, x, _| {
        let y = t.tanh(x);
        t.concat(y, x)
    });
    check("convolution", &[2 * 25 * 5, 9 * 5 * 20], 5, |t, x, p| t.conv3x3(x, p[0], 5));
    check("batch norm", &[40 * 16, 16, 16, 16, 16], 16, |t, x, p| {
        // A smooth function first: the kink of ReLU spoils finite differences only rarely.
        let y = t.tanh(x);
        t.batch_norm_relu(y, [p[0], p[1], p[2], p[3]])
    });
}

#[test]
fn attention() {
    for odd in [false, true] {
        let (heads, dim) = (2, 4);
        check("windows", &[2 * 144 * 24, 15 * 15 * heads], 24, |t, x, p| {
            let plan = Arc::new(Plan::windows(12, 8, odd, heads, dim, p[0]));
            t.attention(&plan, (x, 0), (x, 8), (x, 16), &[])
        });
    }
    check("words", &[2 * 9 * 8, 8 * 8, 8 * 8], 8, |t, x, p| {
        let plan = Arc::new(Plan::dense(9, 4, 1, 8));
        let k = t.embed(&[(p[0], (0..8).collect())], 8);
        let v = t.embed(&[(p[1], (0..8).collect())], 8);
        let mask = [0.0, 0.0, 0.0, -1e4, 0.0, 0.0, -1e4, -1e4];
        t.attention(&plan, (x, 0), (k, 0), (v, 0), &mask)
    });
}

/// Convolution against its definition.
#[test]
fn convolution_is_a_convolution() {
    let mut rng = Rng::new(2, 3);
    let (grid, n_in, n_out) = (4, 3, 2);
    let w: Vec<f32> = (0..9 * n_in * n_out).map(|_| rng.normal()).collect();
    let x: Vec<f32> = (0..grid * grid * n_in).map(|_| rng.normal()).collect();
    let mut params = Params::default();
    let id = params.add("w".into(), &[w.len()], Layout::Plain, w.clone());
    let mut t = Tape::new(&params, Workspace::default(), false);
    let leaf = t.leaf(x.clone(), n_in);
    let y = t.conv3x3(leaf, id, grid);
    for i in 0..grid as isize {
        for j in 0..grid as isize {
            for o in 0..n_out {
                let mut want = 0.0;
                for (a, b) in (0..9).map(|tap| (tap / 3, tap % 3)) {
                    let (r, c) = (i + a - 1, j + b - 1);
                    if r >= 0 && c >= 0 && r < grid as isize && c < grid as isize {
                        for k in 0..n_in {
                            let weight = w[((a * 3 + b) as usize * n_in + k) * n_out + o];
                            want += x[(r as usize * grid + c as usize) * n_in + k] * weight;
                        }
                    }
                }
                let got = t.value(y)[(i as usize * grid + j as usize) * n_out + o];
                assert!((got - want).abs() < 1e-4);
            }
        }
    }
}
