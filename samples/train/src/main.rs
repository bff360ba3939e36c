//! Draws emoji scenes, trains the miniature LAVT on them and writes the bundled data.

#[cfg(feature = "art")]
mod art;
mod background;
mod batch;
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

use std::error::Error;
use std::path::PathBuf;

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
    match args.first().map(String::as_str) {
        #[cfg(feature = "art")]
        Some("art") => art::draw(text("from", ".").as_ref(), &options.art),
        Some("train") => train::run(&options),
        Some("sheet") => sheet(&options),
        _ => Err("usage: bitloupe-train train|art [--option value]...".into()),
    }
}

fn sheet(options: &train::Options) -> Result<(), Box<dyn Error>> {
    let art = sprites::Art::open(&options.art)?;
    let n = 6;
    let mut image = image::RgbImage::new(n * 128, n * 128);
    for i in 0..n * n {
        let s = scene::compose(&art, 1, u64::from(i), scene::Drawings::Known);
        let mut rng = rng::Rng::new(9, u64::from(i));
        let e: Vec<_> = words::all(&s.objects, &mut rng).into_iter().map(|e| format!("{}>{}", e.text, e.target)).collect();
        println!("{i}: {}", e.join(" | "));
        for (j, p) in s.image.chunks_exact(3).enumerate() {
            let (x, y) = (j as u32 % 128, j as u32 / 128);
            image.put_pixel(i % n * 128 + x, i / n * 128 + y, image::Rgb([p[0], p[1], p[2]]));
        }
    }
    image.save("/tmp/sheet.png")?;
    Ok(())
}
