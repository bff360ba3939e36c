//! The training run.

use crate::batch::Batch;
use crate::evaluate::{self, Question};
use crate::loss::{aux_loss, mask_loss};
use crate::model::{AUX, Model, Plans, SIDE};
use crate::nn::optim::AdamW;
use crate::nn::params::{ParamId, Params};
use crate::nn::tape::{Tape, Workspace};
use crate::rng::Rng;
use crate::scene::{Drawings, Scene, compose};
use crate::sprites::Art;
use crate::{checkpoint, words};
use std::{error::Error, path::PathBuf, time::Instant};

/// Seeds of the scene pools; the run's own seed only draws sentences, augmentation and initial weights.
pub const TRAIN_SEED: u64 = 1;
/// Held-out scenes that are evaluated.
pub const TEST_SEED: u64 = 2;
/// Held-out scenes with drawings never trained on.
pub const UNKNOWN_SEED: u64 = 3;
/// Scenes of the calibration pairs.
pub const CALIBRATION_SEED: u64 = 4;
/// Scenes of the bundled evaluation pairs.
pub const BUNDLE_SEED: u64 = 5;

/// Options of a run; the defaults are those of the shipped weights.
#[derive(Clone)]
pub struct Options {
    /// Seed of weights, sentences and augmentation.
    pub seed: u64,
    /// Length of the run; the schedule is a function of the share done.
    pub images: u64,
    /// Scenes in a pool.
    pub scenes: usize,
    /// Images after which the pool is replaced.
    pub refresh: u64,
    /// Pictures per replica and step.
    pub batch: usize,
    /// Replicas, one thread each.
    pub replicas: usize,
    /// Share of the run at 96 instead of 128 pixels.
    pub small: f32,
    /// Highest learning rate.
    pub rate: f32,
    /// Images between evaluations.
    pub every: u64,
    /// Folder of checkpoints and exports.
    pub out: PathBuf,
    /// Folder of the drawings.
    pub art: PathBuf,
}

/// Composes scenes `first..first + count` of a pool on all threads.
pub fn pool(
    art: &Art,
    seed: u64,
    first: u64,
    count: usize,
    drawings: Drawings,
    threads: usize,
) -> Vec<Scene> {
    let share = count.div_ceil(threads);
    std::thread::scope(|scope| {
        let parts: Vec<_> = (0..threads)
            .map(|t| {
                let range = t * share..((t + 1) * share).min(count);
                scope.spawn(move || {
                    range.map(|i| compose(art, seed, first + i as u64, drawings)).collect::<Vec<_>>()
                })
            })
            .collect();
        parts.into_iter().flat_map(|p| p.join().expect("a composing thread panicked")).collect()
    })
}

/// Losses of one replica: cross entropy, Dice, categories, size flags.
type Losses = [f32; 4];

struct Step<'a> {
    model: &'a Model,
    params: &'a Params,
    plans: &'a Plans,
    pool: &'a [Scene],
    side: usize,
    aux: f32,
    batch: usize,
    seed: u64,
}

type Stats = Vec<(ParamId, Vec<f32>)>;

/// Forward and backward of one replica on images `first..first + batch`.
fn replica(s: &Step, first: u64, mut work: Workspace) -> (Workspace, Stats, Losses) {
    let mut batch = Batch::default();
    for i in 0..s.batch as u64 {
        let mut rng = Rng::new(s.seed, first + i);
        loop {
            let scene = &s.pool[rng.below(s.pool.len())];
            if batch.push_augmented(scene, &mut rng, s.side) {
                break;
            }
        }
    }
    work.grads.clear();
    let mut tape = Tape::new(s.params, work, true);
    let patches = std::mem::take(&mut batch.patches);
    let out = s.model.forward(&mut tape, s.plans, patches, &batch.ids, &batch.words);
    let full = tape.upsample(out.logits, s.side / 4, s.side);
    let mut g = tape.lend(full);
    let (ce, dice) = mask_loss(&mut g, &batch.target, s.batch);
    tape.add_grad(full, g);
    let mut g = tape.lend(out.aux);
    debug_assert_eq!(g.len(), s.batch * (s.side / 16).pow(2) * 4 * AUX);
    let (kind, flags) = aux_loss(&mut g, &batch.cells, s.side / 16, s.aux);
    tape.add_grad(out.aux, g);
    tape.backward();
    let (work, stats) = tape.finish();
    (work, stats, [ce, dice, kind, flags])
}

