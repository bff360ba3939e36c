//! Explanations of the bundled model: sites that are spoiled on purpose are found, and the fault has its name.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bitloupe_quant::exec::Cancel;
use bitloupe_quant::method::MethodBits;
use bitloupe_quant::models::ModelFiles;
use bitloupe_quant::plan::{Plan, Rewrite, SitePlan};
use bitloupe_quant::quantizer::{Family, Params, RangeSearch, Scheme};
use bitloupe_quant::session::explain::{FAULT_DB, Fault, Remedy, SiteExplanation};
use bitloupe_quant::session::messages::{Event, Request};
use bitloupe_quant::session::worker;
use bitloupe_quant::session::{FittedPlan, Options, Session, SessionError, SweepOptions};
use bitloupe_quant::terms::{Bits, SiteId};

const NORMALISED: &str = "backbone.layers.2.blocks.0.attn.qkv:input";
const RELU: &str = "backbone.layers.0.res_gate.2:input";
const QUERY: &str = "backbone.layers.0.fusion.image_lang_att.qk:lhs";
const KEY: &str = "backbone.layers.0.fusion.image_lang_att.qk:rhs";
const NORM: &str = "backbone.layers.1.blocks.0.norm1";
const BEHIND_NORM: &str = "backbone.layers.1.blocks.0.attn.qkv:input";
const WEIGHT_BEHIND_NORM: &str = "backbone.layers.1.blocks.0.attn.qkv:weight";

fn open() -> Session {
    let sample = bitloupe_samples::bundled()[0];
    let model = ModelFiles::Embedded {
        name: sample.name,
        label: sample.label,
        files: sample.files,
        replace: Vec::new(),
    };
    let mut session = Session::open(&Options { threads: Some(2), ..Options::new(model) }).unwrap();
    session.limit_calibration(4);
    session.limit_samples(4);
    session
}

fn id(site: &str) -> SiteId {
    site.parse().unwrap()
}

/// A calibrated session and a plan with nothing wrong: 8 bits everywhere.
fn sound() -> (Session, Plan) {
    let session = open();
    session.calibrate(&Cancel::default(), |_, _| {}).unwrap();
    let plan = session.method_plan("percentile", &MethodBits::new(Bits::EIGHT, Bits::EIGHT)).unwrap();
    (session, plan)
}

/// The plan after `spoil` did something to its fitted form.
fn spoiled(session: &Session, plan: &Plan, spoil: impl FnOnce(&mut Plan)) -> FittedPlan {
    let mut plan = session.fit_plan(plan).unwrap().plan.as_ref().clone();
    spoil(&mut plan);
    session.fit_plan(&plan).unwrap()
}

fn params(plan: &Plan, site: &str) -> Params {
    plan.site(&id(site)).unwrap().params().unwrap().clone()
}

fn words(explanation: &SiteExplanation) -> Vec<&'static str> {
    explanation.faults.iter().map(|named| named.fault.word()).collect()
}

/// That the first fault of a spoiled site is `word`, and that the sound plan's site has none of it.
fn assert_found(
    session: &Session,
    sound: &Plan,
    bad: &FittedPlan,
    site: &str,
    word: &str,
) -> SiteExplanation {
    let before = session.explain_site(&id(site), &session.fit_plan(sound).unwrap()).unwrap();
    assert!(!words(&before).contains(&word), "{site} of the sound plan: {:?}", before.sentences);
    let found = session.explain_site(&id(site), bad).unwrap();
    assert_eq!(words(&found).first(), Some(&word), "{site}: {:?}", found.sentences);
    assert!(found.faults[0].cost_db >= FAULT_DB);
    assert_eq!(found.sentences[0], found.faults[0].sentence);
    // The first remedy mends it: the site then has no such fault, and the dB that were promised.
    let remedy = &found.remedies[0];
    assert_eq!(remedy.remedy, found.faults[0].remedy);
    let mended = session.fit_plan(&session.remedied(bad, &id(site), &remedy.remedy).unwrap()).unwrap();
    let after = session.explain_site(&id(site), &mended).unwrap();
    assert!(!words(&after).contains(&word), "{site} mended: {:?}", after.sentences);
    let (promised, kept) = (remedy.sqnr_db.unwrap(), after.present.unwrap().sqnr_db);
    assert!((promised - kept).abs() < 1.0, "{site}: {promised} dB promised, {kept} dB kept");
    found
}

