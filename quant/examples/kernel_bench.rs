//! Times the fused kernels against candle's operators, interleaved, median of several rounds.
//!
//! `RAYON_NUM_THREADS=1 cargo run --release -p bitloupe-quant --example kernel_bench [filter]`
//!
//! Rates are GFLOP/s for products and GB/s (input + output once) for the rest; the ratio is candle's time divided
//! by ours, so more than 1 is faster than candle.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bitloupe_quant::exec::kernels::activation::{self, Activation};
use bitloupe_quant::exec::kernels::conv::{ConvWeight, Geometry, conv2d};
use bitloupe_quant::exec::kernels::elementwise::{self, BinaryOp};
use bitloupe_quant::exec::kernels::fake_quant::{self, LogForm, LogGrid};
use bitloupe_quant::exec::kernels::gemm::{AQuant, PackedWeight, linear};
use bitloupe_quant::exec::kernels::matmul::{BatchedMatMul, batched_matmul};
use bitloupe_quant::exec::kernels::{layout, norm, resize, softmax};
use candle_core::{D, Device, Result, Tensor};

const ROUNDS: usize = 9;
const ROUND: Duration = Duration::from_millis(20);

struct Bench {
    filter: Option<String>,
}

impl Bench {
    /// `work` is in units of 1e-9: FLOP for products, bytes otherwise.
    fn case(
        &self,
        name: &str,
        work: usize,
        unit: &str,
        mut ours: impl FnMut(),
        mut peer: impl FnMut() -> Result<Tensor>,
    ) -> Result<()> {
        if self.filter.as_ref().is_some_and(|f| !name.contains(f.as_str())) {
            return Ok(());
        }
        peer()?;
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            times[0].push(seconds(&mut ours));
            times[1].push(seconds(|| {
                black_box(peer().ok());
            }));
        }
        let [ours, peer] = times.map(|mut t| {
            t.sort_by(f64::total_cmp);
            t[t.len() / 2]
        });
        let rate = |t: f64| work as f64 / t * 1e-9;
        println!(
            "{name:<34} {:>9.1} us {:>7.1} {unit:<8} candle {:>9.1} us {:>7.1}   {:>6.2}x",
            ours * 1e6,
            rate(ours),
            peer * 1e6,
            rate(peer),
            peer / ours
        );
        Ok(())
    }
}

/// Mean seconds per call over one round.
fn seconds(mut work: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut calls = 0;
    while calls == 0 || start.elapsed() < ROUND {
        work();
        calls += 1;
    }
    start.elapsed().as_secs_f64() / f64::from(calls)
}

fn random(n: usize) -> Vec<f32> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    (0..n)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn tensor(x: &[f32], shape: &[usize]) -> Result<Tensor> {
    Tensor::from_slice(x, shape, &Device::Cpu)
}

fn main() -> Result<()> {
    let bench = Bench { filter: std::env::args().nth(1) };
    products(&bench)?;
    convolutions(&bench)?;
    rows(&bench)?;
    values(&bench)
}

