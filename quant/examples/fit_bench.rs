//! Times the statistics of one site: observing, and fitting every quantizer from the sketch.
//!
//! `cargo run --release -p bitloupe-quant --example fit_bench`

use bitloupe_quant::quantizer::{Distribution, Family, Granularity, RangeSearch, Scheme, predict, quantizer};
use bitloupe_quant::stats::{Sketch, diagnose};
use bitloupe_quant::terms::{Bits, Layout, Role};
use std::hint::black_box;
use std::time::Instant;

/// The quickest of nine runs, in milliseconds: what else the machine does only adds.
fn best_ms(mut run: impl FnMut()) -> f64 {
    let times = (0..9).map(|_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64() * 1e3
    });
    times.fold(f64::INFINITY, f64::min)
}

/// Roughly normal values.
fn values(len: usize) -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32
    };
    (0..len).map(|_| (0..6).map(|_| uniform() - 0.5).sum::<f32>() * 1.4).collect()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let all = values(197 * 3072 * 4);
    let layouts = [
        ("197 × 768, last axis", Layout { outer: 197, channels: 768, inner: 1 }),
        ("197 × 3072, last axis", Layout { outer: 197, channels: 3072, inner: 1 }),
        ("12 heads × 197 × 197", Layout { outer: 1, channels: 12, inner: 197 * 197 }),
        ("one channel, 605 k", Layout::tensor(197 * 3072)),
        ("64 × 56 × 56", Layout { outer: 1, channels: 64, inner: 56 * 56 }),
    ];
    println!("observe, ns per value: first sample, then on");
    for (name, layout) in layouts {
        let values = &all[..layout.len()];
        let ns = 1e6 / layout.len() as f64;
        let first = best_ms(|| {
            let mut sketch = Sketch::new(layout.channels);
            sketch.observe(values, layout).unwrap_or_else(|error| panic!("{error}"));
            black_box(&sketch);
        });
        let mut sketch = Sketch::new(layout.channels);
        for _ in 0..8 {
            sketch.observe(values, layout)?;
        }
        let later = best_ms(|| sketch.observe(values, layout).unwrap_or_else(|error| panic!("{error}")));
        println!("  {name:24} {:.2}  {:.2}", first * ns, later * ns);
    }

    let layout = Layout { outer: 197 * 4, channels: 768, inner: 1 };
    let mut sketch = Sketch::new(768);
    sketch.observe(&all[..layout.len()], layout)?;
    println!("diagnose: {:.2} ms", best_ms(|| drop(black_box(diagnose(&sketch, Role::Other)))));
    for &granularity in Granularity::ALL {
        let mut total = 0.0;
        println!("fit and predict at 2 to 8 bits, per {granularity}, ms");
        for &family in Family::ALL {
            for range in
                [RangeSearch::MinMax, RangeSearch::repq(), RangeSearch::Mse { p: 2.0 }, RangeSearch::Kl]
            {
                if family != Family::Uniform && range == RangeSearch::Kl {
                    continue;
                }
                let scheme = Scheme { granularity, ..Scheme::new(family, range) };
                let ms = best_ms(|| {
                    for bits in 2..=8 {
                        let fitted = Bits::new(bits).ok().and_then(|bits| {
                            quantizer(family).fit(&Distribution::Sketch(&sketch), &scheme, bits).ok()
                        });
                        black_box(fitted.map(|params| predict(&sketch, &params)));
                    }
                });
                total += ms;
                println!("  {:32} {ms:.2}", scheme.to_string());
            }
        }
        println!("  {:32} {total:.2}", "together");
    }

    let mut x = all[..197 * 3072].to_vec();
    for (name, layout) in &layouts[1..4] {
        for &granularity in Granularity::ALL {
            let scheme = Scheme { granularity, ..Scheme::new(Family::Uniform, RangeSearch::MinMax) };
            let data = Distribution::Raw { values: &all[..layout.len()], layout: *layout };
            let params = quantizer(Family::Uniform).fit(&data, &scheme, Bits::new(8)?)?;
            let ms = best_ms(|| {
                quantizer(Family::Uniform).fake_quantize(&mut x[..layout.len()], *layout, &params);
            });
            println!(
                "fake-quantize {name}, per {granularity}: {:.2} ns per value",
                ms * 1e6 / layout.len() as f64
            );
        }
    }
    Ok(())
}