#[test]
fn planted_faults_of_quantizers_are_named() {
    let (session, plan) = sound();

    let bad = spoiled(&session, &plan, |plan| {
        let scheme = params(plan, NORMALISED).scheme;
        plan.set(&id(NORMALISED), Some(SitePlan::unfitted(scheme, Bits::new(2).unwrap())));
    });
    assert_found(&session, &plan, &bad, NORMALISED, "too-few-bits");

    for factor in [1.0 / 8.0, 16.0] {
        let bad = spoiled(&session, &plan, |plan| {
            let mut params = params(plan, NORMALISED);
            params.scale[0] *= factor;
            plan.set(&id(NORMALISED), Some(SitePlan::fitted(params)));
        });
        let found = assert_found(&session, &plan, &bad, NORMALISED, "wrong-range");
        let says = if factor < 1.0 { "are clipped" } else { "levels are in use" };
        assert!(found.sentences[0].contains(says), "{:?}", found.sentences);
    }

    let log2 = Scheme::new(Family::Log2, RangeSearch::MinMax);
    let bad = spoiled(&session, &plan, |plan| {
        plan.set(&id(RELU), Some(SitePlan::unfitted(log2.clone(), Bits::EIGHT)));
    });
    assert_found(&session, &plan, &bad, RELU, "wrong-quantizer");
    // One that has no level for half of the values cannot be fitted, but it can be in a file.
    let bad = spoiled(&session, &plan, |plan| {
        let params = Params {
            scheme: log2.clone(),
            bits: Bits::EIGHT,
            scale: vec![4.0],
            zero_point: Vec::new(),
            extra: BTreeMap::new(),
        };
        plan.set(&id(NORMALISED), Some(SitePlan::fitted(params)));
    });
    let found = assert_found(&session, &plan, &bad, NORMALISED, "wrong-quantizer");
    assert!(found.sentences[0].contains("no level below zero"), "{:?}", found.sentences);
}

#[test]
fn planted_faults_of_pairs_and_rewrites_are_named() {
    let (session, plan) = sound();

    let bad = spoiled(&session, &plan, |plan| {
        let (query, key) = (params(plan, QUERY), params(plan, KEY));
        plan.set(&id(QUERY), Some(SitePlan::fitted(key)));
        plan.set(&id(KEY), Some(SitePlan::fitted(query)));
    });
    for (site, other) in [(QUERY, KEY), (KEY, QUERY)] {
        let found = assert_found(&session, &plan, &bad, site, "swapped-scales");
        assert!(matches!(&found.faults[0].fault, Fault::SwappedScales { with, .. } if *with == id(other)));
        assert_eq!(words(&found), ["swapped-scales"], "{:?}", found.sentences);
    }

    // Smoothing as it is fitted, and with an absurd factor for one channel.
    let mut smooth = plan.clone();
    let open = |plan: &mut Plan| {
        plan.rewrites.push(Rewrite {
            rewrite: "smoothing".into(),
            layer: NORM.into(),
            vectors: BTreeMap::new(),
        });
    };
    open(&mut smooth);
    session.prepare_explanations(&session.fit_plan(&plan).unwrap(), &Cancel::default(), |_, _| {}).unwrap();
    for factor in [1e-3, 1e3] {
        let mut absurd = session.fit_plan(&smooth).unwrap().plan.as_ref().clone();
        absurd.rewrites[0].vectors.get_mut("scale").unwrap()[3] *= factor;
        for site in [BEHIND_NORM, WEIGHT_BEHIND_NORM] {
            let scheme = params(&absurd, site).scheme;
            absurd.set(&id(site), Some(SitePlan::unfitted(scheme, Bits::EIGHT)));
        }
        let bad = session.fit_plan(&absurd).unwrap();
        // What is small in the rewritten values does not show in the weight, and the other way round.
        let site = if factor < 1.0 { BEHIND_NORM } else { WEIGHT_BEHIND_NORM };
        let found = assert_found(&session, &smooth, &bad, site, "bad-rewrite");
        assert!(found.sentences[0].contains("smoothing"), "{:?}", found.sentences);
        if site == BEHIND_NORM {
            assert!(matches!(
                found.remedies[0].remedy,
                Remedy::RewritesAnew { .. } | Remedy::WithoutRewrites { .. }
            ));
        }
    }
}

