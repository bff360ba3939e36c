//! A set of synthetic tensors whose class is known.

use super::shapes::{Random, gelu, softmax, values};
use crate::stats::{Sketch, diagnose};
use crate::terms::{Class, Layout, Role};

struct Case {
    name: String,
    expected: Class,
    values: Vec<f32>,
    layout: Layout,
}

const SIZES: [usize; 5] = [500, 2_000, 10_000, 50_000, 200_000];
const SCALES: [f64; 5] = [1e-4, 0.02, 1.0, 60.0, 1e4];

/// Every shape at five sizes, each with another scale, seed and where it applies offset.
fn cases() -> Vec<Case> {
    type Make = fn(&mut Random, usize) -> Vec<f64>;
    let shapes: [(&str, Class, Make); 18] = [
        ("normal", Class::Normal, |r, n| (0..n).map(|_| r.normal()).collect()),
        ("normal, offset 5", Class::Normal, |r, n| (0..n).map(|_| r.normal() + 5.0).collect()),
        ("normal, offset −0.7", Class::Normal, |r, n| (0..n).map(|_| r.normal() - 0.7).collect()),
        ("uniform", Class::Normal, |r, n| (0..n).map(|_| 2.0 * r.uniform() - 1.0).collect()),
        ("two normals", Class::Bimodal, |r, n| {
            (0..n).map(|i| 0.4 * r.normal() + if i % 2 == 0 { 1.3 } else { -1.3 }).collect()
        }),
        ("two normals, 2 to 3, offset", Class::Bimodal, |r, n| {
            (0..n).map(|i| 0.5 * r.normal() + if i % 5 < 2 { 5.0 } else { 2.0 }).collect()
        }),
        ("two narrow", Class::Bimodal, |r, n| {
            (0..n).map(|i| 0.15 * r.normal() + if i % 2 == 0 { 1.0 } else { -1.0 }).collect()
        }),
        ("softmax, 50 wide", Class::PowerLaw, |r, n| widen(softmax(r, n / 50, 50, 1.2))),
        ("softmax, 196 wide, sharp", Class::PowerLaw, |r, n| widen(softmax(r, n.div_ceil(196), 196, 2.0))),
        ("Lomax 2", Class::PowerLaw, |r, n| (0..n).map(|_| r.uniform().powf(-0.5) - 1.0).collect()),
        ("t(3)", Class::HeavyTailed, |r, n| (0..n).map(|_| r.student(3)).collect()),
        ("t(2)", Class::HeavyTailed, |r, n| (0..n).map(|_| r.student(2)).collect()),
        ("0.5 % twenty times wider", Class::HeavyTailed, |r, n| {
            (0..n).map(|_| r.normal() * if r.uniform() < 0.005 { 20.0 } else { 1.0 }).collect()
        }),
        ("GELU", Class::OneSided, |r, n| (0..n).map(|_| gelu(r.normal())).collect()),
        ("GELU, sparse", Class::OneSided, |r, n| (0..n).map(|_| gelu(1.2 * r.normal() - 1.0)).collect()),
        ("ReLU", Class::OneSided, |r, n| (0..n).map(|_| r.normal().max(0.0)).collect()),
        ("negated half-normal", Class::OneSided, |r, n| (0..n).map(|_| -r.normal().abs()).collect()),
        ("constant", Class::Constant, |r, n| vec![r.normal(); n]),
    ];
    let mut cases = Vec::new();
    for (s, (name, expected, make)) in shapes.into_iter().enumerate() {
        for (at, size) in SIZES.into_iter().enumerate() {
            let mut random = Random::new((s * 31 + at + 1) as u64);
            let scale = SCALES[(s + 2 * at) % SCALES.len()];
            let raw = make(&mut random, size);
            let mut raw = raw.into_iter();
            let values = values(raw.len(), scale, || raw.next().unwrap_or(0.0));
            // Layouts vary too: as one tensor, or with 20 channels that are all alike.
            let layout = if at % 2 == 0 && values.len() % 20 == 0 {
                Layout { outer: values.len() / 20, channels: 20, inner: 1 }
            } else {
                Layout::tensor(values.len())
            };
            cases.push(Case { name: format!("{name}, {size} × {scale}"), expected, values, layout });
        }
    }
    for at in 0..10 {
        let mut random = Random::new(900 + at as u64);
        let (channels, outliers) = [(96, 6), (32, 1), (256, 12), (48, 4), (768, 5)][at % 5];
        let rows = [12, 40, 197, 400, 60][at % 5];
        let mut next = 0;
        let by = [8.0, 14.0, 25.0][at % 3];
        // Half of the cases widen the channels, half shift them.
        let values = values(rows * channels, SCALES[at % 5], || {
            let c = next % channels;
            next += 1;
            let far = c % (channels / outliers) == 1 && c / (channels / outliers) < outliers;
            match (far, at % 2) {
                (true, 0) => random.normal() * by,
                (true, _) => random.normal() + by * 2.5,
                _ => random.normal(),
            }
        });
        cases.push(Case {
            name: format!("{outliers} of {channels} channels"),
            expected: Class::OutlierChannel,
            values,
            layout: Layout { outer: rows, channels, inner: 1 },
        });
    }
    cases
}

