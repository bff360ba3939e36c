//! Sketches: exactness, independence of order, agreement with sorting.

use super::shapes::{Random, values};
use crate::stats::{CHANNEL_TAIL, Sketch, StatsError, TAIL};
use crate::terms::Layout;
use proptest::prelude::*;
use rayon::prelude::*;

fn sample(random: &mut Random, layout: Layout) -> Vec<f32> {
    let mut sample = values(layout.len(), 1.0, || random.normal() * (random.normal() * 2.0).exp());
    for _ in 0..layout.len() / 50 {
        let at = random.bits() as usize % layout.len();
        sample[at] = [0.0, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-42, -3e-40]
            [random.bits() as usize % 7];
    }
    sample
}

fn layouts() -> impl Strategy<Value = Layout> {
    (1_usize..40, 1_usize..24, prop_oneof![Just(1_usize), 2_usize..300])
        .prop_map(|(outer, channels, inner)| Layout { outer, channels, inner })
}

fn whole(samples: &[Vec<f32>], layout: Layout) -> Sketch {
    let mut sketch = Sketch::sampling(layout.channels);
    for sample in samples {
        sketch.observe(sample, layout).unwrap();
    }
    sketch
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_order_split_and_thread_count_gives_the_same_bits(
        layout in layouts(), seed in 0_u64..1000, samples in 1_usize..9, threads in 1_usize..5,
    ) {
        let mut random = Random::new(seed);
        let mut samples: Vec<Vec<f32>> = (0..samples).map(|_| sample(&mut random, layout)).collect();
        let expected = whole(&samples, layout);
        for at in (1..samples.len()).rev() {
            samples.swap(at, random.bits() as usize % (at + 1));
        }
        prop_assert_eq!(&expected, &whole(&samples, layout));
        let cut = random.bits() as usize % (samples.len() + 1);
        let mut halves = whole(&samples[cut..], layout);
        halves.merge(&whole(&samples[..cut], layout)).unwrap();
        prop_assert_eq!(&expected, &halves);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let together = pool.install(|| {
            samples
                .par_iter()
                .map(|sample| whole(std::slice::from_ref(sample), layout))
                .reduce(|| Sketch::new(layout.channels), |mut a, b| { a.merge(&b).unwrap(); a })
        });
        prop_assert_eq!(&expected, &together);
    }

    #[test]
    fn figures_agree_with_sorting(layout in layouts(), seed in 0_u64..1000) {
        let mut random = Random::new(seed);
        let sample = sample(&mut random, layout);
        let sketch = whole(std::slice::from_ref(&sample), layout);
        let mut finite: Vec<f32> = sample.iter().copied().filter(|x| x.is_finite()).map(|x| x + 0.0).collect();
        finite.sort_unstable_by(f32::total_cmp);
        prop_assume!(!finite.is_empty());
        prop_assert_eq!(sketch.count(), sample.len() as u64);
        prop_assert_eq!(sketch.finite(), finite.len() as u64);
        prop_assert_eq!(sketch.nan(), sample.iter().filter(|x| x.is_nan()).count() as u64);
        prop_assert_eq!(sketch.infinite(), sample.iter().filter(|x| x.is_infinite()).count() as u64);
        prop_assert_eq!(sketch.zeros(), sample.iter().filter(|x| **x == 0.0).count() as u64);
        prop_assert_eq!(
            sketch.negative_zeros(), sample.iter().filter(|x| **x == 0.0 && x.is_sign_negative()).count() as u64
        );
        prop_assert_eq!((sketch.min(), sketch.max()), (finite[0], finite[finite.len() - 1]));
        prop_assert_eq!(sketch.smallest(), finite.iter().copied().take(TAIL).collect::<Vec<_>>());
        prop_assert_eq!(sketch.largest(), finite.iter().rev().copied().take(TAIL).collect::<Vec<_>>());
        prop_assert_eq!(sketch.buckets().iter().map(|b| b.count).sum::<u64>(), finite.len() as u64);
        for p in [0.0, 1e-3, 0.25, 0.5, 0.77, 0.999, 1.0] {
            let rank = p * (finite.len() - 1) as f64;
            let (a, b) = (f64::from(finite[rank.floor() as usize]), f64::from(finite[rank.ceil() as usize]));
            let exact = a + (b - a) * rank.fract();
            let found = sketch.percentile(p);
            let bound = (a.abs().max(b.abs()) / 200.0).max(1e-38);
            prop_assert!((found - exact).abs() <= bound, "{} at {}: {}", exact, p, found);
        }
        for c in 0..layout.channels {
            let of_channel = |x: &(usize, &f32)| layout.channel_of(x.0) == c && x.1.is_finite();
            let mut own: Vec<f32> = sample.iter().enumerate().filter(of_channel).map(|(_, x)| x + 0.0).collect();
            own.sort_unstable_by(f32::total_cmp);
            let stats = sketch.channel(c).unwrap();
            prop_assert_eq!(stats.count, own.len() as u64);
            prop_assert_eq!(sketch.channel_smallest(c), own.iter().copied().take(CHANNEL_TAIL).collect::<Vec<_>>());
            prop_assert_eq!(sketch.channel_largest(c), own.iter().rev().copied().take(CHANNEL_TAIL).collect::<Vec<_>>());
            let n = own.len().max(1) as f64;
            let mean = own.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
            let std = (own.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n).sqrt();
            prop_assert!((stats.mean - mean).abs() <= 1e-9 * (1.0 + mean.abs() + std));
            prop_assert!((stats.std - std).abs() <= 1e-6 * (1.0 + mean.abs() + std));
        }
    }
}