/// Warm-up, constant, linear to zero over the second half.
fn rate(options: &Options, images: u64, steps: u64) -> f32 {
    let done = images as f32 / options.images as f32;
    let warm = ((steps + 1) as f32 / 200.0).min(1.0);
    options.rate * warm * ((1.0 - done) / 0.5).clamp(0.0, 1.0)
}

/// Trains, evaluating and saving as it goes; resumes from the checkpoint in `out` if there is one.
pub fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(&options.out)?;
    let art = Art::open(&options.art)?;
    let start = Instant::now();
    let test = pool(&art, TEST_SEED, 0, 300, Drawings::Known, options.replicas);
    let questions = evaluate::questions(&test, TEST_SEED);
    let mut params = Params::default();
    let model = Model::new(&mut params, words::vocabulary().len(), options.seed);
    println!("{} parameters", params.data.len());
    let mut optimizer = AdamW::default();
    let path = options.out.join("checkpoint.safetensors");
    let mut images = 0;
    if path.exists() {
        images = checkpoint::load(&path, &mut params, &mut optimizer)?;
        println!("resumed at {images} images");
    }
    let plans = [96, SIDE].map(|side| model.plans(side));
    let mut work: Vec<Workspace> = (0..options.replicas).map(|_| Workspace::default()).collect();
    let per_step = (options.batch * options.replicas) as u64;
    let mut sums = [0.0f32; 4];
    let (mut counted, mut clock) = (0u64, Instant::now());
    let mut next = (images / options.every + 1) * options.every;
    let mut norm_sum = 0.0;
    let (mut scenes, mut drawn) = (Vec::new(), None);
    while images < options.images {
        let done = images as f32 / options.images as f32;
        // A pool serves for a while and is then replaced by new scenes: too few would be learnt by heart.
        let round = images / options.refresh;
        if drawn != Some(round) {
            drop(scenes);
            let first = round * options.scenes as u64;
            scenes = pool(&art, TRAIN_SEED, first, options.scenes, Drawings::Known, options.replicas);
            drawn = Some(round);
            println!("{} scenes of round {round}, {:.0} s", scenes.len(), start.elapsed().as_secs_f32());
            clock = Instant::now();
        }
        let small = done < options.small;
        let side = if small { 96 } else { SIDE };
        let aux = if done < 0.5 { 1.0 } else { 0.4 };
        let step = Step {
            model: &model,
            params: &params,
            plans: &plans[usize::from(!small)],
            pool: &scenes,
            side,
            aux,
            batch: options.batch,
            seed: options.seed ^ 0x7a1e,
        };
        let results: Vec<_> = std::thread::scope(|scope| {
            let step = &step;
            let handles: Vec<_> = work
                .drain(..)
                .enumerate()
                .map(|(r, w)| scope.spawn(move || replica(step, images + (r * options.batch) as u64, w)))
                .collect();
            handles.into_iter().map(|h| h.join().expect("a replica panicked")).collect()
        });
        let mut grads = Vec::new();
        for (mut w, stats, losses) in results {
            grads.push(std::mem::take(&mut w.grads));
            work.push(w);
            for (id, new) in stats {
                for (r, n) in params.get_mut(id).iter_mut().zip(new) {
                    *r += 0.02 * (n - *r);
                }
            }
            for (s, l) in sums.iter_mut().zip(losses) {
                *s += l / options.replicas as f32;
            }
        }
        let lr = rate(options, images, optimizer.steps);
        norm_sum += optimizer.step(&mut params, &mut grads, lr);
        for (w, g) in work.iter_mut().zip(grads) {
            w.grads = g;
        }
        images += per_step;
        counted += 1;
        if counted == 100 || images >= next {
            let speed = (counted * per_step) as f32 / clock.elapsed().as_secs_f32();
            let [ce, dice, kind, flags] = sums.map(|s| s / counted as f32);
            println!(
                "{images} {side}px lr {lr:.2e} ce {ce:.4} dice {dice:.4} category {kind:.3} size {flags:.3} norm {:.2} | {speed:.1} img/s, {:.0} s",
                norm_sum / counted as f32,
                start.elapsed().as_secs_f32()
            );
            (sums, counted, norm_sum, clock) = ([0.0; 4], 0, 0.0, Instant::now());
        }
        if images >= next || images >= options.images {
            next += options.every;
            checkpoint::save(&path, &params, &optimizer, images)?;
            report(options, &model, &mut params, &test, &questions, side, images)?;
            clock = Instant::now();
        }
    }
    Ok(())
}

