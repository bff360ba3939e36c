//! `bitloupe info`: the modules of a model with their sums, and the sites in each.

use std::collections::HashMap;

use bitloupe_quant::graph::{Graph, Layer};
use bitloupe_quant::session::{Options, Session};
use color_eyre::eyre::Result;
use serde_json::json;

use super::{Outcome, print_json};
use crate::cli::ModelArgs;
use crate::open;
use crate::table::{Align, Table};

/// Without a depth, modules are summed up at the first that gives this many.
const FEW: usize = 6;
/// Deepest path that is looked at.
const DEEPEST: usize = 16;

/// What the layers below one module path are together.
struct Module<'g> {
    /// The path.
    name: String,
    layers: Vec<&'g Layer>,
}

impl Module<'_> {
    fn sites(&self) -> usize {
        self.layers.iter().map(|layer| layer.sites.len()).sum()
    }

    fn weights(&self) -> u64 {
        self.layers.iter().map(|layer| layer.cost.weights).sum()
    }

    fn macs(&self) -> u64 {
        self.layers.iter().map(|layer| layer.cost.macs).sum()
    }
}

/// The modules whose paths have at most so many steps, in the order of their first layers.
fn modules(graph: &Graph, depth: usize) -> Vec<Module<'_>> {
    let mut found: Vec<Module<'_>> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for layer in graph.layers() {
        let name: Vec<&str> = layer.name.split('.').take(depth.max(1)).collect();
        let name = name.join(".");
        let place = *places.entry(name.clone()).or_insert_with(|| {
            found.push(Module { name, layers: Vec::new() });
            found.len() - 1
        });
        found[place].layers.push(layer);
    }
    found
}

/// The modules at a depth, or at the first that tells parts of the model from each other.
fn at_depth(graph: &Graph, depth: Option<usize>) -> Vec<Module<'_>> {
    let first = || (1..=DEEPEST).find(|&depth| modules(graph, depth).len() >= FEW).unwrap_or(DEEPEST);
    modules(graph, depth.unwrap_or_else(first))
}

/// Lists modules, and without a depth the sites in each.
pub fn run(args: &ModelArgs, depth: Option<usize>, as_json: bool) -> Result<Outcome> {
    let session =
        Session::open(&Options { threads: args.threads, ..Options::new(open::model_files(args)?) })?;
    let model = session.model();
    let graph = &*model.graph;
    let modules = at_depth(graph, depth);
    if as_json {
        let layers: Vec<_> = graph
            .layers()
            .iter()
            .map(|layer| {
                let sites: Vec<_> = layer
                    .sites
                    .iter()
                    .map(|&i| &graph.sites()[i])
                    .map(|s| json!({"site": s.id.to_string(), "role": s.role.to_string(), "shape": s.shape}))
                    .collect();
                json!({
                    "name": layer.name,
                    "op": graph.node(layer.node).op.kind(),
                    "macs": layer.cost.macs,
                    "weights": layer.cost.weights,
                    "used": graph.is_used(layer.node),
                    "sites": sites,
                })
            })
            .collect();
        print_json(&json!({
            "name": model.name,
            "label": model.label,
            "architecture": model.architecture,
            "fingerprint": model.fingerprint,
            "parameters": graph.parameters(),
            "macs": graph.macs(),
            "modules": modules.iter().map(|module| json!({
                "module": module.name,
                "layers": module.layers.len(),
                "sites": module.sites(),
                "weights": module.weights(),
                "macs": module.macs(),
            })).collect::<Vec<_>>(),
            "layers": layers,
            "warnings": model.warnings,
            "encodings": model.encodings.iter().map(|e| json!({
                "site": e.site.to_string(), "bits": e.bits, "symmetric": e.symmetric, "dynamic": e.is_dynamic(),
                "scale": e.scale, "zero_point": e.zero_point, "axis": e.axis,
            })).collect::<Vec<_>>(),
            "warnings": model.warnings,
            "unsupported": model.unsupported.iter().map(ToString::to_string).collect::<Vec<_>>(),
        }))?;
        return Ok(Outcome::Done);
    }
    for warning in &model.warnings {
        eprintln!("warning: {warning}");
    }
    let label = model.label.as_ref().map(|l| format!(" ({l})")).unwrap_or_default();
    say!("{}{label}: {}", model.name, model.architecture)?;
    say!(
        "{} parameters, {:.1} million multiply-accumulates a sample, {} layers, {} sites\n",
        graph.parameters(),
        graph.macs() as f64 / 1e6,
        graph.layers().len(),
        graph.sites().len()
    )?;
    let unused: Vec<&str> =
        graph.layers().iter().filter(|l| !graph.is_used(l.node)).map(|l| l.name.as_str()).collect();
    if !unused.is_empty() {
        say!("not used, as no result depends on them: {}\n", unused.join(", "))?;
    }
    if !model.encodings.is_empty() {
        say!(
            "{} sites are quantized in the file: `bitloupe plan new --preset \"as in the file\"` writes their plan\n",
            model.encodings.len()
        )?;
    }
    for warning in &model.warnings {
        say!("note: {warning}\n")?;
    }
    if !model.unsupported.is_empty() {
        say!("not supported, and left out with what depends on them:")?;
        for node in &model.unsupported {
            say!("  {node}")?;
        }
        say!("")?;
    }
    let mut table = Table::new(&[
        ("module", Align::Left),
        ("layers", Align::Right),
        ("sites", Align::Right),
        ("weights", Align::Right),
        ("MMAC", Align::Right),
    ]);
    for module in &modules {
        table.row([
            module.name.clone(),
            module.layers.len().to_string(),
            module.sites().to_string(),
            module.weights().to_string(),
            format!("{:.2}", module.macs() as f64 / 1e6),
        ]);
    }
    table.print()?;
    if depth.is_some() {
        return Ok(Outcome::Done);
    }
    say!("")?;
    let mut table = Table::new(&[
        ("site", Align::Left),
        ("op", Align::Left),
        ("role", Align::Left),
        ("shape", Align::Left),
        ("MMAC", Align::Right),
    ]);
    for module in &modules {
        table.row([module.name.clone()]);
        for (layer, &site) in
            module.layers.iter().flat_map(|layer| layer.sites.iter().map(move |s| (layer, s)))
        {
            let first = layer.sites.first() == Some(&site);
            let site = &graph.sites()[site];
            let macs = if first { format!("{:.2}", layer.cost.macs as f64 / 1e6) } else { String::new() };
            table.row([
                format!("  {}", site.id),
                graph.node(layer.node).op.kind().to_owned(),
                if graph.is_used(layer.node) {
                    site.role.to_string()
                } else {
                    format!("{}, not used", site.role)
                },
                format!("{:?}", site.shape),
                macs,
            ]);
        }
    }
    table.print()?;
    Ok(Outcome::Done)
}
