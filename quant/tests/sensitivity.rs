//! Sweeps: what each part costs, whoever runs it and wherever it was interrupted.

use std::path::{Path, PathBuf};

use bitloupe_quant::eval::sensitivity::{By, Finding, Mode};
use bitloupe_quant::exec::Cancel;
use bitloupe_quant::method::MethodBits;
use bitloupe_quant::models::ModelFiles;
use bitloupe_quant::plan::{Plan, SitePlan};
use bitloupe_quant::session::{FittedPlan, On, Options, Session, Sweep, SweepOptions};
use bitloupe_quant::terms::Bits;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/lavt_one_tiny")
}

/// A calibrated session over copies of the fixture's pictures.
fn session(dir: &Path, threads: usize, cache_bytes: usize) -> Session {
    let mut manifest = String::new();
    for i in 0..3 {
        let file = format!("{i}.png");
        std::fs::copy(folder().join(format!("image{}.png", i % 2)), dir.join(&file)).unwrap();
        let text = ["the dog on the left", "the smaller dog", "a cat"][i];
        manifest
            .push_str(&format!("{{\"image\":\"{file}\",\"text\":\"{text}\",\"mask\":[[5,5,40,5,40,40]]}}\n"));
    }
    std::fs::write(dir.join("samples.jsonl"), manifest).unwrap();
    let set = Some(dir.to_owned());
    let options = Options {
        calibration: set.clone(),
        samples: set,
        threads: Some(threads),
        cache_bytes,
        ..Options::new(ModelFiles::Path(folder()))
    };
    let session = Session::open(&options).unwrap();
    session.calibrate(&Cancel::default(), |_, _| {}).unwrap();
    session
}

fn fitted(session: &Session, method: &str, bits: u8) -> FittedPlan {
    let bits = Bits::new(bits).unwrap();
    session.fit_plan(&session.method_plan(method, &MethodBits::new(bits, bits)).unwrap()).unwrap()
}

fn sweep(session: &Session, fitted: &FittedPlan, options: &SweepOptions) -> Sweep {
    session.sweep(fitted, options, &Cancel::default(), |_, _, _| {}).unwrap()
}

/// Sites that a result depends on.
fn used(session: &Session) -> usize {
    let graph = &session.model().graph;
    graph.sites().iter().filter(|site| graph.is_used(site.node)).count()
}

fn both(by: By) -> SweepOptions {
    SweepOptions { by, modes: Mode::ALL.to_vec(), ..SweepOptions::default() }
}

#[test]
fn findings_do_not_depend_on_threads_or_memory() {
    let dir = tempfile::tempdir().unwrap();
    let of = |threads: usize, cap: usize| {
        let session = session(dir.path(), threads, cap);
        sweep(&session, &fitted(&session, "minmax", 4), &both(By::Layer)).findings
    };
    let one = of(1, usize::MAX / 8);
    assert_eq!(one, of(3, usize::MAX / 8));
    assert_eq!(one, of(2, 300_000), "most values are made again");
    assert_eq!(one, of(2, 0));
    assert!(one.iter().all(|f| f.isolated_sqnr_db.is_some() && f.cumulative_sqnr_db.is_some()));
}

#[test]
fn an_interrupted_sweep_goes_on_to_the_same_findings() {
    let dir = tempfile::tempdir().unwrap();
    // Each as in a program of its own, which knows nothing but the journal.
    let open = || session(dir.path(), 2, 64 << 20);
    let of_plan = |session: &Session| fitted(session, "percentile", 4);
    let first = open();
    let whole = sweep(&first, &of_plan(&first), &both(By::Role));
    assert!(whole.complete && whole.samples == 3);
    let path = dir.path().join("sweep.jsonl");
    let options = SweepOptions { journal: Some(path.clone()), ..both(By::Role) };
    for stop_after in [1, 7, 20] {
        let (session, cancel) = (open(), Cancel::default());
        let plan = of_plan(&session);
        let part = session
            .sweep(&plan, &options, &cancel, |done, _, _| {
                if done >= stop_after {
                    cancel.cancel();
                }
            })
            .unwrap();
        assert!(!part.complete && part.runs >= stop_after && part.runs < whole.runs, "{}", part.runs);
    }
    // As if it had been killed while it wrote a line.
    let text = std::fs::read(&path).unwrap();
    std::fs::write(&path, &text[..text.len() - 9]).unwrap();
    let session = open();
    let plan = of_plan(&session);
    let resumed = sweep(&session, &plan, &options);
    assert!(resumed.complete && resumed.reused == 0);
    assert_eq!(resumed.findings, whole.findings);
    // And a third time nothing is left to run.
    let mut calls = 0;
    let again = session.sweep(&plan, &options, &Cancel::default(), |done, total, _| {
        calls += 1;
        assert_eq!(done, total);
    });
    assert_eq!(again.unwrap().findings, whole.findings);
    assert_eq!(calls, 1);
    // Another plan has other outcomes.
    let other = session.sweep(&fitted(&session, "minmax", 3), &options, &Cancel::default(), |_, _, _| {});
    assert!(other.unwrap_err().to_string().contains("another plan"));
}