#[test]
fn moments_match_known_distributions() {
    let mut random = Random::new(7);
    let normal = values(200_000, 3.0, || random.normal());
    let laplace = values(200_000, 0.1, || random.laplace());
    let sketch = whole(&[normal], Layout::tensor(200_000));
    assert!((sketch.std() - 3.0).abs() < 0.03 && (sketch.kurtosis() - 3.0).abs() < 0.1);
    assert!(sketch.skewness().abs() < 0.05 && sketch.mean().abs() < 0.03);
    let sketch = whole(&[laplace], Layout::tensor(200_000));
    assert!((sketch.kurtosis() - 6.0).abs() < 0.5);
}

#[test]
fn degenerate_data_gives_figures_and_no_panic() {
    let cases: [&[f32]; 8] = [
        &[],
        &[5.0],
        &[f32::NAN],
        &[f32::INFINITY, f32::NEG_INFINITY],
        &[0.0; 1000],
        &[-0.0, 0.0],
        &[1e-45, -1e-45, 2e-45],
        &[f32::MAX, f32::MIN],
    ];
    for case in cases {
        let sketch = whole(&[case.to_vec()], Layout::tensor(case.len()));
        assert_eq!(sketch.count(), case.len() as u64);
        let histogram = sketch.histogram(10, None, false);
        assert!((histogram.counts.iter().sum::<f64>() - sketch.finite() as f64).abs() < 1e-6, "{case:?}");
        for figure in [sketch.mean(), sketch.std(), sketch.kurtosis(), sketch.skewness()] {
            assert!(!figure.is_nan(), "{case:?}");
        }
        assert_eq!(sketch.percentile(0.5).is_nan(), sketch.finite() == 0, "{case:?}");
        let _ = sketch.histogram(0, Some((1.0, 1.0)), true);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut sketch = Sketch::new(3);
    assert!(matches!(sketch.observe(&[0.0; 4], Layout::tensor(4)), Err(StatsError::Channels { .. })));
    let layout = Layout { outer: 2, channels: 3, inner: 1 };
    assert!(matches!(sketch.observe(&[0.0; 5], layout), Err(StatsError::Layout { .. })));
    let huge = Layout { outer: usize::MAX, channels: 3, inner: 2 };
    assert!(sketch.observe(&[0.0; 5], huge).is_err());
    assert!(sketch.merge(&Sketch::new(2)).is_err());
    assert_eq!(sketch, Sketch::new(3));
}

#[test]
fn a_sample_of_rows_is_one_of_everything_or_none() {
    let layout = Layout { outer: 4, channels: 2, inner: 1 };
    let values: Vec<f32> = (0..8).map(|i| i as f32).collect();
    let mut plain = Sketch::new(2);
    plain.observe(&values, layout).unwrap();
    let sampled = whole(std::slice::from_ref(&values), layout);
    let (channels, all) = sampled.channel_samples().unwrap();
    assert!(all && channels.iter().all(|values| values.len() == 4), "{channels:?}");
    // Whatever is merged into what: values that were counted without a sample leave none.
    for (mut into, from) in [(plain.clone(), &sampled), (sampled.clone(), &plain)] {
        into.merge(from).unwrap();
        assert!(into.channel_samples().is_none() && into.count() == 16);
    }
    // Nothing was counted in an empty sketch of either kind.
    for mut into in [Sketch::new(2), Sketch::sampling(2)] {
        into.merge(&sampled).unwrap();
        assert_eq!(into, sampled);
    }
    assert!(Sketch::sampling(1).channel_samples().is_none());
}

#[test]
fn a_histogram_keeps_the_shape() {
    let mut random = Random::new(3);
    let values = values(50_000, 1.0, || random.uniform() * 8.0);
    let histogram = whole(&[values], Layout::tensor(50_000)).histogram(16, Some((0.0, 8.0)), false);
    for count in &histogram.counts {
        assert!((count - 3125.0).abs() < 250.0, "{:?}", histogram.counts);
    }
    assert_eq!(histogram.edges(1), (0.5, 1.0));
    assert_eq!(histogram.bin(8.0), Some(15));
    assert_eq!(histogram.bin(9.0), None);
}
