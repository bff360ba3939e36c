//! Opens and runs models of published size, each in a process of its own, and prints a table:
//!
//! `cargo bench --workspace --bench models [-- NAME|PATH…]`. NAME is a manifest of `tests/fixtures/real_shapes`, for which a
//! checkpoint of random values is written to a temporary folder (CLIPSeg rd64-refined and SAM base if nothing is named);
//! PATH is a model's own folder or file.

#[path = "../support/checkpoint.rs"]
mod checkpoint;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use bitloupe_quant::exec::{Cancel, Engine, NoTap, Quantization, Value};
use bitloupe_quant::models::{ModelFiles, open};

/// First argument of a process that opens and runs the model that the second names.
const CHILD: &str = "--open-and-run";
const USUAL: [&str; 2] = ["clipseg-rd64-refined", "sam-vit-base"];

fn main() -> Result<(), Box<dyn Error>> {
    // Cargo adds `--bench`.
    let said: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if let [mode, path] = said.as_slice()
        && mode == CHILD
    {
        return child(Path::new(path));
    }
    let usual = || USUAL.iter().map(|name| (*name).to_owned()).collect();
    let names: Vec<String> = if said.is_empty() { usual() } else { said };
    println!("| model | weights | open | memory then | first run | second run | peak memory |");
    println!("|---|---:|---:|---:|---:|---:|---:|");
    for name in names {
        let manifest = PathBuf::from(format!("tests/fixtures/real_shapes/{name}.json"));
        let folder = tempfile::tempdir()?;
        let path = if manifest.is_file() {
            checkpoint::write(&manifest, folder.path());
            folder.path().to_owned()
        } else {
            PathBuf::from(&name)
        };
        let run = Command::new(std::env::current_exe()?).arg(CHILD).arg(&path).output()?;
        if !run.status.success() {
            return Err(format!("{name}: {}", String::from_utf8_lossy(&run.stderr)).into());
        }
        let short = Path::new(&name).file_name().map_or(name.clone(), |n| n.to_string_lossy().into_owned());
        println!("| {short} | {} |", String::from_utf8(run.stdout)?.trim());
    }
    Ok(())
}

/// Opens and runs a model twice and prints the cells of its row.
fn child(path: &Path) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let model = open(&ModelFiles::Path(path.to_owned()), None)?;
    let open_ms = start.elapsed().as_secs_f64() * 1e3;
    let (at_rest, _) = memory()?;
    let graph = model.graph.clone();
    let engine = Engine::new(graph.clone());
    let inputs: Vec<Value> = graph.inputs().iter().map(|&id| input(&graph.node(id).name, &graph.node(id).shape)).collect();
    let none = Quantization::none(&graph);
    let pool = rayon::ThreadPoolBuilder::new().build()?;
    let mut times = Vec::new();
    for _ in 0..2 {
        let start = Instant::now();
        pool.install(|| engine.run(&inputs, &none, None, &mut NoTap, &Cancel::default()))?;
        times.push(start.elapsed().as_secs_f64());
    }
    let weights = graph.parameters() as f64 * 4.0 / f64::from(1 << 20);
    let (_, peak) = memory()?;
    println!(
        "{weights:.0} MiB | {open_ms:.0} ms | {at_rest:.0} MiB | {:.2} s | {:.2} s | {peak:.0} MiB",
        times[0], times[1]
    );
    Ok(())
}

/// A tensor for an input: a picture without pattern, small token numbers, ones for masks, a point in the middle.
fn input(name: &str, shape: &[usize]) -> Value {
    let numbers: usize = shape.iter().product();
    let number = |i: usize| match name {
        "input_ids" => (i % 5 + 1) as f32,
        "attention_mask" | "pixel_mask" | "input_labels" => 1.0,
        "input_points" | "input_boxes" => 512.0,
        "token_type_ids" => 0.0,
        _ => (i as f32 * 0.37).sin() * 2.0,
    };
    Value::new(shape.to_vec(), (0..numbers).map(number).collect())
}

/// Resident memory now and at its peak, in MiB.
fn memory() -> Result<(f64, f64), Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let field = |name: &str| -> Result<f64, Box<dyn Error>> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such field")?;
        let kib: f64 = line.split_whitespace().next().ok_or("no number")?.parse()?;
        Ok(kib / 1024.0)
    };
    Ok((field("VmRSS:")?, field("VmHWM:")?))
}
