//! Methods and rewrites in a session: fitted, run, saved, exported, and the same again.

use std::path::{Path, PathBuf};

use bitloupe_quant::exec::Cancel;
use bitloupe_quant::graph::RewriteKind;
use bitloupe_quant::method::{MethodBits, Protocol};
use bitloupe_quant::models::ModelFiles;
use bitloupe_quant::plan::{Plan, Rewrite, SitePlan};
use bitloupe_quant::quantizer::{Family, Scheme};
use bitloupe_quant::session::{FittedPlan, Options, Parts, Session};
use bitloupe_quant::terms::{Bits, Role, Slot};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/lavt_one_tiny")
}

/// A session over copies of the fixture's pictures.
fn session(dir: &Path, weights: Option<PathBuf>) -> Session {
    let mut manifest = String::new();
    for i in 0..3 {
        let file = format!("{i}.png");
        std::fs::copy(folder().join(format!("image{}.png", i % 2)), dir.join(&file)).unwrap();
        manifest.push_str(&format!(
            "{{\"image\":\"{file}\",\"text\":\"the dog on the left\",\"mask\":[[5,5,40,5,40,40]]}}\n"
        ));
    }
    std::fs::write(dir.join("samples.jsonl"), manifest).unwrap();
    let set = Some(dir.to_owned());
    let options = Options {
        calibration: set.clone(),
        samples: set,
        threads: Some(2),
        exported_weights: weights,
        ..Options::new(ModelFiles::Path(folder()))
    };
    Session::open(&options).unwrap()
}

fn bits(n: u8) -> MethodBits {
    MethodBits::new(Bits::new(n).unwrap(), Bits::new(n).unwrap())
}

fn figures(session: &Session, fitted: &FittedPlan) -> Vec<(usize, f64)> {
    session.evaluate(fitted, &Cancel::default(), |_, _, _| {}).unwrap().per_sample
}

fn open_rewrites(session: &Session, kind: RewriteKind) -> Vec<Rewrite> {
    let graph = &session.model().graph;
    let rewrite = |id| Rewrite {
        rewrite: kind.to_string(),
        layer: graph.node(id).name.clone(),
        vectors: std::collections::BTreeMap::new(),
    };
    graph.rewritable(kind).into_iter().map(rewrite).collect()
}

#[test]
fn every_method_makes_a_plan_that_runs_and_means_the_same_from_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let session = session(dir.path(), None);
    session.calibrate(&Cancel::default(), |_, _| {}).unwrap();
    for name in Session::methods() {
        let plan = session.method_plan(name, &bits(4)).unwrap();
        let fitted = session.fit_plan(&plan).unwrap();
        let unfitted =
            fitted.plan.sites().any(|(_, s)| matches!(s, SitePlan::Quantized { params: None, .. }));
        assert!(!unfitted, "{name}");
        assert!(fitted.predicted_sqnr_db.iter().all(|(_, db)| db.is_finite()), "{name}");
        let expected = figures(&session, &fitted);
        let path = dir.path().join("plan.json");
        fitted.plan.write(&path).unwrap();
        let again = session.fit_plan(&Plan::read(&path).unwrap()).unwrap();
        assert_eq!(again.params, fitted.params, "{name}");
        assert_eq!(figures(&session, &again), expected, "{name}");
    }
}

#[test]
fn rewrites_are_found_in_the_file_with_their_numbers_and_keep_full_precision_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let session = session(dir.path(), None);
    session.calibrate(&Cancel::default(), |_, _| {}).unwrap();
    let float = session.fit_plan(&session.float_plan()).unwrap();
    let expected = figures(&session, &float);
    let mut plan = session.method_plan("minmax", &bits(8)).unwrap();
    for kind in [RewriteKind::BatchNormFolding, RewriteKind::Smoothing, RewriteKind::NormReparameterization] {
        plan.rewrites.extend(open_rewrites(&session, kind));
    }
    let fitted = session.fit_plan(&plan).unwrap();
    assert_eq!(fitted.plan.rewrites.len(), plan.rewrites.len());
    assert!(
        fitted.plan.rewrites.iter().all(|r| {
            r.rewrite == RewriteKind::BatchNormFolding.as_str() || r.vectors.contains_key("scale")
        })
    );
    // The same rewrites with nothing quantized: the masks of full precision.
    let mut rewritten = fitted.plan.as_ref().clone();
    for id in session.site_ids() {
        rewritten.set(&id, Some(SitePlan::Float));
    }
    assert_eq!(figures(&session, &session.fit_plan(&rewritten).unwrap()), expected);
}