/// That the site which costs most alone is one of `expected`; its first fault in a word.
fn ranked_first(session: &Session, bad: &FittedPlan, expected: &[&str]) -> &'static str {
    let options = SweepOptions { samples: 2, ..SweepOptions::default() };
    let found = session.sweep(bad, &options, &Cancel::default(), |_, _, _| {}).unwrap();
    let first = &found.findings[0];
    let effect = first.only.unwrap();
    assert!(expected.contains(&first.unit.as_str()), "{} costs {effect:?}", first.unit);
    assert!(effect.delta < -0.003, "{} costs {effect:?}", first.unit);
    let second = found.findings.iter().find(|other| !expected.contains(&other.unit.as_str())).unwrap();
    assert!(second.only.unwrap().delta > effect.delta, "{second:?}");
    words(&session.explain_site(&id(&first.unit), bad).unwrap())[0]
}

#[test]
fn a_spoiled_site_is_the_one_that_costs_most_and_its_fault_is_named() {
    const EARLY_NORM: &str = "backbone.layers.0.blocks.0.norm2";
    const BEHIND: [&str; 2] =
        ["backbone.layers.0.blocks.0.mlp.fc1:input", "backbone.layers.0.blocks.0.mlp.fc1:weight"];
    const CONVOLVED: &str = "classifier.conv1_4:input";
    const LATE_KEY: &str = "backbone.layers.2.fusion.image_lang_att.qk:rhs";
    let (session, plan) = sound();
    let bad = spoiled(&session, &plan, |plan| {
        let scheme = params(plan, CONVOLVED).scheme;
        plan.set(&id(CONVOLVED), Some(SitePlan::unfitted(scheme, Bits::new(2).unwrap())));
    });
    assert_eq!(ranked_first(&session, &bad, &[CONVOLVED]), "too-few-bits");

    let bad = spoiled(&session, &plan, |plan| {
        let mut params = params(plan, CONVOLVED);
        params.scale[0] *= 64.0;
        plan.set(&id(CONVOLVED), Some(SitePlan::fitted(params)));
    });
    assert_eq!(ranked_first(&session, &bad, &[CONVOLVED]), "wrong-range");

    let bad = spoiled(&session, &plan, |plan| {
        let scheme = Scheme::new(Family::Log2, RangeSearch::MinMax);
        let (scale, zero_point, extra) = (vec![4.0], Vec::new(), BTreeMap::new());
        let params = Params { scheme, bits: Bits::EIGHT, scale, zero_point, extra };
        plan.set(&id(LATE_KEY), Some(SitePlan::fitted(params)));
    });
    assert_eq!(ranked_first(&session, &bad, &[LATE_KEY]), "wrong-quantizer");

    let bad = spoiled(&session, &plan, |plan| {
        let (query, key) = (params(plan, QUERY), params(plan, KEY));
        plan.set(&id(QUERY), Some(SitePlan::fitted(key)));
        plan.set(&id(KEY), Some(SitePlan::fitted(query)));
    });
    assert_eq!(ranked_first(&session, &bad, &[QUERY, KEY]), "swapped-scales");

    let mut smooth = plan.clone();
    let (rewrite, layer) = ("smoothing".into(), EARLY_NORM.into());
    smooth.rewrites.push(Rewrite { rewrite, layer, vectors: BTreeMap::new() });
    let mut absurd = session.fit_plan(&smooth).unwrap().plan.as_ref().clone();
    absurd.rewrites[0].vectors.get_mut("scale").unwrap()[3] *= 1e5;
    for site in BEHIND {
        let scheme = params(&absurd, site).scheme;
        absurd.set(&id(site), Some(SitePlan::unfitted(scheme, Bits::EIGHT)));
    }
    let bad = session.fit_plan(&absurd).unwrap();
    session.prepare_explanations(&bad, &Cancel::default(), |_, _| {}).unwrap();
    assert_eq!(ranked_first(&session, &bad, &BEHIND), "bad-rewrite");
}