fn widen(values: Vec<f32>) -> Vec<f64> {
    values.into_iter().map(f64::from).collect()
}

#[test]
fn nineteen_of_twenty_synthetic_tensors_get_their_class() {
    let cases = cases();
    assert!(cases.len() >= 80);
    let mut confusions = Vec::new();
    for case in &cases {
        let mut sketch = Sketch::new(case.layout.channels);
        sketch.observe(&case.values, case.layout).unwrap();
        let diagnosis = diagnose(&sketch, Role::Other);
        if diagnosis.class != case.expected {
            confusions.push(format!(
                "{}: {} instead of {}; {:?}",
                case.name, diagnosis.class, case.expected, diagnosis.evidence
            ));
        }
    }
    println!(
        "{} of {} right; confusions:\n{}",
        cases.len() - confusions.len(),
        cases.len(),
        confusions.join("\n")
    );
    assert!(confusions.len() * 20 <= cases.len(), "{}", confusions.join("\n"));
}

#[test]
fn the_role_does_not_decide() {
    for case in cases().iter().step_by(3) {
        let mut sketch = Sketch::new(case.layout.channels);
        sketch.observe(&case.values, case.layout).unwrap();
        let expected = diagnose(&sketch, Role::Other);
        for &role in Role::ALL {
            let found = diagnose(&sketch, role);
            assert_eq!((found.class, found.evidence), (expected.class, expected.evidence.clone()));
        }
    }
}

#[test]
fn outlier_channels_are_named() {
    let mut random = Random::new(5);
    let mut at = 0;
    let values = values(96 * 400, 1.0, || {
        at += 1;
        random.normal() * if (at - 1) % 96 % 16 == 3 { 12.0 } else { 0.6 }
    });
    let mut sketch = Sketch::new(96);
    sketch.observe(&values, Layout { outer: 400, channels: 96, inner: 1 }).unwrap();
    let diagnosis = diagnose(&sketch, Role::PostLayerNorm);
    let mut named: Vec<usize> = diagnosis.evidence.outlier_channels.iter().map(|c| c.channel).collect();
    named.sort_unstable();
    assert_eq!(named, [3, 19, 35, 51, 67, 83]);
    assert!(diagnosis.sentence.starts_with("6 of 96 channels reach ±"), "{}", diagnosis.sentence);
}

#[test]
fn nothing_and_garbage_have_a_class() {
    for values in
        [&[][..], &[f32::NAN; 4], &[1.0], &[f32::INFINITY, 1.0], &[1e-45, 2e-45], &[f32::MAX, f32::MIN, 0.0]]
    {
        let mut sketch = Sketch::new(1);
        sketch.observe(values, Layout::tensor(values.len())).unwrap();
        let diagnosis = diagnose(&sketch, Role::Other);
        assert!(!diagnosis.sentence.contains("NaN"), "{}", diagnosis.sentence);
        assert!(serde_json::to_string(&diagnosis).is_ok());
    }
}

#[test]
fn sentences_say_what_is_there_and_advise_nothing() {
    for case in cases() {
        let mut sketch = Sketch::new(case.layout.channels);
        sketch.observe(&case.values, case.layout).unwrap();
        let found = diagnose(&sketch, Role::Other);
        // Nothing depends on a width or a quantizer that nobody has chosen.
        for word in ["of 16 levels", "symmetric", "logarithmic", "clipping", "folding", "fits"] {
            assert!(!found.sentence.contains(word), "{}: {}", case.name, found.sentence);
        }
        if found.class == Class::OneSided {
            // As much is said of the other side as lies there.
            let (near, far) = (sketch.min(), sketch.max());
            let all = found.sentence.starts_with("All values");
            assert_eq!(all, near * far >= 0.0, "{}: {}", case.name, found.sentence);
        }
    }
}