#[test]
fn exported_weights_have_the_rewrites_in_them() {
    let dir = tempfile::tempdir().unwrap();
    let opened = session(dir.path(), None);
    opened.calibrate(&Cancel::default(), |_, _| {}).unwrap();
    let mut plan = opened.method_plan("repq-vit", &bits(6)).unwrap();
    plan.rewrites.extend(open_rewrites(&opened, RewriteKind::BatchNormFolding));
    let fitted = opened.fit_plan(&plan).unwrap();
    let expected = figures(&opened, &fitted);
    let out = dir.path().join("out");
    opened.export(&fitted, None, &out, Parts::ALL).unwrap();
    let mut plan = Plan::read(&out.join("plan.json")).unwrap();
    let exported = session(dir.path(), Some(out.join("weights.safetensors")));
    for id in exported.site_ids().into_iter().filter(|id| id.slot == Slot::Weight) {
        plan.set(&id, Some(SitePlan::Float));
    }
    let again = exported.fit_plan(&plan).unwrap();
    assert_eq!(figures(&exported, &again), expected);
}

#[test]
fn fits_on_samples_follow_the_protocol() {
    let dir = tempfile::tempdir().unwrap();
    let session = session(dir.path(), None);
    session.calibrate(&Cancel::default(), |_, _| {}).unwrap();
    let plan = session.method_plan("minmax", &bits(3)).unwrap();
    let on_samples =
        |protocol| session.fit_plan_on_samples(&plan, protocol, &Cancel::default(), |_, _| {}).unwrap();
    let sketched = session.fit_plan(&plan).unwrap();
    // Extremes are exact in a sketch, so the parallel protocol on the same samples gives the same numbers.
    assert_eq!(on_samples(Protocol::Parallel).params, sketched.params);
    let sequential = on_samples(Protocol::Sequential);
    let sites = session.model().graph.sites();
    let differs = |i: &usize| sequential.params[*i] != sketched.params[*i];
    let first = (0..sites.len()).find(differs).expect("later sites see quantized values");
    assert!(first > 0 && sites[first].id.slot != Slot::Weight);
    let stop = Cancel::default();
    stop.cancel();
    assert!(
        session.fit_plan_on_samples(&plan, Protocol::Parallel, &stop, |_, _| {}).unwrap_err().is_cancelled()
    );
}

#[test]
fn gradients_weigh_the_errors_of_layers() {
    use bitloupe_quant::plan::SitePlan::Quantized;
    use bitloupe_quant::quantizer::RangeSearch;
    let dir = tempfile::tempdir().unwrap();
    let session = session(dir.path(), None);
    session.calibrate(&Cancel::default(), |_, _| {}).unwrap();
    let sites = session.model().graph.sites();
    for name in ["ptq4vit", "ptq4ris"] {
        let plan = session.method_plan(name, &bits(4)).unwrap();
        let asked = plan.sites().filter(
            |(_, site)| matches!(site, Quantized { scheme, .. } if scheme.range == RangeSearch::Hessian),
        );
        let asked = asked.count();
        let mut seen = Vec::new();
        let fitted = session
            .fit_plan_on_samples(&plan, Protocol::Parallel, &Cancel::default(), |done, total| {
                seen.push((done, total));
            })
            .unwrap();
        // Three samples, then every layer twice.
        let total = 3 + 2 * session.model().graph.layers().len();
        assert_eq!(seen, (1..=total).map(|done| (done, total)).collect::<Vec<_>>(), "{name}");
        let by_gradient = |i: &usize| {
            fitted.params[*i].as_ref().is_some_and(|params| params.scheme.range == RangeSearch::Hessian)
        };
        let found: Vec<usize> = (0..sites.len()).filter(by_gradient).collect();
        assert!(found.len() > 60 && found.len() * 10 > asked * 9, "{name}: {} of {asked}", found.len());
        // From sketches the plan says what was done instead.
        let sketched = session.fit_plan(&plan).unwrap();
        let ranges = |params: &&std::sync::Arc<bitloupe_quant::quantizer::Params>| {
            params.scheme.range == RangeSearch::Hessian
        };
        assert_eq!(sketched.params.iter().flatten().filter(ranges).count(), 0);
        let differ = found.iter().filter(|i| {
            let scale = |fitted: &FittedPlan| fitted.params[**i].as_ref().map(|p| p.scale.clone());
            scale(&fitted) != scale(&sketched)
        });
        assert!(differ.count() * 2 > found.len(), "{name}");
        assert!(figures(&session, &fitted).iter().all(|(_, figure)| figure.is_finite()));
    }
    let plan = session.method_plan("ptq4vit", &bits(4)).unwrap();
    let stop = Cancel::default();
    let stopped = session.fit_plan_on_samples(&plan, Protocol::Parallel, &stop, |done, _| {
        if done == 5 {
            stop.cancel();
        }
    });
    assert!(stopped.unwrap_err().is_cancelled());
}