fn products(bench: &Bench) -> Result<()> {
    for (m, k, n) in [
        (1024, 32, 96),
        (1024, 32, 128),
        (256, 64, 256),
        (64, 128, 512),
        (16, 256, 1024),
        (14, 128, 512),
        (197, 768, 768),
        (197, 768, 3072),
        (197, 3072, 768),
    ] {
        let (x, w, b) = (random(m * k), random(n * k), random(n));
        let packed = PackedWeight::pack(&w, n, k);
        let (tx, tw, tb) = (tensor(&x, &[m, k])?, tensor(&w, &[n, k])?, tensor(&b, &[n])?);
        let mut out = vec![0.0; m * n];
        let grid = AQuant::Uniform { scale: 0.01, zero_point: 128.0, q_max: 255.0 };
        for (what, quant) in [("linear", AQuant::None), ("linear+fq", grid)] {
            bench.case(
                &format!("{what} {m}x{k}x{n}"),
                2 * m * n * k,
                "GFLOP/s",
                || linear(&x, m, &packed, quant, Some(&b), Activation::None, black_box(&mut out)),
                || tx.matmul(&tw.t()?)?.broadcast_add(&tb),
            )?;
        }
    }
    for (batch, m, k, n, transpose_rhs) in [
        (32, 64, 16, 64, true),
        (32, 64, 64, 16, false),
        (1, 1024, 32, 14, true),
        (12, 197, 64, 197, true),
        (12, 197, 197, 64, false),
    ] {
        let (lhs, rhs) = (random(batch * m * k), random(batch * k * n));
        let shape = BatchedMatMul { batch, m, k, n, transpose_rhs };
        let left = tensor(&lhs, &[batch, m, k])?;
        let right = tensor(&rhs, &if transpose_rhs { [batch, n, k] } else { [batch, k, n] })?;
        let mut out = vec![0.0; batch * m * n];
        bench.case(
            &format!("matmul {batch}x[{m}x{k}x{n}]{}", if transpose_rhs { "t" } else { "" }),
            2 * batch * m * n * k,
            "GFLOP/s",
            || batched_matmul(shape, &lhs, &rhs, AQuant::None, AQuant::None, 1.0, black_box(&mut out)),
            || left.matmul(&if transpose_rhs { right.t()? } else { right.clone() }),
        )?;
    }
    Ok(())
}

fn convolutions(bench: &Bench) -> Result<()> {
    for (c, out_c, side, kernel, groups) in [
        (3, 32, 128, 4, 1),
        (32, 32, 32, 3, 1),
        (96, 96, 32, 3, 1),
        (384, 128, 8, 3, 1),
        (256, 256, 64, 3, 1),
        (256, 256, 64, 1, 1),
        (256, 256, 64, 3, 256),
    ] {
        let stride = if kernel == 4 { 4 } else { 1 };
        let g = Geometry {
            groups,
            ..Geometry::dense(c, [side; 2], out_c, kernel, stride, kernel % 2 * (kernel / 2))
        };
        let (x, w) = (random(c * side * side), random(out_c * g.k()));
        let packed = ConvWeight::pack(&w, &g);
        let tx = tensor(&x, &[1, c, side, side])?;
        let tw = tensor(&w, &[out_c, c / groups, kernel, kernel])?;
        let mut out = vec![0.0; out_c * g.out_h() * g.out_w()];
        bench.case(
            &format!("conv{kernel} {c}->{out_c} {side}x{side} groups {groups}"),
            2 * out.len() * g.k(),
            "GFLOP/s",
            || conv2d(&x, &g, &packed, AQuant::None, None, Activation::None, black_box(&mut out)),
            || tx.conv2d(&tw, g.pad[0], stride, 1, groups),
        )?;
    }
    Ok(())
}

fn rows(bench: &Bench) -> Result<()> {
    for (rows, cols) in [(2048, 64), (1024, 14), (12 * 197, 197), (1024, 1024)] {
        let x = random(rows * cols);
        let tx = tensor(&x, &[rows, cols])?;
        let mut out = x.clone();
        bench.case(
            &format!("softmax {rows}x{cols}"),
            8 * x.len(),
            "GB/s",
            || {
                out.copy_from_slice(&x);
                softmax::softmax_rows(black_box(&mut out), rows, cols);
            },
            || {
                let e = tx.broadcast_sub(&tx.max_keepdim(D::Minus1)?)?.exp()?;
                e.broadcast_div(&e.sum_keepdim(D::Minus1)?)
            },
        )?;
    }
    for (rows, c) in [(1024, 32), (16, 256), (197, 768)] {
        let (x, gamma, beta) = (random(rows * c), random(c), random(c));
        let (tx, tg, tb) = (tensor(&x, &[rows, c])?, tensor(&gamma, &[c])?, tensor(&beta, &[c])?);
        let mut out = vec![0.0; rows * c];
        bench.case(
            &format!("layer_norm {rows}x{c}"),
            8 * x.len(),
            "GB/s",
            || norm::layer_norm(&x, rows, c, &gamma, &beta, 1e-5, black_box(&mut out)),
            || {
                let centred = tx.broadcast_sub(&tx.mean_keepdim(D::Minus1)?)?;
                let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + 1e-5)?.sqrt()?;
                centred.broadcast_div(&deviation)?.broadcast_mul(&tg)?.broadcast_add(&tb)
            },
        )?;
    }
    let x = random(64 * 32 * 32);
    let tx = tensor(&x, &[1, 64, 32, 32])?;
    let mut out = vec![0.0; 64 * 128 * 128];
    bench.case(
        "bilinear 64x32x32 -> 128",
        4 * (x.len() + out.len()),
        "GB/s",
        || resize::bilinear(&x, 64, [32; 2], [128; 2], true, black_box(&mut out)),
        || tx.upsample_bilinear2d(128, 128, true),
    )
}

