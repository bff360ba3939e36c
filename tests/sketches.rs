//! Fits from sketches are as good as fits on the values, at the sites of the bundled models.

use bitloupe_quant::exec::{Cancel, Decision, ExecError};
use bitloupe_quant::models::ModelFiles;
use bitloupe_quant::quantizer::{Distribution, Family, Params, RangeSearch, Scheme, Survey, quantizer};
use bitloupe_quant::session::{Options, Session};
use bitloupe_quant::stats::Sketch;
use bitloupe_quant::terms::{Bits, Layout};

/// How much more error a fit from a sketch may have.
const SLACK: f64 = 0.02;

fn open(name: &str) -> Session {
    let all = bitloupe_samples::bundled();
    let bundled = all.iter().find(|bundled| bundled.name == name).unwrap();
    let (name, label, files) = (bundled.name, bundled.label, bundled.files);
    let model = ModelFiles::Embedded { name, label, files, replace: bundled.replacements().unwrap() };
    Session::open(&Options { threads: Some(2), ..Options::new(model) }).unwrap()
}

/// The sum of squared errors of parameters on values.
fn error(values: &[f32], layout: Layout, params: &Params) -> f64 {
    let mut out = values.to_vec();
    quantizer(params.scheme.family).fake_quantize(&mut out, layout, params);
    values.iter().zip(&out).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
}

/// Fits what is offered at every activation and is `wanted`, given the number of the site, from the sketch and on the
/// values of the first samples; how many were compared.
fn compare(session: &Session, samples: usize, wanted: impl Fn(usize, &Scheme) -> bool) -> usize {
    let graph = session.model().graph.clone();
    let set = session.calibration().unwrap();
    let inputs: Vec<_> = (0..samples).map(|i| session.inputs(set, i).unwrap()).collect();
    let (mut compared, mut wrong) = (0, Vec::new());
    let mut at_node = |node, operands: &[Vec<&bitloupe_quant::exec::Value>]| {
        for (index, site) in graph.sites().iter().enumerate().filter(|(_, site)| site.node == node) {
            let schemes: Vec<Scheme> =
                session.schemes(index).into_iter().filter(|scheme| wanted(index, scheme)).collect();
            let Some(operand) = site.operand.and_then(|operand| operands.get(operand)) else { continue };
            if schemes.is_empty() {
                continue;
            }
            let layout = site.layout;
            let by_channel = schemes.iter().any(|scheme| scheme.family == Family::Ptf);
            let mut sketch =
                if by_channel { Sketch::sampling(layout.channels) } else { Sketch::new(layout.channels) };
            for value in operand {
                sketch.observe(value.as_slice(), layout).unwrap();
            }
            let values: Vec<f32> = operand.iter().flat_map(|value| value.as_slice()).copied().collect();
            let layout = if layout.channels == 1 {
                Layout::tensor(values.len())
            } else {
                Layout { outer: layout.outer * operand.len(), ..layout }
            };
            let survey = Survey::new(&sketch);
            for scheme in schemes {
                for bits in [4, 8] {
                    let fit = |data: &Distribution<'_>| {
                        quantizer(scheme.family).fit(data, &scheme, Bits::new(bits).unwrap())
                    };
                    // Those without levels below zero refuse some sites either way.
                    let exact = fit(&Distribution::Raw { values: &values, layout });
                    let (Ok(exact), Ok(found)) = (exact, fit(&Distribution::Survey(&survey))) else {
                        continue;
                    };
                    let (least, found) = (error(&values, layout, &exact), error(&values, layout, &found));
                    compared += 1;
                    if found > least * (1.0 + SLACK) {
                        wrong.push(format!("{}: {scheme} at {bits} bits: {:.4}", site.id, found / least));
                    }
                }
            }
        }
    };
    session
        .engine()
        .lockstep(&inputs, false, &Cancel::default(), |node, operands| -> Result<Decision, ExecError> {
            at_node(node, operands);
            Ok(Vec::new())
        })
        .unwrap();
    assert!(wrong.is_empty(), "{} of {compared}:\n{}", wrong.len(), wrong.join("\n"));
    compared
}

/// Searches that go through the values once or a few times. KL minimises no error.
fn is_quick(scheme: &Scheme) -> bool {
    let search = scheme.family == Family::Uniform && matches!(scheme.range, RangeSearch::Mse { .. });
    let slow = [Family::Agq, Family::Adalog, Family::Lnq, Family::DrqGelu];
    scheme.range != RangeSearch::Kl && !search && !slow.contains(&scheme.family)
}

#[test]
fn quick_searches_at_every_site() {
    let compared = compare(&open("lavt-mini"), 1, |_, scheme| is_quick(scheme));
    assert!(compared > 1500, "{compared}");
}

#[test]
fn slow_searches_at_some_sites() {
    let wanted =
        |index, scheme: &Scheme| index % 3 == 0 && !is_quick(scheme) && scheme.range != RangeSearch::Kl;
    let compared = compare(&open("lavt-mini"), 1, wanted);
    assert!(compared > 60, "{compared}");
}

/// The whole calibration set: many more rows than a sketch keeps of them, and channels that are far from alike.
#[test]
fn factors_of_channels_from_a_sample_of_rows() {
    let compared = compare(&open("lavt-mini-planted"), 64, |_, scheme| scheme.family == Family::Ptf);
    assert!(compared > 80, "{compared}");
}