#[test]
fn weights_and_attention_are_fitted_by_what_comes_out() {
    use bitloupe_quant::quantizer::RangeSearch;
    let dir = tempfile::tempdir().unwrap();
    let session = session(dir.path(), None);
    session.calibrate(&Cancel::default(), |_, _| {}).unwrap();
    let sites = session.model().graph.sites();
    let on_samples = |plan: &Plan| {
        let fitted = session.fit_plan_on_samples(plan, Protocol::Parallel, &Cancel::default(), |_, _| {});
        fitted.map_err(|error| error.to_string())
    };
    let mut plan = session.method_plan("minmax", &bits(4)).unwrap();
    let uniform = |range| Scheme::new(Family::Uniform, range);
    for id in session.site_ids() {
        let by_output = SitePlan::unfitted(uniform(RangeSearch::Output).per_channel(), Bits::new(4).unwrap());
        plan.set(&id, Some(if id.slot == Slot::Weight { by_output } else { SitePlan::Float }));
    }
    let (found, plain) = (on_samples(&plan).unwrap(), session.fit_plan(&plan).unwrap());
    let counts = |fitted: &FittedPlan, range: &RangeSearch| {
        fitted.params.iter().flatten().filter(|params| params.scheme.range == *range).count()
    };
    let weights = sites.iter().filter(|site| site.id.slot == Slot::Weight).count();
    assert_eq!(counts(&found, &RangeSearch::Output), weights);
    assert_eq!(counts(&plain, &RangeSearch::Mse { p: 2.0 }), weights);
    // The first layer's outputs are nearer than with the weights' own least error.
    let errors = |fitted: &FittedPlan| -> Vec<f64> {
        use bitloupe_quant::exec::{Quantization, Tap, Value};
        struct One(bitloupe_quant::graph::NodeId, Vec<f32>);
        impl Tap for One {
            fn wants(&self, node: bitloupe_quant::graph::NodeId) -> bool {
                node == self.0
            }
            fn value(&mut self, _: bitloupe_quant::graph::NodeId, value: &Value) {
                self.1.extend_from_slice(value.as_slice());
            }
        }
        let graph = &session.model().graph;
        let engine = session.engine();
        let set = session.calibration().unwrap();
        // Layers that read nothing quantized.
        let first: Vec<_> = graph.layers().iter().filter(|l| l.name.ends_with("patch_embed.proj")).collect();
        assert_eq!(first.len(), 1);
        let quantization = session.quantization(fitted).unwrap();
        first
            .iter()
            .map(|layer| {
                let outputs = |quantization: &Quantization| {
                    let mut tap = One(layer.node, Vec::new());
                    for i in 0..set.len() {
                        let inputs = session.inputs(set, i).unwrap();
                        engine.run(&inputs, quantization, None, &mut tap, &Cancel::default()).unwrap();
                    }
                    tap.1
                };
                let (a, b) = (outputs(&Quantization::none(graph)), outputs(&quantization));
                a.iter().zip(&b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>()
            })
            .collect()
    };
    let (ours, theirs) = (errors(&found), errors(&plain));
    assert!(ours.iter().zip(&theirs).all(|(a, b)| a < b), "{ours:?} {theirs:?}");
    let attention = session.method_plan("saq-sam", &bits(4)).unwrap();
    let (found, sketched) = (on_samples(&attention).unwrap(), session.fit_plan(&attention).unwrap());
    let by_overlap = counts(&found, &RangeSearch::Overlap);
    assert!(by_overlap > 10 && counts(&sketched, &RangeSearch::Overlap) == 0, "{by_overlap}");
    // One scale for all rows of a weight has no row to be fitted to.
    let weight = session.site_ids().into_iter().find(|id| id.slot == Slot::Weight).unwrap();
    plan.set(&weight, Some(SitePlan::unfitted(uniform(RangeSearch::Output), Bits::new(4).unwrap())));
    assert!(on_samples(&plan).unwrap_err().contains("per channel"));
}

#[test]
fn what_was_released_runs_too() {
    let dir = tempfile::tempdir().unwrap();
    let session = session(dir.path(), None);
    session.calibrate(&Cancel::default(), |_, _| {}).unwrap();
    let mut plan = session.method_plan("ptq4vit", &bits(6)).unwrap();
    for id in session.site_ids() {
        if let Some(SitePlan::Quantized { scheme, bits, .. }) = plan.site(&id).cloned() {
            plan.set(&id, Some(SitePlan::unfitted(scheme.paper(), bits)));
        }
    }
    let fitted =
        session.fit_plan_on_samples(&plan, Protocol::Parallel, &Cancel::default(), |_, _| {}).unwrap();
    // Signed grids with the lowest code: an affine grid with its zero in the middle.
    let weight =
        fitted.params.iter().flatten().find(|params| params.scheme.family == Family::Uniform).unwrap();
    assert!(weight.scheme.paper && !weight.scheme.symmetric && weight.zero_point[0] == 32.0);
}

#[test]
fn broken_rewrites_of_a_file_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let session = session(dir.path(), None);
    let with = |rewrite: &str, layer: &str, vectors: &[(&str, Vec<f32>)]| {
        let mut plan = session.float_plan();
        let vectors = vectors.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
        plan.rewrites.push(Rewrite { rewrite: rewrite.to_owned(), layer: layer.to_owned(), vectors });
        session.fit_plan(&plan).unwrap_err().to_string()
    };
    assert!(with("turn-it-off", "x", &[]).contains("turn-it-off"));
    let numbers = [("scale", vec![1.0; 3]), ("shift", vec![0.0; 3])];
    let error = with("layernorm-reparameterization", "nowhere", &numbers);
    assert!(error.contains("nowhere"), "{error}");
    let norm = session.model().graph.rewritable(RewriteKind::Smoothing)[0];
    let norm = session.model().graph.node(norm).name.clone();
    let error = with("layernorm-reparameterization", &norm, &numbers);
    assert!(error.contains("expected"), "{error}");
}