#[test]
fn after_an_edit_only_the_edited_part_is_measured_again() {
    let dir = tempfile::tempdir().unwrap();
    let (session, other) = (session(dir.path(), 2, 64 << 20), session(dir.path(), 2, 64 << 20));
    let bits = MethodBits::new(Bits::new(4).unwrap(), Bits::new(4).unwrap());
    let plan = session.method_plan("minmax", &bits).unwrap();
    let (ids, parts) = (session.site_ids(), used(&session));
    let mut edited = plan.clone();
    let Some(SitePlan::Quantized { scheme, .. }) = plan.site(&ids[40]) else { panic!("it is quantized") };
    edited.set(&ids[40], Some(SitePlan::unfitted(scheme.clone(), Bits::new(3).unwrap())));
    let options = SweepOptions { samples: 2, ..SweepOptions::default() };
    let sweep = |session: &Session, plan: &Plan, options: &SweepOptions| {
        let fitted = session.fit_plan(plan).unwrap();
        let mut begun = None;
        let found = session.sweep(&fitted, options, &Cancel::default(), |done, total, _| {
            begun.get_or_insert(total - done);
        });
        (found.unwrap(), begun.unwrap())
    };
    let (first, ran) = sweep(&session, &plan, &options);
    assert_eq!((ran, first.reused), (parts * 2, 0));
    let (second, ran) = sweep(&session, &edited, &options);
    assert_eq!((ran, second.reused), (2, (parts - 1) * 2), "one site on two samples");
    let (fresh, _) = sweep(&other, &edited, &options);
    assert_eq!(second.findings, fresh.findings, "what was taken over is what a run gives");
    assert_ne!(first.findings, second.findings);
    // Back again: one run for each sample is needed to compare with.
    let (back, ran) = sweep(&session, &plan, &options);
    assert_eq!((ran, &back.findings), (2, &first.findings));
    // Another mode, other samples and other rewrites are other outcomes.
    let one = SweepOptions { samples: 1, ..options.clone() };
    let all_but = SweepOptions { modes: vec![Mode::AllBut], ..one.clone() };
    assert_eq!(sweep(&session, &plan, &all_but).0.reused, 0);
    assert_eq!(sweep(&session, &plan, &SweepOptions { on: On::Calibration, ..one.clone() }).0.reused, 0);
    let rewritten = session.method_plan("repq-vit", &bits).unwrap();
    assert_eq!(sweep(&session, &rewritten, &one).0.reused, 0);
    // What is taken over is in the journal too.
    let journal = Some(dir.path().join("sweep.jsonl"));
    let kept = SweepOptions { journal, ..options };
    let (_, ran) = sweep(&session, &edited, &kept);
    assert_eq!(ran, 2);
    let (resumed, ran) = sweep(&other, &edited, &kept);
    assert_eq!((ran, resumed.findings), (0, second.findings));
}