/// Evaluates the f16 version and exports it; the f32 parameters stay as they are.
fn report(
    options: &Options,
    model: &Model,
    params: &mut Params,
    test: &[Scene],
    questions: &[Question],
    side: usize,
    images: u64,
) -> Result<(), Box<dyn Error>> {
    let precise = params.data.clone();
    checkpoint::export(&options.out.join("model.safetensors"), params)?;
    let report = evaluate::run(model, params, test, questions, side, options.replicas);
    println!("EVAL {images} {side}px n {} {}", questions.len(), report.line());
    params.data = precise;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole network against finite differences, along the gradient of every seventh parameter.
    #[test]
    fn gradients_agree_with_finite_differences() {
        let art = Art::open("../art".as_ref()).unwrap();
        let scenes = pool(&art, 9, 0, 4, Drawings::Known, 1);
        let mut params = Params::default();
        let model = Model::new(&mut params, words::vocabulary().len(), 3);
        let mut rng = Rng::new(5, 5);
        // Away from the initial values, where many gradients vanish.
        params.data.iter_mut().for_each(|v| *v += 0.02 * rng.normal());
        let side = 96;
        let plans = model.plans(side);
        let run = |params: &Params| {
            let step = Step {
                model: &model,
                params,
                plans: &plans,
                pool: &scenes,
                side,
                aux: 1.0,
                batch: 2,
                seed: 7,
            };
            let (work, _, l) = replica(&step, 0, Workspace::default());
            (work.grads, f64::from(l[0]) + f64::from(l[1]) + f64::from(l[2]) + 0.5 * f64::from(l[3]))
        };
        let (grads, _) = run(&params);
        for id in (0..params.specs.len()).step_by(7) {
            let range = params.range(id);
            let g = &grads[range.clone()];
            let norm = g.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
            if !params.specs[id].learned || norm < 1e-2 {
                continue;
            }
            let saved = params.data[range.clone()].to_vec();
            // Along its own gradient the derivative is the norm; the best of two steps, one for curved directions
            // and one for those where rounding dominates.
            let error = [1e-2, 2e-3].map(|h| {
                let mut at = |sign: f64| {
                    for ((p, s), g) in params.data[range.clone()].iter_mut().zip(&saved).zip(g) {
                        *p = s + (sign * h * f64::from(*g) / norm) as f32;
                    }
                    run(&params).1
                };
                let slope = (at(1.0) - at(-1.0)) / (2.0 * h);
                (slope / norm - 1.0).abs()
            });
            params.data[range].copy_from_slice(&saved);
            assert!(error[0].min(error[1]) < 0.05, "{} {norm} {error:?}", params.specs[id].name);
        }
    }
}
