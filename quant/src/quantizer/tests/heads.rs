//! A head is a channel of another layout: every family treats both alike.

use crate::quantizer::{Distribution, Family, Granularity, Scheme, quantizer};
use crate::stats::Sketch;
use crate::stats::tests::shapes::{Random, softmax};
use crate::terms::{Bits, Layout};

#[test]
fn every_family_fits_heads_as_it_fits_channels() {
    let layout = Layout { outer: 6, channels: 3, inner: 40 };
    let mut random = Random::new(21);
    let signed: Vec<f32> =
        (0..layout.len()).map(|i| (random.normal() * (1 + 2 * layout.channel_of(i)) as f64) as f32).collect();
    let shares = softmax(&mut random, layout.len() / 40, 40, 1.5);
    let (mut compared, mut refused) = (0, 0);
    for &family in Family::ALL {
        for values in [&signed, &shares] {
            let mut sketch = Sketch::sampling(layout.channels);
            sketch.observe(values, layout).unwrap();
            for data in [Distribution::Sketch(&sketch), Distribution::Raw { values, layout }] {
                let fit = |granularity| {
                    let scheme = Scheme { granularity, ..Scheme::published(family) };
                    quantizer(family).fit(&data, &scheme, Bits::new(4).unwrap())
                };
                match (fit(Granularity::Channel), fit(Granularity::Head)) {
                    (Ok(mut of_channels), Ok(of_heads)) => {
                        assert_eq!(of_heads.scheme.granularity, Granularity::Head, "{family}");
                        of_channels.scheme.granularity = Granularity::Head;
                        assert_eq!(of_channels, of_heads, "{family}");
                        assert!(of_heads.check(layout).is_ok(), "{family}");
                        let quantized = |params| {
                            let mut out = values.clone();
                            quantizer(family).fake_quantize(&mut out, layout, params);
                            out
                        };
                        assert_eq!(quantized(&of_heads), quantized(&of_channels), "{family}");
                        compared += 1;
                    }
                    (Err(_), Err(_)) => refused += 1,
                    (a, b) => panic!("{family}: {a:?} {b:?}"),
                }
            }
        }
    }
    assert!(compared > 30 && refused > 0, "{compared} {refused}");
}