fn values(bench: &Bench) -> Result<()> {
    let n = 197 * 3072;
    let x = random(n);
    let tx = tensor(&x, &[197, 3072])?;
    let mut out = x.clone();
    let bytes = 8 * n;
    bench.case(
        "gelu 197x3072",
        bytes,
        "GB/s",
        || {
            out.copy_from_slice(&x);
            activation::apply(Activation::Gelu, black_box(&mut out));
        },
        || tx.gelu_erf(),
    )?;
    bench.case(
        "gelu tanh 197x3072",
        bytes,
        "GB/s",
        || {
            out.copy_from_slice(&x);
            activation::apply(Activation::GeluTanh, black_box(&mut out));
        },
        || tx.gelu(),
    )?;
    out.copy_from_slice(&x);
    bench.case(
        "fake-quant uniform 197x3072",
        bytes,
        "GB/s",
        || fake_quant::uniform(black_box(&mut out), 0.01, 128.0, 255.0),
        || (tx.affine(100.0, 128.0)?.round()?.clamp(0.0, 255.0)? - 128.0)?.affine(0.01, 0.0),
    )?;
    let grid = LogGrid::new(0.9, 2, 16, LogForm::RepQ);
    let positive: Vec<f32> = x.iter().map(|v| v.abs()).collect();
    let tp = tx.abs()?;
    bench.case(
        "fake-quant log2 197x3072",
        bytes,
        "GB/s",
        || {
            out.copy_from_slice(&positive);
            fake_quant::logarithmic(black_box(&mut out), &grid);
        },
        || ((tp.affine(1.0 / 0.9, 0.0)?.log()? * 2.885)?.round()? * -0.3466)?.exp()? * 0.9,
    )?;
    bench.case(
        "log grid table",
        1,
        "n",
        || drop(black_box(LogGrid::new(0.9, 2, 16, LogForm::RepQ))),
        || Ok(tp.clone()),
    )?;
    bench.case(
        "add 197x3072",
        12 * n,
        "GB/s",
        || elementwise::binary(BinaryOp::Add, &x, &positive, black_box(&mut out)),
        || &tx + &tp,
    )?;
    let heads = tx.reshape((1024, 197, 3))?;
    bench.case(
        "permute 1024x197x3 -> 2,0,1",
        bytes,
        "GB/s",
        || layout::permute(&x, &[1024, 197, 3], &[2, 0, 1], black_box(&mut out)),
        || heads.permute((2, 0, 1))?.contiguous(),
    )?;
    let heads = tx.reshape((197, 3, 32, 32))?;
    bench.case(
        "permute 197x3x32x32 -> 1,2,0,3",
        bytes,
        "GB/s",
        || layout::permute(&x, &[197, 3, 32, 32], &[1, 2, 0, 3], black_box(&mut out)),
        || heads.permute((1, 2, 0, 3))?.contiguous(),
    )?;
    bench.case(
        "permute 197x3072 -> 1,0",
        bytes,
        "GB/s",
        || layout::permute(&x, &[197, 3072], &[1, 0], black_box(&mut out)),
        || tx.t()?.contiguous(),
    )
}
