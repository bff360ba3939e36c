//! Grids of a scale for every head of an attention product.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bitloupe_quant::exec::{Cancel, Quantization, Tap, Value};
use bitloupe_quant::graph::NodeId;
use bitloupe_quant::method::{MethodBits, Protocol};
use bitloupe_quant::models::ModelFiles;
use bitloupe_quant::plan::{Plan, SitePlan};
use bitloupe_quant::quantizer::{Family, Granularity, RangeSearch, Scheme};
use bitloupe_quant::session::{FittedPlan, Options, Session};
use bitloupe_quant::terms::{Bits, Role, SiteId, Slot};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/vit_tiny_timm")
}

/// A calibrated session over the fixture's pictures.
fn session(dir: &Path) -> Session {
    for picture in ["image0.png", "image1.png"] {
        std::fs::copy(folder().join(picture), dir.join(picture)).unwrap();
    }
    let set = dir.join("samples.jsonl");
    std::fs::write(&set, "{\"image\": \"image0.png\"}\n{\"image\": \"image1.png\"}\n").unwrap();
    let options = Options {
        calibration: Some(set.clone()),
        samples: Some(set),
        threads: Some(2),
        ..Options::new(ModelFiles::Path(folder()))
    };
    let session = Session::open(&options).unwrap();
    session.calibrate(&Cancel::default(), |_, _| {}).unwrap();
    session
}

/// Values of one node.
struct One(NodeId, Vec<Value>);

impl Tap for One {
    fn wants(&self, node: NodeId) -> bool {
        node == self.0
    }

    fn value(&mut self, _: NodeId, value: &Value) {
        self.1.push(value.clone());
    }
}

fn seen(session: &Session, node: NodeId, quantization: &Quantization) -> Vec<Value> {
    let (set, mut tap) = (session.calibration().unwrap(), One(node, Vec::new()));
    for i in 0..set.len() {
        let inputs = session.inputs(set, i).unwrap();
        session.engine().run(&inputs, quantization, None, &mut tap, &Cancel::default()).unwrap();
    }
    tap.1
}

fn one_site(session: &Session, site: &SiteId, scheme: Scheme) -> Plan {
    let mut plan = session.float_plan();
    plan.set(site, Some(SitePlan::unfitted(scheme, Bits::new(4).unwrap())));
    plan
}

#[test]
fn every_head_has_the_range_of_its_own_values() {
    let dir = tempfile::tempdir().unwrap();
    let session = session(dir.path());
    let graph = &session.model().graph;
    let keys = |site: &&bitloupe_quant::graph::Site| site.role == Role::Key;
    let index = graph.sites().iter().position(|site| keys(&site)).unwrap();
    let site = &graph.sites()[index];
    let heads = site.heads.unwrap();
    assert!(heads.channels > 1 && heads.len() == site.layout.len());
    let scheme = Scheme::new(Family::Uniform, RangeSearch::MinMax).per_head();
    let plan = one_site(&session, &site.id, scheme.clone());
    let fitted = session.fit_plan(&plan).unwrap();
    let params = fitted.params[index].clone().unwrap();
    // By hand: 15 steps from the smallest value of a head to its largest one, zero among them.
    let before = graph.node(site.node).inputs[site.operand.unwrap()];
    let values = seen(&session, before, &Quantization::none(graph));
    let mut ranges = vec![(0.0_f32, 0.0_f32); heads.channels];
    for value in &values {
        for (at, &x) in value.as_slice().iter().enumerate() {
            let range = &mut ranges[heads.channel_of(at)];
            *range = (range.0.min(x), range.1.max(x));
        }
    }
    let expected: Vec<f32> = ranges.iter().map(|(low, high)| (high - low) / 15.0).collect();
    assert_eq!(params.scale.len(), heads.channels);
    for (found, expected) in params.scale.iter().zip(&expected) {
        assert!((found - expected).abs() <= 1e-6 * expected, "{found} {expected}");
    }
    // On the samples themselves: the same.
    let on_samples =
        session.fit_plan_on_samples(&plan, Protocol::Parallel, &Cancel::default(), |_, _| {}).unwrap();
    assert_eq!(on_samples.params[index], Some(Arc::clone(&params)));
    // What the product computes with them is what it computes of operands on these grids.
    let product = |fitted: &FittedPlan| seen(&session, site.node, &session.quantization(fitted).unwrap());
    let shared = Scheme { granularity: Granularity::Tensor, ..scheme.clone() };
    let shared = session.fit_plan(&one_site(&session, &site.id, shared)).unwrap();
    let plain = seen(&session, site.node, &Quantization::none(graph));
    let error = |values: &[Value]| -> f64 {
        let all = values.iter().zip(&plain).flat_map(|(a, b)| a.as_slice().iter().zip(b.as_slice()));
        all.map(|(a, b)| f64::from(a - b).powi(2)).sum()
    };
    let (by_head, together) = (error(&product(&fitted)), error(&product(&shared)));
    assert!(by_head > 0.0 && by_head < together, "{by_head} {together}");
    // Another pass of the same from its file.
    let path = dir.path().join("plan.json");
    fitted.plan.write(&path).unwrap();
    let again = session.fit_plan(&Plan::read(&path).unwrap()).unwrap();
    assert_eq!(again.params, fitted.params);
    assert_eq!(again.predicted_sqnr_db, fitted.predicted_sqnr_db);
    // The prediction is of these heads: within a decibel of what happens to the operand.
    let quantizer = bitloupe_quant::quantizer::quantizer(Family::Uniform);
    let (mut noise, mut signal) = (0.0, 0.0);
    for value in &values {
        let mut on_grid = value.as_slice().to_vec();
        quantizer.fake_quantize(&mut on_grid, heads, &params);
        for (a, b) in on_grid.iter().zip(value.as_slice()) {
            noise += f64::from(a - b).powi(2);
            signal += f64::from(*b).powi(2);
        }
    }
    let db = 10.0 * (signal / noise).log10();
    assert!((fitted.predicted_sqnr_db[0].1 - db).abs() < 1.0, "{} {db}", fitted.predicted_sqnr_db[0].1);
}

