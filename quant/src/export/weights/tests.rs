use super::*;
use proptest::prelude::*;

fn bits(n: u8) -> Bits {
    Bits::new(n).unwrap()
}

fn entry<'a>(name: &str, shape: &[usize], payload: Payload<'a>) -> Entry<'a> {
    Entry { name: name.to_owned(), shape: shape.to_vec(), payload }
}

fn codes(n: u8, codes: Vec<u16>, grid: Grid) -> Payload<'static> {
    Payload::Codes { bits: bits(n), codes: codes.into(), grid, axis: 0, scheme: "uniform".to_owned() }
}

fn along(payload: Payload<'_>, axis: usize) -> Payload<'_> {
    match payload {
        Payload::Codes { bits, codes, grid, scheme, .. } => {
            Payload::Codes { bits, codes, grid, axis, scheme }
        }
        float @ Payload::Float(_) => float,
    }
}

fn written(entries: Vec<Entry<'_>>) -> Result<Vec<u8>, WeightsError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.safetensors");
    let size = write_weights(&path, entries)?;
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(size, bytes.len() as u64);
    Ok(bytes)
}

#[test]
fn tensors_come_back_to_the_bit() {
    let affine = Grid::Affine { scale: vec![0.1, 0.3], zero_point: vec![3.0] };
    let levels = Grid::Levels(vec![-1.0, -0.25, 0.5, 1.0 / 3.0]);
    let bytes = written(vec![
        entry("a.weight", &[2, 3], codes(3, vec![0, 1, 2, 5, 6, 7], affine)),
        entry("b.weight", &[1, 2, 2], codes(2, vec![0, 1, 2, 3], levels)),
        entry("a.bias", &[2], Payload::Float(Cow::Borrowed(&[0.5, -0.0]))),
    ])
    .unwrap();
    let file = WeightFile::open("w", &bytes).unwrap();
    assert_eq!(file.names(), ["a.bias", "a.weight", "b.weight"]);
    assert_eq!((file.bits("a.weight"), file.bits("a.bias")), (Some(bits(3)), None));
    let expected: Vec<f32> = vec![-3.0 * 0.1, -2.0 * 0.1, -0.1, 2.0 * 0.3, 3.0 * 0.3, 4.0 * 0.3];
    assert_eq!(file.read("a.weight").unwrap(), (vec![2, 3], expected));
    assert_eq!(file.read("b.weight").unwrap(), (vec![1, 2, 2], vec![-1.0, -0.25, 0.5, 1.0 / 3.0]));
    assert_eq!(file.read("a.bias").unwrap().1[1].to_bits(), (-0.0f32).to_bits());
}

/// The weight of a transposed convolution: two inputs, three outputs.
#[test]
fn channels_may_lie_along_another_axis() {
    let layout = Layout::axis(&[2, 3, 2], 1).unwrap();
    let (scale, zero_point) = (vec![0.1, 0.3, 0.7], vec![1.0, 2.0, 3.0]);
    let whole: Vec<u16> = (0..12).map(|i| i % 8).collect();
    let value = |i: usize| (f32::from(whole[i]) - zero_point[i / 2 % 3]) * scale[i / 2 % 3];
    let values: Vec<f32> = (0..12).map(value).collect();
    let grid = Grid::Affine { scale: scale.clone(), zero_point: zero_point.clone() };
    assert_eq!(affine_codes(&values, layout, bits(3), &grid).unwrap(), whole);
    // As many as a channel has, fewer than there are in all.
    let (by_level, table) = level_codes(&values, layout, bits(2)).unwrap();
    let entries = || {
        vec![
            entry("a", &[2, 3, 2], along(codes(3, whole.clone(), grid.clone()), 1)),
            entry("b", &[2, 3, 2], along(codes(2, by_level.clone(), table.clone()), 1)),
        ]
    };
    let bytes = written(entries()).unwrap();
    let file = WeightFile::open("w", &bytes).unwrap();
    for name in ["a", "b"] {
        assert_eq!(file.read(name).unwrap(), (vec![2, 3, 2], values.clone()), "{name}");
    }
    for (axis, part) in [(0, "3 scales for 2 channels"), (3, "no axis 3")] {
        let first = entries().swap_remove(0);
        let error = written(vec![Entry { payload: along(first.payload, axis), ..first }]).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
    let at = bytes.windows(4).position(|w| w == b"axis").unwrap();
    let number = at + bytes[at..].iter().position(u8::is_ascii_digit).unwrap();
    let mut other = bytes;
    other[number] = b'7';
    let error = WeightFile::open("w", &other).unwrap().read("a").unwrap_err();
    assert!(error.to_string().contains("no axis 7"), "{error}");
}

#[test]
fn what_does_not_fit_is_an_error() {
    let one = || Grid::Affine { scale: vec![1.0], zero_point: vec![0.0] };
    let nan = Grid::Affine { scale: vec![f32::NAN], zero_point: vec![0.0] };
    let three = Grid::Affine { scale: vec![1.0; 3], zero_point: vec![0.0] };
    let cases = [
        (vec![entry("w", &[2, 2], codes(4, vec![1; 3], one()))], "3 codes"),
        (vec![entry("w", &[2, 2], codes(4, vec![99; 4], one()))], "code 99"),
        (vec![entry("w", &[2, 2], codes(4, vec![1; 4], nan))], "not finite"),
        (vec![entry("w", &[2, 2], codes(4, vec![1; 4], three))], "3 scales"),
        (vec![entry("w", &[1, 1], codes(4, vec![1], Grid::Levels(vec![0.0; 3])))], "3 levels"),
        (vec![entry("w", &[usize::MAX, 2], codes(4, vec![], one()))], "too large"),
        (vec![entry("w", &[3], Payload::Float(Cow::Borrowed(&[1.0])))], "1 values"),
        (
            vec![
                entry("w", &[1], Payload::Float(Cow::Borrowed(&[1.0]))),
                entry("w", &[1], Payload::Float(Cow::Borrowed(&[1.0]))),
            ],
            "twice",
        ),
    ];
    for (entries, part) in cases {
        let error = written(entries).unwrap_err().to_string();
        assert!(error.contains("tensor w") && error.contains(part), "{error}");
    }
    assert!(write_weights(Path::new("/nonexistent-folder/w"), vec![]).is_err());
    #[cfg(target_os = "linux")]
    assert!(write_weights(Path::new("/dev/full"), vec![]).is_err());
}

#[test]
fn bad_files_are_errors() {
    let good = written(vec![entry(
        "w",
        &[1, 4],
        codes(4, vec![1, 2, 3, 4], Grid::Affine { scale: vec![1.0], zero_point: vec![0.0] }),
    )])
    .unwrap();
    for end in 0..good.len() {
        assert!(WeightFile::open("w", &good[..end]).is_err(), "cut at {end}");
    }
    let swap = |from: &[u8], to: &[u8]| {
        let at = good.windows(from.len()).position(|w| w == from).unwrap();
        let mut bytes = good.clone();
        bytes[at..at + to.len()].copy_from_slice(to);
        bytes
    };
    assert!(WeightFile::open("w", &swap(b"weights/1", b"weights/2")).is_err());
    let shape = swap(b"[1,4]", b"[9,4]");
    assert!(WeightFile::open("w", &shape).unwrap().read("w").is_err());
    let file = WeightFile::open("w", &good).unwrap();
    assert!(file.read("none").unwrap_err().to_string().contains("none"));
}

#[test]
fn every_family_is_reproduced() {
    use crate::quantizer::{Distribution, Family, RangeSearch, Scheme, quantizer};
    use crate::terms::Layout;
    let values: Vec<f32> = (0..6 * 40).map(|i| (i as f32 * 0.37).sin() * (1 + i / 40) as f32).collect();
    let layout = Layout::axis(&[6, 40], 0).unwrap();
    for &family in Family::ALL {
        for n in [2, 4, 7] {
            let scheme = Scheme::new(family, RangeSearch::MinMax);
            for scheme in [scheme.clone(), scheme.per_channel()] {
                let data = Distribution::Raw { values: &values, layout };
                let Ok(params) = quantizer(family).fit(&data, &scheme, bits(n)) else { continue };
                let mut fake = values.clone();
                quantizer(family).fake_quantize(&mut fake, layout, &params);
                let payload = Payload::of_quantized(&fake, &[6, 40], &params).unwrap();
                let bytes = written(vec![entry("w", &[6, 40], payload)]).unwrap();
                let (shape, read) = WeightFile::open("w", &bytes).unwrap().read("w").unwrap();
                assert_eq!((shape, read), (vec![6, 40], fake), "{scheme} {n}");
            }
        }
    }
}

proptest! {
    // Each case writes and flushes a file.
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn fake_quantized_values_are_reproduced(
        values in prop::collection::vec(-10f32..10.0, 12),
        scale in prop::collection::vec(0.01f32..1.0, 3), zero in 0u8..16, width in 4u8..9
    ) {
        let z = f32::from(zero);
        let most = f32::from((1u16 << width) - 1);
        let fake: Vec<f32> = values.chunks(4).zip(&scale).flat_map(|(row, &s)| {
            row.iter().map(move |v| (((v / s).round_ties_even() + z).clamp(0.0, most) - z) * s)
        }).collect();
        let grid = Grid::Affine { scale, zero_point: vec![z] };
        let rows = Layout::axis(&[3, 4], 0).unwrap();
        let found = affine_codes(&fake, rows, bits(width), &grid).unwrap();
        let (by_level, table) = level_codes(&fake, rows, bits(width)).unwrap();
        let bytes = written(vec![
            entry("affine", &[3, 4], codes(width, found, grid)),
            entry("levels", &[3, 2, 2], codes(width, by_level, table)),
        ]).unwrap();
        let file = WeightFile::open("w", &bytes).unwrap();
        prop_assert_eq!(&file.read("affine").unwrap().1, &fake);
        let levels = file.read("levels").unwrap().1;
        prop_assert!(levels.iter().zip(&fake).all(|(a, b)| a.to_bits() == b.to_bits()));
    }
}