#[test]
fn a_finding_is_what_an_evaluation_says() {
    let dir = tempfile::tempdir().unwrap();
    let session = session(dir.path(), 2, 64 << 20);
    let plan = fitted(&session, "repq-vit", 3);
    assert!(!plan.plan.rewrites.is_empty());
    let found = sweep(&session, &plan, &both(By::Site));
    let evaluate = |plan: &FittedPlan| {
        let result = session.evaluate(plan, &Cancel::default(), |_, _, _| {}).unwrap();
        let figure = |scores: Option<bitloupe_quant::eval::metrics::Scores>| scores.unwrap().standing();
        (figure(result.full_precision), figure(result.quantized), figure(result.agreement))
    };
    let (full, quantized, _) = evaluate(&plan);
    for finding in found.findings.iter().step_by(9) {
        let keep = |only: bool| {
            let mut plan = plan.plan.as_ref().clone();
            for (id, _) in plan.clone().sites() {
                if (id.to_string() == finding.unit) != only {
                    plan.set(&id, Some(SitePlan::Float));
                }
            }
            evaluate(&session.fit_plan(&plan).unwrap())
        };
        let (only, without) = (finding.only.unwrap(), finding.all_but.unwrap());
        let (_, metric, agreement) = keep(true);
        assert!((only.metric - metric).abs() < 1e-12, "{}: {only:?}, {metric}", finding.unit);
        assert!((only.delta - (metric - full)).abs() < 1e-12 && (only.agreement - agreement).abs() < 1e-12);
        let (_, metric, _) = keep(false);
        assert!((without.metric - metric).abs() < 1e-12, "{}: {without:?}, {metric}", finding.unit);
        assert!((without.delta - (metric - quantized)).abs() < 1e-12);
    }
}

#[test]
fn an_evaluation_after_an_edit_is_that_of_the_plan() {
    let dir = tempfile::tempdir().unwrap();
    // Room for everything, for some, for the inputs alone, for nothing.
    for cap in [256 << 20, 2_000_000, 200_000, 0] {
        let session = session(dir.path(), 2, cap);
        let mut plan =
            session.method_plan("repq-vit", &MethodBits::new(Bits::new(4).unwrap(), Bits::FLOAT)).unwrap();
        let ids = session.site_ids();
        for step in 0..4 {
            match step {
                1 => drop(plan.set(&ids[ids.len() - 2], Some(SitePlan::Float))),
                2 => plan.rewrites.clear(),
                3 => ids.iter().for_each(|id| drop(plan.set(id, Some(SitePlan::Float)))),
                _ => {}
            }
            let fitted = session.fit_plan(&plan).unwrap();
            let edited = session.evaluate_edited(&fitted, &Cancel::default(), |_, _, _| {}).unwrap();
            let whole = session.evaluate(&fitted, &Cancel::default(), |_, _, _| {}).unwrap();
            assert_eq!(edited.per_sample, whole.per_sample, "step {step} with {cap}");
            assert_eq!(edited.agreement, whole.agreement);
        }
        let (used, of) = session.cache_use();
        assert!(used <= of && of == cap && (used > 0 || cap < 1_000_000), "{used} of {cap}");
    }
}

#[test]
fn parts_are_sites_layers_roles_blocks_and_kinds() {
    let dir = tempfile::tempdir().unwrap();
    let session = session(dir.path(), 2, 64 << 20);
    let plan = fitted(&session, "minmax", 4);
    let names = |by: By| -> Vec<Finding> {
        let options = SweepOptions { by, samples: 1, ..SweepOptions::default() };
        sweep(&session, &plan, &options).findings
    };
    let graph = &session.model().graph;
    // The gate behind the last stage has no effect, and is no part.
    assert_eq!(names(By::Layer).len(), graph.layers().len() - 2);
    let kinds = names(By::Kind);
    assert_eq!(kinds.len(), 2);
    assert!(kinds.iter().any(|f| f.unit == "weights") && kinds.iter().all(|f| f.isolated_sqnr_db.is_none()));
    assert!(names(By::Role).iter().any(|f| f.unit == "post-softmax"));
    let blocks = names(By::Block);
    assert!(blocks.iter().any(|f| f.unit.ends_with("blocks.0")), "{:?}", blocks[0]);
    let members: usize = blocks.iter().map(|f| f.sites.len()).sum();
    assert_eq!(members, used(&session), "every site is in one block");
    // On the calibration set too, and sites that the plan leaves in full precision are no parts.
    let weights = MethodBits::new(Bits::new(4).unwrap(), Bits::FLOAT);
    let plan = session.fit_plan(&session.method_plan("minmax", &weights).unwrap()).unwrap();
    let options = SweepOptions { by: By::Site, samples: 1, on: On::Calibration, ..SweepOptions::default() };
    assert!(sweep(&session, &plan, &options).findings.iter().all(|f| f.unit.ends_with(":weight")));
}
