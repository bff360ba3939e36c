//! `bitloupe stats`: class and figures per site.

use std::path::Path;

use bitloupe_quant::export::report::bars;
use bitloupe_quant::stats::{Sketch, StatsFile, diagnose};
use bitloupe_quant::terms::{Layout, Role};
use color_eyre::eyre::{Result, eyre};
use serde_json::{Value, json};

use super::{Outcome, print_json, regex};
use crate::cli::{ModelArgs, Stats};
use crate::table::{Align, Table};
use crate::{open, tensors};

/// Headers of safetensors files are no longer than this.
const MAX_HEADER: u64 = 100_000_000;

/// A site with its sketch.
struct Row {
    site: String,
    role: Role,
    sketch: Sketch,
}

/// Prints what is known of the sites of a statistics file, a model, or one tensor.
pub fn run(args: &Stats) -> Result<Outcome> {
    let mut rows = match (&args.source, &args.tensor) {
        (Some(path), Some(name)) => vec![tensor(path, name, args.axis)?],
        (Some(path), None) if is_stats(path) => StatsFile::read(path)?
            .sites
            .into_iter()
            .map(|(site, (role, sketch))| Row { site: site.to_string(), role, sketch })
            .collect(),
        (source, _) => model(args, source.as_deref())?,
    };
    if let Some(pattern) = args.site.as_deref().map(regex).transpose()? {
        rows.retain(|row| pattern.is_match(&row.site));
    }
    if args.json {
        print_json(&json!({ "sites": rows.iter().map(json_row).collect::<Vec<_>>() }))?;
    } else {
        print_table(&rows, args.histogram)?;
    }
    Ok(Outcome::Done)
}

/// Statistics files say so in their header; anything else is taken for a model.
fn is_stats(path: &Path) -> bool {
    // The header's length in 8 bytes, then JSON in any order.
    let header = || -> std::io::Result<Vec<u8>> {
        use std::io::Read;
        if !std::fs::metadata(path)?.is_file() {
            return Ok(Vec::new());
        }
        let mut file = std::fs::File::open(path)?;
        let mut length = [0; 8];
        file.read_exact(&mut length)?;
        let mut header = Vec::new();
        file.take(u64::from_le_bytes(length).min(MAX_HEADER)).read_to_end(&mut header)?;
        Ok(header)
    };
    let mark = b"\"bitloupe-stats/";
    header().is_ok_and(|header| header.windows(mark.len()).any(|part| part == mark))
}

fn tensor(path: &Path, name: &str, axis: Option<isize>) -> Result<Row> {
    let mut file = tensors::read(path)?;
    let Some(tensor) = file.remove(name) else {
        let near = bitloupe_quant::plan::nearest(name, file.keys().map(String::as_str), 3);
        return Err(eyre!("{}: no tensor `{name}`; nearest: {}", path.display(), near.join(", ")));
    };
    let layout = match axis {
        Some(axis) => Layout::axis(&tensor.shape, axis)?,
        None if tensor.shape.len() > 1 => Layout::axis(&tensor.shape, -1)?,
        None => Layout::tensor(tensor.data.len()),
    };
    let mut sketch = Sketch::new(layout.channels);
    sketch.observe(&tensor.data, layout)?;
    Ok(Row { site: name.to_owned(), role: Role::Other, sketch })
}

fn model(args: &Stats, source: Option<&Path>) -> Result<Vec<Row>> {
    let model = ModelArgs {
        model: source.map(Path::to_owned),
        sample: args.sample.clone(),
        threads: args.threads,
        ..ModelArgs::default()
    };
    let session = open::session(&model, args.calibration.clone(), None)?;
    open::calibrate(&session)?;
    let sites = session.model().graph.sites();
    Ok(sites
        .iter()
        .enumerate()
        .filter_map(|(i, s)| {
            let sketch = session.sketch(i)?;
            Some(Row { site: s.id.to_string(), role: s.role, sketch: sketch.as_ref().clone() })
        })
        .collect())
}

fn json_row(row: &Row) -> Value {
    let d = diagnose(&row.sketch, row.role);
    let s = &row.sketch;
    json!({
        "site": row.site,
        "role": row.role.to_string(),
        "class": d.class.to_string(),
        "evidence": d.evidence,
        "sentence": d.sentence,
        "min": s.min(),
        "max": s.max(),
        "mean": s.mean(),
        "std": s.std(),
        "zeros": s.zeros(),
        "nan": s.nan(),
        "inf": s.infinite(),
        "count": s.count(),
    })
}

fn print_table(rows: &[Row], histogram: bool) -> Result<()> {
    let mut columns = vec![
        ("site", Align::Left),
        ("role", Align::Left),
        ("class", Align::Left),
        ("min", Align::Right),
        ("max", Align::Right),
        ("mean", Align::Right),
        ("std", Align::Right),
        ("count", Align::Right),
    ];
    if histogram {
        columns.push(("distribution (log counts)", Align::Left));
    }
    let mut table = Table::new(&columns);
    for row in rows {
        let s = &row.sketch;
        let mut cells = vec![
            row.site.clone(),
            row.role.to_string(),
            diagnose(s, row.role).class.to_string(),
            format!("{:.4}", s.min()),
            format!("{:.4}", s.max()),
            format!("{:.4}", s.mean()),
            format!("{:.4}", s.std()),
            s.count().to_string(),
        ];
        if histogram {
            cells.push(bars(s, 40));
        }
        table.row(cells);
    }
    table.print()?;
    Ok(())
}