#[test]
fn sites_without_heads_have_one_grid_and_scales_must_be_as_many_as_heads() {
    let dir = tempfile::tempdir().unwrap();
    let session = session(dir.path());
    let sites = session.model().graph.sites();
    let scheme = Scheme::new(Family::Uniform, RangeSearch::MinMax).per_head();
    let linear = sites.iter().position(|site| site.id.slot == Slot::Input).unwrap();
    let fitted = session.fit_plan(&one_site(&session, &sites[linear].id, scheme.clone())).unwrap();
    assert_eq!(fitted.params[linear].as_ref().unwrap().scale.len(), 1);
    let query = sites.iter().position(|site| site.role == Role::Query).unwrap();
    let fitted = session.fit_plan(&one_site(&session, &sites[query].id, scheme)).unwrap();
    let mut params = fitted.params[query].as_ref().unwrap().as_ref().clone();
    params.scale.push(1.0);
    params.zero_point.push(0.0);
    let mut plan = session.float_plan();
    plan.set(&sites[query].id, Some(SitePlan::fitted(params)));
    let error = session.fit_plan(&plan).unwrap_err().to_string();
    assert!(error.contains(&sites[query].id.to_string()), "{error}");
}

#[test]
fn the_search_by_gradients_gives_heads_and_thirds_scales_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let session = session(dir.path());
    let bits = MethodBits::new(Bits::new(4).unwrap(), Bits::new(4).unwrap());
    let plan = session.method_plan("ptq4vit", &bits).unwrap();
    let fitted =
        session.fit_plan_on_samples(&plan, Protocol::Parallel, &Cancel::default(), |_, _| {}).unwrap();
    let graph = &session.model().graph;
    let mut counted = (0, 0);
    for (site, params) in graph.sites().iter().zip(&fitted.params) {
        let Some(params) = params else { continue };
        if let Some(heads) = site.heads.filter(|_| site.role != Role::PostSoftmax) {
            assert_eq!(params.scheme.range, RangeSearch::Hessian, "{}", site.id);
            assert_eq!(params.scale.len(), heads.channels, "{}", site.id);
            counted.0 += 1;
        }
        if site.id.layer.ends_with("qkv") && site.id.slot == Slot::Weight {
            let mut scales = params.scale.clone();
            scales.dedup();
            assert_eq!((params.scale.len(), scales.len()), (site.shape[0], 3), "{}", site.id);
            counted.1 += 1;
        }
    }
    assert!(counted.0 >= 6 && counted.1 >= 2, "{counted:?}");
    let result = session.evaluate(&fitted, &Cancel::default(), |_, _, _| {}).unwrap();
    assert!(result.agreement.is_some());
}