#[test]
fn what_cannot_be_explained_is_an_error_that_says_so() {
    let session = open();
    let plan = session.fit_plan(&session.float_plan()).unwrap();
    let unknown = session.explain_site(&id("backbone.layers.2.blocks.0.attn.qkw:input"), &plan);
    match unknown {
        Err(SessionError::NoSite { nearest, .. }) => {
            assert!(nearest.contains(&NORMALISED.to_owned()), "{nearest:?}");
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(session.explain_site(&id(NORMALISED), &plan), Err(SessionError::NotCalibrated { .. })));
    let remedy = Remedy::Exchange { with: id("nowhere:lhs") };
    assert!(matches!(session.remedied(&plan, &id(QUERY), &remedy), Err(SessionError::NoSite { .. })));
    let remedy = Remedy::Rewrite { rewrite: "magic".into(), layer: NORM.into() };
    assert!(matches!(session.remedied(&plan, &id(QUERY), &remedy), Err(SessionError::UnknownRewrite { .. })));
}

#[test]
fn a_remedy_is_confirmed_by_a_run() {
    let (session, plan) = sound();
    let bad = spoiled(&session, &plan, |plan| {
        let mut params = params(plan, NORMALISED);
        params.scale[0] /= 16.0;
        plan.set(&id(NORMALISED), Some(SitePlan::fitted(params)));
    });
    let found = session.explain_site(&id(NORMALISED), &bad).unwrap();
    let remedy = &found.remedies[0].remedy;
    let mut steps = Vec::new();
    let try_it = |remedy: &Remedy, samples, cancel: &Cancel, steps: &mut Vec<(usize, usize)>| {
        let progress = |done, total| steps.push((done, total));
        session.confirm(&id(NORMALISED), &bad, remedy, samples, cancel, progress).map_err(Box::new)
    };
    let confirmed = try_it(remedy, 2, &Cancel::default(), &mut steps).unwrap();
    assert_eq!((confirmed.samples, steps.first(), steps.last()), (2, Some(&(0, 2)), Some(&(2, 2))));
    let [before, after] = confirmed.alone;
    assert!(after.output_loss < 0.2 * before.output_loss, "{confirmed:?}");
    assert!(confirmed.after.output_loss < confirmed.before.output_loss, "{confirmed:?}");
    assert!(confirmed.after.agreement >= confirmed.before.agreement, "{confirmed:?}");
    assert!(confirmed.full_precision.is_some() && confirmed.before.truth.is_some());
    assert!(confirmed.sentence.ends_with(": confirmed."), "{}", confirmed.sentence);
    // The site on these samples has about what the sketch of others promised, before and after, and figures have digits.
    for (predicted, measured) in confirmed.predicted_db.into_iter().zip(confirmed.measured_db) {
        let (predicted, measured) = (predicted.unwrap(), measured.unwrap());
        assert!((predicted - measured).abs() < 2.0, "{predicted} {measured}");
    }
    let digits = format!("mIoU {:.4}", confirmed.before.truth.unwrap());
    assert!(confirmed.sentence.contains(&digits), "{}", confirmed.sentence);
    assert!(confirmed.sentence.contains("(predicted "), "{}", confirmed.sentence);
    // The figures are those of an evaluation of the first samples, whatever ran beside.
    assert_eq!(try_it(remedy, 2, &Cancel::default(), &mut steps).unwrap(), confirmed);

    let stopped = Cancel::default();
    stopped.cancel();
    assert!(try_it(remedy, 2, &stopped, &mut steps).unwrap_err().is_cancelled());
    let error = try_it(&Remedy::Recalibrate, 2, &Cancel::default(), &mut steps).unwrap_err();
    assert!(matches!(*error, SessionError::NoChange { .. }), "{error}");
}

#[test]
fn without_samples_there_is_nothing_to_confirm_on() {
    let mut session = open();
    session.limit_samples(0);
    let plan = session.fit_plan(&session.float_plan()).unwrap();
    let remedy = Remedy::Exchange { with: id(KEY) };
    let error = session.confirm(&id(QUERY), &plan, &remedy, 2, &Cancel::default(), |_, _| {}).unwrap_err();
    assert!(matches!(error, SessionError::NoSamples), "{error}");
    let whole = session.explain(&plan, None, 2, &Cancel::default(), |_, _| {}).unwrap();
    assert_eq!(whole.sites.len(), 0);
    assert!(whole.sentences[0].contains("Nothing is quantized"), "{:?}", whole.sentences);
    assert_eq!(whole.swapped_text_left_out, Some("nothing is quantized"));
}

#[test]
fn a_whole_model_is_explained_with_its_sentences_swapped() {
    let (session, plan) = sound();
    let fitted = session.fit_plan(&plan).unwrap();
    let (cancel, nothing) = (Cancel::default(), |_: usize, _: usize| {});
    let whole = session.explain(&fitted, None, 2, &cancel, nothing).unwrap();
    // The two layers behind the last stage have no effect, and nothing to explain.
    let unused = |site: &&SiteExplanation| site.site.layer.starts_with("backbone.layers.3.res_gate");
    assert_eq!(whole.sites.len(), fitted.params.iter().flatten().count() - 4);
    assert!(!whole.sites.iter().any(|site| unused(&site)));
    let gate = session.explain_site(&id("backbone.layers.3.res_gate.0:input"), &fitted).unwrap();
    assert!(gate.sentences[0].starts_with("Not used"), "{:?}", gate.sentences);
    let sqnr: Vec<f64> = whole.sites.iter().map(|site| site.present.as_ref().unwrap().sqnr_db).collect();
    assert!(sqnr.is_sorted(), "{sqnr:?}");
    let swapped = whole.swapped_text.unwrap();
    assert!(swapped.text_matters && swapped.samples == 2, "{swapped:?}");
    assert!((swapped.quantized - swapped.full_precision).abs() < 0.2, "{swapped:?}");
    for group in &whole.groups {
        assert!(group.gain_db[0] >= 3.0 && !group.sites.is_empty(), "{group:?}");
    }

    // A ranking puts its sites first; those it does not name follow.
    let place = |site: &str| session.model().graph.site_index(&id(site)).unwrap();
    let ranking = [(place(KEY), -0.01), (place(RELU), -0.2)];
    let ranked = session.explain(&fitted, Some(&ranking), 1, &cancel, nothing).unwrap();
    let first: Vec<String> = ranked.sites.iter().take(2).map(|site| site.site.to_string()).collect();
    assert_eq!((first, ranked.ranked_by), (vec![RELU.to_owned(), KEY.to_owned()], "ranking"));

    // What the picture takes from the sentence is rounded to nothing.
    let deaf = spoiled(&session, &plan, |plan| {
        for stage in 0..4 {
            for part in ["f_key.0:input", "f_value.0:input"] {
                let site = format!("backbone.layers.{stage}.fusion.image_lang_att.{part}");
                let mut params = params(plan, &site);
                params.scale[0] = 1e6;
                plan.set(&id(&site), Some(SitePlan::fitted(params)));
            }
        }
    });
    let whole = session.explain(&deaf, None, 2, &cancel, nothing).unwrap();
    let swapped = whole.swapped_text.unwrap();
    assert!(!swapped.text_matters && swapped.quantized > 0.99, "{swapped:?}");
    assert!(whole.sentences.iter().any(|sentence| sentence.contains("masks ignore the sentence")));
    assert_eq!(whole.faults[0].fault, "wrong-range");
    assert_eq!(whole.faults[0].sites.len(), 8, "{:?}", whole.faults);

    let stopped = Cancel::default();
    stopped.cancel();
    assert!(session.explain(&fitted, None, 2, &stopped, nothing).unwrap_err().is_cancelled());
    assert!(session.prepare_explanations(&fitted, &stopped, nothing).unwrap_err().is_cancelled());
    assert!(!session.is_prepared(&fitted));
}

#[test]
fn sentences_are_swapped_only_where_they_are_read() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/deit_dist_tiny_hf");
    let session = Session::open(&Options::new(ModelFiles::Path(folder))).unwrap();
    // Weights need no calibration.
    let plan = session.method_plan("minmax", &MethodBits::new(Bits::EIGHT, Bits::FLOAT)).unwrap();
    let fitted = session.fit_plan(&plan).unwrap();
    let whole = session.explain(&fitted, None, 2, &Cancel::default(), |_, _| {}).unwrap();
    assert!(!whole.sites.is_empty());
    assert_eq!(whole.swapped_text_left_out, Some("the model reads no text"));
}