#[test]
fn exponents_are_chosen_by_the_loss_of_the_results() {
    use bitloupe_quant::eval::output_loss::OutputLoss;
    use bitloupe_quant::exec::{NoTap, Quantization};
    let dir = tempfile::tempdir().unwrap();
    let session = session(dir.path(), None);
    session.calibrate(&Cancel::default(), |_, _| {}).unwrap();
    let plan = session.method_plan("detptq", &bits(3)).unwrap();
    let chosen = session.fit_plan_by_output(&plan, &Cancel::default(), |_, _| {}).unwrap();
    let plain = session.fit_plan(&plan).unwrap();
    assert_ne!(chosen.params, plain.params, "no site chose another exponent");
    let loss = |fitted: &FittedPlan| -> f64 {
        let set = session.calibration().unwrap();
        let quantization = session.quantization(fitted).unwrap();
        let none = Quantization::none(&session.model().graph);
        (0..set.len())
            .map(|i| {
                let inputs = session.inputs(set, i).unwrap();
                let run = |q| session.engine().run(&inputs, q, None, &mut NoTap, &Cancel::default()).unwrap();
                let (a, b) = (run(&none), run(&quantization));
                OutputLoss::PixelDivergence.between(&a.outputs[0], &b.outputs[0])
            })
            .sum()
    };
    assert!(loss(&chosen) < loss(&plain), "{} {}", loss(&chosen), loss(&plain));
}

