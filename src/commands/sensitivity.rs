//! `bitloupe sensitivity`: what each part of the model costs when it is quantized.

use std::path::{Path, PathBuf};

use bitloupe_quant::eval::sensitivity::{Effect, Finding, Mode};
use bitloupe_quant::exec::Cancel;
use bitloupe_quant::session::{FittedPlan, On, Session, Sweep, SweepOptions};
use color_eyre::eyre::Result;
use serde_json::{Value, json};

use super::{Outcome, print_json};
use crate::cli::{OnSet, Sensitivity, Ways};
use crate::open;
use crate::table::{Align, Table};

/// Sweeps over the parts of a model, on one set or on both.
pub fn run(args: &Sensitivity) -> Result<Outcome> {
    let session = open::session(&args.model, args.calibration.clone(), args.samples.clone())?;
    let fitted = match &args.plan {
        Some(path) => open::fit(&session, &open::plan(&session, path)?)?,
        None => open::fit_method(&session, &args.method)?,
    };
    let sets: &[On] = match args.on {
        OnSet::Samples => &[On::Samples],
        OnSet::Calibration => &[On::Calibration],
        OnSet::Both => &[On::Samples, On::Calibration],
    };
    let sweeps = sets
        .iter()
        .map(|&on| Ok((on, sweep(args, &session, &fitted, on)?)))
        .collect::<Result<Vec<(On, Sweep)>>>()?;
    let (_, first) = &sweeps[0];
    let shown = &first.findings[..args.top.unwrap_or(usize::MAX).min(first.findings.len())];
    if args.json {
        return print(&session, args, &fitted, &sweeps, shown);
    }
    let model = session.model();
    let label = model.label.as_ref().map(|l| format!(" ({l})")).unwrap_or_default();
    let figure = session.metric().name();
    say!(
        "{}{label}, plan {}, {} samples: change of {figure} when only a part is quantized{}\n",
        model.name,
        fitted.plan.method,
        first.samples,
        if args.mode == Ways::Only { "" } else { ", and when all but the part is" }
    )?;
    table(&session, args, &sweeps, shown)?;
    Ok(Outcome::Done)
}

fn sweep(args: &Sensitivity, session: &Session, fitted: &FittedPlan, on: On) -> Result<Sweep> {
    let modes = match args.mode {
        Ways::Only => vec![Mode::Only],
        Ways::AllBut => vec![Mode::AllBut],
        Ways::Both => Mode::ALL.to_vec(),
    };
    let journal = args.journal.as_ref().map(|path| match (args.on, on) {
        (OnSet::Both, On::Calibration) => beside(path),
        _ => path.clone(),
    });
    let options = SweepOptions { by: args.by, modes, on, samples: args.limit, journal };
    let mut report = open::progress(match on {
        On::Samples => "sweeping",
        On::Calibration => "sweeping the calibration set",
    });
    Ok(session.sweep(fitted, &options, &Cancel::default(), |done, total, _| report(done, total))?)
}

/// The second journal of two.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".calibration");
    PathBuf::from(name)
}

/// The finding of a part in another sweep.
fn same<'s>(sweep: &'s Sweep, finding: &Finding) -> Option<&'s Finding> {
    sweep.findings.iter().find(|other| other.unit == finding.unit)
}

fn table(session: &Session, args: &Sensitivity, sweeps: &[(On, Sweep)], shown: &[Finding]) -> Result<()> {
    let figure = session.metric().name();
    let mut columns = vec![
        (args.by.to_string(), Align::Left),
        ("alone dB".into(), Align::Right),
        ("so far dB".into(), Align::Right),
    ];
    for (at, (on, _)) in sweeps.iter().enumerate() {
        let of = match (at, on) {
            (0, _) => "",
            (_, On::Calibration) => " calibration",
            (_, On::Samples) => " samples",
        };
        if args.mode != Ways::AllBut {
            columns.push((format!("Δ{figure}{of}"), Align::Right));
            columns.push((format!("agreement{of}"), Align::Right));
        }
        if args.mode != Ways::Only {
            columns.push((format!("Δ all but{of}"), Align::Right));
        }
    }
    let columns: Vec<(&str, Align)> = columns.iter().map(|(name, align)| (name.as_str(), *align)).collect();
    let mut table = Table::new(&columns);
    let db = |value: Option<f64>| value.map_or_else(String::new, |db| format!("{db:.1}"));
    for finding in shown {
        let mut row =
            vec![finding.unit.clone(), db(finding.isolated_sqnr_db), db(finding.cumulative_sqnr_db)];
        for (_, sweep) in sweeps {
            let of = same(sweep, finding);
            if args.mode != Ways::AllBut {
                let only = of.and_then(|f| f.only);
                row.push(only.map_or_else(String::new, |e| format!("{:+.4}", e.delta)));
                row.push(only.map_or_else(String::new, |e| format!("{:.4}", e.agreement)));
            }
            if args.mode != Ways::Only {
                row.push(of.and_then(|f| f.all_but).map_or_else(String::new, |e| format!("{:+.4}", e.delta)));
            }
        }
        table.row(row);
    }
    table.print()?;
    Ok(())
}

fn print(
    session: &Session,
    args: &Sensitivity,
    fitted: &FittedPlan,
    sweeps: &[(On, Sweep)],
    shown: &[Finding],
) -> Result<Outcome> {
    let effects = |finding: &Finding| {
        let of = |effect: Option<Effect>| effect.map_or(Value::Null, |effect| json!(effect));
        json!({"only": of(finding.only), "all_but": of(finding.all_but)})
    };
    let one = |finding: &Finding| {
        let mut entry = json!({
            "site": finding.unit,
            "isolated_sqnr_db": finding.isolated_sqnr_db,
            "cumulative_sqnr_db": finding.cumulative_sqnr_db,
            "delta_miou": finding.delta(),
            "only": effects(finding)["only"],
            "all_but": effects(finding)["all_but"],
        });
        for (on, sweep) in &sweeps[1..] {
            let key = if *on == On::Calibration { "calibration" } else { "samples" };
            entry[key] = same(sweep, finding).map_or(Value::Null, effects);
        }
        entry
    };
    print_json(&json!({
        "model": session.model().name,
        "label": session.model().label,
        "plan": fitted.plan.method,
        "by": args.by,
        "figure": session.metric().name(),
        "samples": sweeps[0].1.samples,
        "sites": shown.iter().map(one).collect::<Vec<_>>(),
    }))?;
    Ok(Outcome::Done)
}