#[test]
fn the_site_that_is_looked_at_is_explained_at_once_and_again_with_held_out_samples() {
    let dir = support::folder();
    let options = Options {
        calibration: Some(support::sample_set(dir.path(), "c", &[0, 1])),
        samples: Some(support::sample_set(dir.path(), "s", &[2, 3])),
        threads: Some(2),
        ..Options::new(ModelFiles::Path(support::fixture()))
    };
    let session = Session::open(&options).unwrap();
    let site = id("backbone.layers.0.blocks.0.attn.qkv:input");
    let plan = session.method_plan("minmax", &MethodBits::new(Bits::EIGHT, Bits::new(4).unwrap())).unwrap();
    let handle = worker::start(options, None);
    let ask = |generation| {
        let plan = std::sync::Arc::new(plan.clone());
        handle.requests.send(Request::Site { generation, site: site.clone(), plan }).unwrap();
    };
    handle.requests.send(Request::Calibrate).unwrap();
    // Nothing to explain before the calibration, and nothing that fails.
    ask(1);
    let (start, mut seen) = (Instant::now(), Vec::new());
    while seen.len() < 2 && start.elapsed() < Duration::from_mins(2) {
        match handle.events.recv_timeout(Duration::from_secs(30)).unwrap() {
            Event::Calibrated { complete: true, .. } => ask(2),
            Event::Explained { generation, explanation } => {
                assert_eq!((generation, &explanation.site), (2, &site));
                assert!(explanation.present.is_some());
                seen.push(explanation.held_out.is_some());
            }
            Event::Failed { message, .. } => panic!("{message}"),
            _ => {}
        }
    }
    assert_eq!(seen, [false, true]);
    // What was gathered is there for the next look.
    ask(3);
    let next = loop {
        if let Event::Explained { explanation, generation: 3 } =
            handle.events.recv_timeout(Duration::from_secs(30)).unwrap()
        {
            break explanation;
        }
    };
    assert!(next.held_out.is_some() && next.rewrites.iter().any(|r| r.rewrite == "smoothing"));
    handle.requests.send(Request::Quit).unwrap();
}
