//! `bitloupe info`.

use bitloupe_quant::session::{Options, Session};
use color_eyre::eyre::Result;
use serde_json::json;

use super::{Outcome, print_json};
use crate::cli::ModelArgs;
use crate::open;
use crate::table::{Align, Table};

/// Lists layers and sites.
pub fn run(args: &ModelArgs, as_json: bool) -> Result<Outcome> {
    let session =
        Session::open(&Options { threads: args.threads, ..Options::new(open::model_files(args)?) })?;
    let model = session.model();
    let graph = &*model.graph;
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
            "layers": layers,
            "encodings": model.encodings.iter().map(|e| json!({
                "site": e.site.to_string(), "bits": e.bits, "symmetric": e.symmetric, "dynamic": e.is_dynamic(),
                "scale": e.scale, "zero_point": e.zero_point, "axis": e.axis,
            })).collect::<Vec<_>>(),
            "warnings": model.warnings,
            "unsupported": model.unsupported.iter().map(ToString::to_string).collect::<Vec<_>>(),
        }))?;
        return Ok(Outcome::Done);
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
        ("site", Align::Left),
        ("op", Align::Left),
        ("role", Align::Left),
        ("shape", Align::Left),
        ("MMAC", Align::Right),
    ]);
    for layer in graph.layers() {
        for (i, &site) in layer.sites.iter().enumerate() {
            let site = &graph.sites()[site];
            let macs = if i == 0 { format!("{:.2}", layer.cost.macs as f64 / 1e6) } else { String::new() };
            table.row([
                site.id.to_string(),
                graph.node(layer.node).op.kind().to_owned(),
                site.role.to_string(),
                format!("{:?}", site.shape),
                macs,
            ]);
        }
    }
    table.print()?;
    Ok(Outcome::Done)
}
