//! Draws emoji scenes, trains the miniature LAVT on them and writes the bundled data.

mod args;
#[cfg(feature = "art")]
mod art;
mod background;
mod batch;
mod bundle;
mod catalogue;
mod centre;
mod checkpoint;
mod evaluate;
mod loss;
mod model;
mod nn;
mod rng;
mod scene;
mod sprites;
mod train;
mod words;

use args::Args;
use model::Model;
use nn::params::Params;
use scene::Drawings;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "bitloupe-train COMMAND [--option value]...

  train      train the model, or resume from the checkpoint in --out
  evaluate   measure --model on --count held-out scenes
  pairs      write those --count scenes, sentences and masks to the folder --to, for `bitloupe eval --samples`
  bundle     write the shipped folder --to with the weights of --model
  parity     write inputs and outputs of two pictures to the file --to
  sheet      draw a contact sheet of training scenes to the file --to
  art        redraw --art from the published packages in --from (cargo feature `art`)

Options and defaults of `train`: --seed 1, --images 145000, --scenes 20000 (per pool), --refresh 50000 (images per
pool), --batch 8 (per replica), --replicas 2 (threads), --small 0.745 (share of the run at 96 pixels), --rate 6e-4,
--every 10000 (images between evaluations), --out samples/train/run, --art samples/art";

const OPTIONS: [&str; 15] = [
    "seed", "images", "scenes", "refresh", "batch", "replicas", "small", "rate", "every", "out", "art",
    "model", "to", "from", "count",
];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let args = Args::parse(std::env::args().skip(1).collect(), &OPTIONS)?;
    let options = train::Options {
        seed: args.get("seed", 1)?,
        images: args.get("images", 145_000)?,
        scenes: args.get("scenes", 20_000)?,
        refresh: args.get("refresh", 50_000)?,
        batch: args.get("batch", 8)?,
        replicas: args.get("replicas", 2)?,
        small: args.get("small", 0.745)?,
        rate: args.get("rate", 6e-4)?,
        every: args.get("every", 10_000)?,
        out: args.get("out", PathBuf::from("samples/train/run"))?,
        art: args.get("art", PathBuf::from("samples/art"))?,
    };
    let weights = args.get("model", options.out.join("model.safetensors"))?;
    let to = args.get("to", PathBuf::from("samples/data/lavt-mini"))?;
    match args.command() {
        #[cfg(feature = "art")]
        Some("art") => art::draw(&args.get("from", PathBuf::from("."))?, &options.art),
        Some("train") => train::run(&options),
        Some("evaluate") => evaluate(&options, &weights, args.get("count", 1000)?),
        Some("pairs") => {
            let art = sprites::Art::open(&options.art)?;
            let scenes = held_out(&art, &options, args.get("count", 1000)?);
            bundle::pairs(&scenes, &evaluate::questions(&scenes, train::TEST_SEED), &to)
        }
        Some("bundle") => bundle::write(&sprites::Art::open(&options.art)?, &weights, &to),
        Some("parity") => {
            let (params, model) = load(&weights)?;
            bundle::parity(&sprites::Art::open(&options.art)?, &model, &params, &to)
        }
        Some("sheet") => sheet(&options, &to),
        _ => Err(USAGE.into()),
    }
}

fn load(weights: &Path) -> Result<(Params, Model), Box<dyn Error>> {
    let mut params = Params::default();
    let model = Model::new(&mut params, words::vocabulary().len(), 1);
    checkpoint::import(weights, &mut params)?;
    Ok((params, model))
}

/// Scenes that no training has seen.
fn held_out(art: &sprites::Art, options: &train::Options, count: usize) -> Vec<scene::Scene> {
    train::pool(art, train::TEST_SEED, 0, count, Drawings::Known, options.replicas)
}

/// Measures shipped weights on held-out scenes, then on scenes about drawings that training never used.
fn evaluate(options: &train::Options, weights: &Path, count: usize) -> Result<(), Box<dyn Error>> {
    let (params, model) = load(weights)?;
    let art = sprites::Art::open(&options.art)?;
    let pools = [
        ("held-out scenes", train::TEST_SEED, Drawings::Known),
        ("held-out drawings", train::UNKNOWN_SEED, Drawings::HeldOut),
    ];
    for (name, seed, drawings) in pools {
        let scenes = train::pool(&art, seed, 0, count, drawings, options.replicas);
        let mut questions = evaluate::questions(&scenes, seed);
        if drawings == Drawings::HeldOut {
            let unknown = |q: &evaluate::Question| {
                let o = scenes[q.scene].objects[q.expression.target];
                catalogue::held_out(o.category, o.style)
            };
            questions.retain(unknown);
        }
        let report = evaluate::run(&model, &params, &scenes, &questions, model::SIDE, options.replicas);
        println!("{name}, n {}: {}", questions.len(), report.line());
    }
    Ok(())
}

/// A contact sheet of training scenes with their sentences, for looking at.
fn sheet(options: &train::Options, to: &Path) -> Result<(), Box<dyn Error>> {
    let art = sprites::Art::open(&options.art)?;
    let n = 6;
    let side = model::SIDE as u32;
    let mut image = image::RgbImage::new(n * side, n * side);
    for i in 0..n * n {
        let s = scene::compose(&art, train::TRAIN_SEED, u64::from(i), Drawings::Known);
        let all = words::all(&s.objects, &mut rng::Rng::new(train::TRAIN_SEED, u64::from(i)));
        let texts: Vec<String> = all.into_iter().map(|e| e.text).collect();
        println!("{i}: {}", texts.join(" | "));
        for (j, p) in s.image.chunks_exact(3).enumerate() {
            let (x, y) = (j as u32 % side, j as u32 / side);
            image.put_pixel(i % n * side + x, i / n * side + y, image::Rgb([p[0], p[1], p[2]]));
        }
    }
    Ok(image.save(to)?)
}