#[test]
fn a_quantizer_that_does_not_fit_a_site_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let session = session(dir.path(), None);
    session.calibrate(&Cancel::default(), |_, _| {}).unwrap();
    for (family, role) in
        [(Family::Agq, Role::Query), (Family::DrqSoftmax, Role::PostRelu), (Family::Log2, Role::Weight)]
    {
        let graph = session.model().graph.clone();
        let large = |site: &&bitloupe_quant::graph::Site| {
            let index = graph.site_index(&site.id).unwrap();
            let sketch = session.sketch(index).unwrap();
            site.role == role && (sketch.min() < 0.0 || sketch.max() > 1.1)
        };
        let site = graph.sites().iter().find(large).unwrap();
        let mut plan = session.float_plan();
        let bits = Bits::new(4).unwrap();
        plan.set(&site.id, Some(SitePlan::unfitted(Scheme::published(family), bits)));
        let error = session.fit_plan(&plan).unwrap_err().to_string();
        assert!(error.contains("does not fit") && error.contains(&site.id.to_string()), "{error}");
    }
}

#[test]
fn the_detail_of_a_site_is_that_of_the_rewritten_model() {
    let dir = tempfile::tempdir().unwrap();
    let session = session(dir.path(), None);
    session.calibrate(&Cancel::default(), |_, _| {}).unwrap();
    let mut plan = session.method_plan("repq-vit", &bits(4)).unwrap();
    let graph = session.model().graph.clone();
    let norm = graph.rewritable(RewriteKind::NormReparameterization)[0];
    let site = graph.rewrite_sites(RewriteKind::NormReparameterization, norm)[0].clone();
    let rewritten = session.site_detail(1, &site, &plan).unwrap();
    let fitted = session.fit_plan(&plan).unwrap();
    let scale = fitted.plan.site(&site).and_then(SitePlan::params).unwrap().scale[0];
    // The outermost levels of a fractional zero point are nearer.
    let step = rewritten.levels[2] - rewritten.levels[1];
    assert!((step - scale).abs() <= 1e-3 * scale, "{step} {scale}");
    plan.rewrites.clear();
    let plain = session.site_detail(2, &site, &plan).unwrap();
    assert_ne!(plain.channels, rewritten.channels);
}

#[test]
fn layers_that_see_different_parts_of_a_norm_are_all_in_its_new_grid() {
    let dir = tempfile::tempdir().unwrap();
    let model = folder().with_file_name("mobile_sam_tiny");
    std::fs::copy(model.join("image0.png"), dir.path().join("image0.png")).unwrap();
    let lines = [
        r#"{"image": "image0.png", "points": [[20, 12]]}"#,
        r#"{"image": "image0.png", "box": [4, 4, 40, 30]}"#,
    ];
    std::fs::write(dir.path().join("samples.jsonl"), lines.join("\n")).unwrap();
    let calibration = Some(dir.path().to_owned());
    let files = ModelFiles::Path(model);
    let session = Session::open(&Options { calibration, threads: Some(2), ..Options::new(files) }).unwrap();
    session.calibrate(&Cancel::default(), |_, _| {}).unwrap();
    let fitted = session.fit_plan(&session.method_plan("repq-vit", &bits(8)).unwrap()).unwrap();
    let graph = &session.model().graph;
    let norm = graph.find("mask_decoder.transformer.norm_final_attn").unwrap();
    assert!(fitted.plan.rewrites.iter().any(|rewrite| rewrite.layer == graph.node(norm).name));
    let layers = graph.layers_behind_norm(norm).unwrap();
    let mut grids = Vec::new();
    for &layer in &layers {
        let name = &graph.node(layer).name;
        let predicted = fitted.predicted_sqnr_db.iter();
        grids.extend(
            predicted.filter(|(id, _)| id.layer == *name && id.slot == Slot::Input).map(|(_, db)| *db),
        );
    }
    assert!(grids.len() > 3, "{layers:?}");
    // With the grid of the first layer's values the others have 2 to 4 dB.
    assert!(grids.iter().all(|&db| db > 40.0), "{grids:?}");
}
