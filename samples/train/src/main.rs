//! Draws emoji scenes, trains the miniature LAVT on them and writes the bundled data.

#[cfg(feature = "art")]
mod art;
mod background;
mod batch;
mod bundle;
mod catalogue;
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

use model::Model;
use nn::params::Params;
use scene::Drawings;
use std::error::Error;
use std::path::{Path, PathBuf};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let text = |name: &str, default: &str| {
        let at = args.iter().position(|a| a == &format!("--{name}"));
        at.and_then(|i| args.get(i + 1)).cloned().unwrap_or_else(|| default.to_owned())
    };
    let options = train::Options {
        seed: text("seed", "1").parse()?,
        images: text("images", "200000").parse()?,
        scenes: text("scenes", "20000").parse()?,
        refresh: text("refresh", "50000").parse()?,
        batch: text("batch", "8").parse()?,
        replicas: text("replicas", "2").parse()?,
        small: text("small", "0.6").parse()?,
        rate: text("rate", "6e-4").parse()?,
        every: text("every", "10000").parse()?,
        out: PathBuf::from(text("out", "samples/train/run")),
        art: PathBuf::from(text("art", "samples/art")),
    };
    let weights = PathBuf::from(text("model", &options.out.join("model.safetensors").to_string_lossy()));
    let to = PathBuf::from(text("to", "samples/data/lavt-mini"));
    match args.first().map(String::as_str) {
        #[cfg(feature = "art")]
        Some("art") => art::draw(text("from", ".").as_ref(), &options.art),
        Some("train") => train::run(&options),
        Some("evaluate") => evaluate(&options, &weights, text("count", "1000").parse()?),
        Some("bundle") => bundle::write(&sprites::Art::open(&options.art)?, &weights, &to),
        Some("parity") => {
            let (params, model) = load(&weights)?;
            bundle::parity(&sprites::Art::open(&options.art)?, &model, &params, &to)
        }
        Some("sheet") => sheet(&options, &to),
        _ => Err("usage: bitloupe-train train|evaluate|bundle|parity|sheet|art [--option value]...".into()),
    }
}

fn load(weights: &Path) -> Result<(Params, Model), Box<dyn Error>> {
    let mut params = Params::default();
    let model = Model::new(&mut params, words::vocabulary().len(), 1);
    checkpoint::import(weights, &mut params)?;
    Ok((params, model))
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
