//! Times the opening of a model and shows what memory it takes.
//!
//! `cargo run --release -p bitloupe-quant --example open_bench FOLDER [WEIGHTS]`

use std::path::PathBuf;
use std::time::Instant;

use bitloupe_quant::exec::{Cancel, Engine, NoTap, Quantization, Value};
use bitloupe_quant::models::{ModelFiles, Weights, open};

/// Lines of the kernel's account of this process that concern memory, where there is one.
fn memory(when: &str) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let wanted = ["VmRSS:", "VmHWM:", "RssAnon:", "RssFile:"];
    let shown: Vec<String> = status
        .lines()
        .filter(|line| wanted.iter().any(|name| line.starts_with(name)))
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    println!("{when}: {}", shown.join(", "));
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let folder = arguments.next().ok_or("give the folder of a model")?;
    memory("at first");
    let start = Instant::now();
    let weights = Weights::find(&arguments.next().unwrap_or_else(|| folder.clone()))?;
    println!("{} tensors found in {:.0?}", weights.names().count(), start.elapsed());
    memory("weights found");
    let start = Instant::now();
    let model = open(&ModelFiles::Path(folder), Some(weights))?;
    println!("graph of {} weights made in {:.0?}", model.graph.parameters(), start.elapsed());
    println!("fingerprint {}", model.fingerprint);
    memory("model open");
    let engine = Engine::new(model.graph.clone());
    let inputs = || -> Vec<Value> {
        let zeros = |id| {
            let shape = model.graph.node(id).shape.clone();
            Value::new(shape.clone(), vec![0.0; shape.iter().product()])
        };
        model.graph.inputs().iter().map(|&id| zeros(id)).collect()
    };
    for run in ["first run", "second run"] {
        let start = Instant::now();
        engine.run(&inputs(), &Quantization::none(&model.graph), None, &mut NoTap, &Cancel::default())?;
        println!("{run} in {:.0?}", start.elapsed());
        memory(run);
    }
    Ok(())
}
