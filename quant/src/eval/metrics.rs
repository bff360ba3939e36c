//! Masks and the figures of referring segmentation.
//!
//! The figures are those of RefCOCO evaluations (LAVT, `test.py`): mean IoU over samples, overall IoU
//! (intersections summed over all samples divided by unions summed), and precision@t, the share of samples
//! with IoU ≥ t. Sums are `f64` or integers in sample order, so results do not depend on threads.

/// Most pixels of a mask: those of the largest picture that is read.
const MAX_PIXELS: u64 = 64 << 20;

/// The thresholds of precision@t.
pub const PRECISION_AT: [f64; 5] = [0.5, 0.6, 0.7, 0.8, 0.9];

/// One bit per pixel, rows from the top, 64 pixels a word without padding between rows.
#[derive(Clone, PartialEq, Eq)]
pub struct BinaryMask {
    width: u32,
    height: u32,
    words: Vec<u64>,
}

impl std::fmt::Debug for BinaryMask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BinaryMask({}x{}, {} set)", self.width, self.height, self.count())
    }
}

impl BinaryMask {
    /// An empty mask; `None` for no pixels or more than 64 Mi.
    pub fn new(width: u32, height: u32) -> Option<Self> {
        let pixels = u64::from(width) * u64::from(height);
        (1..=MAX_PIXELS).contains(&pixels).then(|| Self {
            width,
            height,
            words: vec![0; (pixels as usize).div_ceil(64)],
        })
    }

    /// From `width * height` bits, rows from the top; `None` when there are fewer or more.
    pub fn from_bits(width: u32, height: u32, bits: impl IntoIterator<Item = bool>) -> Option<Self> {
        let mut mask = Self::new(width, height)?;
        let (mut left, mut bits) = (mask.pixels(), bits.into_iter());
        for word in &mut mask.words {
            for at in 0..left.min(64) {
                *word |= u64::from(bits.next()?) << at;
            }
            left = left.saturating_sub(64);
        }
        bits.next().is_none().then_some(mask)
    }

    /// Where `bit` holds of the values of two planes, a word at a time; `None` when their number does not fit.
    pub fn from_planes(
        width: u32,
        height: u32,
        (first, second): (&[f32], &[f32]),
        bit: impl Fn(f32, f32) -> bool,
    ) -> Option<Self> {
        let mut mask = Self::new(width, height)?;
        if first.len() != mask.pixels() || second.len() != first.len() {
            return None;
        }
        for (word, (a, b)) in mask.words.iter_mut().zip(first.chunks(64).zip(second.chunks(64))) {
            for (at, (&a, &b)) in a.iter().zip(b).enumerate() {
                *word |= u64::from(bit(a, b)) << at;
            }
        }
        Some(mask)
    }

    /// Pixel `(x, y)` of the result is that at `(columns[x], rows[y])`, unset where either is outside; `None` for an
    /// impossible size.
    pub fn picked(&self, columns: &[usize], rows: &[usize]) -> Option<Self> {
        let side = |places: &[usize]| u32::try_from(places.len()).ok();
        let mut mask = Self::new(side(columns)?, side(rows)?)?;
        let (width, height) = (self.width as usize, self.height as usize);
        let same = |places: &[usize], side: usize| places.len() == side && places.iter().copied().eq(0..side);
        if same(columns, width) && same(rows, height) {
            mask.words.copy_from_slice(&self.words);
            return Some(mask);
        }
        // A row as bytes; the last one stands for what is outside.
        let mut row = vec![0_u64; width + 1];
        let columns: Vec<usize> = columns.iter().map(|&x| x.min(width)).collect();
        let (mut at, mut of) = (0, None);
        for &y in rows {
            if of != Some(y) {
                of = Some(y);
                for (x, bit) in row[..width].iter_mut().enumerate() {
                    let place = y.min(height) * width + x;
                    *bit = self.words.get(place / 64).map_or(0, |word| word >> (place % 64) & 1);
                }
                if y >= height {
                    row.fill(0);
                }
            }
            for &x in &columns {
                mask.words[at / 64] |= row[x] << (at % 64);
                at += 1;
            }
        }
        Some(mask)
    }

    /// From a function of `(x, y)`.
    pub fn from_fn(width: u32, height: u32, bit: impl Fn(u32, u32) -> bool) -> Option<Self> {
        let bit = &bit;
        Self::from_bits(width, height, (0..height).flat_map(move |y| (0..width).map(move |x| bit(x, y))))
    }

    /// Where values exceed a threshold, e.g. logits above 0; `None` when the number does not fit.
    pub fn from_threshold(width: u32, height: u32, values: &[f32], threshold: f32) -> Option<Self> {
        Self::from_planes(width, height, (values, values), |v, _| v > threshold)
    }

    /// Pixels across.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Pixels down.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// All pixels.
    pub fn pixels(&self) -> usize {
        self.width as usize * self.height as usize
    }

    /// Whether the pixel is set; false outside.
    pub fn get(&self, x: u32, y: u32) -> bool {
        if x >= self.width || y >= self.height {
            return false;
        }
        let at = y as usize * self.width as usize + x as usize;
        self.words.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    /// Sets a pixel; nothing outside.
    pub fn set(&mut self, x: u32, y: u32) {
        if x < self.width && y < self.height {
            self.set_index(y as usize * self.width as usize + x as usize);
        }
    }

    fn set_index(&mut self, at: usize) {
        if let Some(word) = self.words.get_mut(at / 64) {
            *word |= 1 << (at % 64);
        }
    }

    /// Pixels set.
    pub fn count(&self) -> u64 {
        self.words.iter().map(|w| u64::from(w.count_ones())).sum()
    }

    /// Adds the pixels of a mask of the same size; false (and no change) for another size.
    pub fn union_with(&mut self, other: &Self) -> bool {
        let same = self.same_size(other);
        if same {
            self.words.iter_mut().zip(&other.words).for_each(|(a, b)| *a |= b);
        }
        same
    }

    /// Whether both masks have the same sides.
    pub fn same_size(&self, other: &Self) -> bool {
        self.width == other.width && self.height == other.height
    }

    /// Pixels in both and pixels in either; `None` for different sizes.
    pub fn overlap(&self, other: &Self) -> Option<Overlap> {
        self.same_size(other).then(|| {
            self.words.iter().zip(&other.words).fold(Overlap::default(), |sum, (a, b)| Overlap {
                intersection: sum.intersection + u64::from((a & b).count_ones()),
                union: sum.union + u64::from((a | b).count_ones()),
            })
        })
    }

    /// Intersection over union; `None` for different sizes.
    pub fn iou(&self, other: &Self) -> Option<f64> {
        self.overlap(other).map(Overlap::iou)
    }
}

/// Pixels in both masks and in either.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Overlap {
    /// Pixels in both.
    pub intersection: u64,
    /// Pixels in either.
    pub union: u64,
}

impl Overlap {
    /// Intersection over union. Two empty masks agree: 1. (LAVT scores them 0; its data has no empty truth,
    /// while here a quantized mask is also compared with a full-precision mask, and both may be empty.)
    pub fn iou(self) -> f64 {
        if self.union == 0 { 1.0 } else { self.intersection as f64 / self.union as f64 }
    }
}

/// Collects overlaps, one per sample, in sample order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tally {
    ious: Vec<f64>,
    total: Overlap,
}

impl Tally {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one sample.
    pub fn add(&mut self, overlap: Overlap) {
        self.ious.push(overlap.iou());
        self.total.intersection += overlap.intersection;
        self.total.union += overlap.union;
    }

    /// IoU of each sample.
    pub fn ious(&self) -> &[f64] {
        &self.ious
    }

    /// The figures so far; `None` without samples.
    pub fn scores(&self) -> Option<Scores> {
        let n = self.ious.len();
        let miou = self.ious.iter().sum::<f64>() / n as f64;
        let at_least = |t: f64| self.ious.iter().filter(|&&iou| iou >= t).count() as f64 / n as f64;
        let mut figures = vec![("miou".to_owned(), miou), ("oiou".to_owned(), self.total.iou())];
        figures.extend(PRECISION_AT.iter().map(|&t| (format!("precision@{t}"), at_least(t))));
        (n > 0).then(|| Scores::new(n, figures))
    }
}

/// The figures over a set of samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// Number of samples.
    pub samples: usize,
    figures: Vec<(String, f64)>,
}

impl Scores {
    /// Figures by name, the one that stands for the task first.
    pub(super) fn new(samples: usize, figures: Vec<(String, f64)>) -> Self {
        Self { samples, figures }
    }

    /// The figure that stands for the task: `miou`, `top1`, …
    pub fn standing(&self) -> f64 {
        self.figures.first().map_or(0.0, |(_, value)| *value)
    }

    /// A figure by its name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.figures.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    /// The figures by their published names: `miou`, `oiou`, `precision@0.5` …
    pub fn named(&self) -> &[(String, f64)] {
        &self.figures
    }
}

/// Scores pairs of masks (prediction, truth), or a quantized against a full-precision mask (agreement).
/// Pairs of different sizes are skipped and counted in the second result.
pub fn score<'a>(
    pairs: impl IntoIterator<Item = (&'a BinaryMask, &'a BinaryMask)>,
) -> (Option<Scores>, usize) {
    let mut tally = Tally::new();
    let mut skipped = 0;
    for (a, b) in pairs {
        match a.overlap(b) {
            Some(overlap) => tally.add(overlap),
            None => skipped += 1,
        }
    }
    (tally.scores(), skipped)
}

/// Signal power and error power, to be summed over chunks and samples.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sqnr {
    signal: f64,
    noise: f64,
}

impl Sqnr {
    /// Adds a chunk: full-precision values and what became of them (the shorter length counts).
    pub fn add(&mut self, exact: &[f32], quantized: &[f32]) {
        for (&x, &y) in exact.iter().zip(quantized) {
            let (x, y) = (f64::from(x), f64::from(y));
            self.signal += x * x;
            self.noise += (x - y) * (x - y);
        }
    }

    /// `10 log10(Σx² / Σ(x−y)²)` in decibels: +∞ without error, −∞ for an error on a zero signal, NaN when a
    /// value was NaN.
    pub fn db(&self) -> f64 {
        if self.noise == 0.0 { f64::INFINITY } else { 10.0 * (self.signal / self.noise).log10() }
    }
}

/// [`Sqnr`] of one pair of tensors, in decibels.
pub fn sqnr_db(exact: &[f32], quantized: &[f32]) -> f64 {
    let mut sum = Sqnr::default();
    sum.add(exact, quantized);
    sum.db()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mask(bits: &[u8]) -> BinaryMask {
        BinaryMask::from_bits(bits.len() as u32, 1, bits.iter().map(|&b| b == 1)).unwrap()
    }

    #[test]
    fn iou_of_small_masks() {
        assert_eq!(mask(&[1, 1, 0, 0]).iou(&mask(&[1, 0, 1, 0])), Some(1.0 / 3.0));
        assert_eq!(mask(&[0, 0]).iou(&mask(&[0, 0])), Some(1.0));
        assert_eq!(mask(&[0, 0]).iou(&mask(&[0, 1])), Some(0.0));
        assert_eq!(mask(&[0, 0]).iou(&mask(&[0])), None);
    }

    #[test]
    fn mean_and_overall_iou_differ() {
        let (a, b) = (mask(&[1, 1, 1, 1]), mask(&[1, 1, 1, 1]));
        let (c, d) = (mask(&[1, 1]), mask(&[1, 0]));
        let (scores, skipped) = score([(&a, &b), (&c, &d), (&a, &d)]);
        let scores = scores.unwrap();
        assert_eq!((scores.samples, skipped), (2, 1));
        assert_eq!(scores.standing(), 0.75);
        assert_eq!(scores.get("oiou"), Some(5.0 / 6.0));
        let precision: Vec<f64> = scores.named()[2..].iter().map(|(_, value)| *value).collect();
        assert_eq!(precision, [1.0, 0.5, 0.5, 0.5, 0.5]);
        assert_eq!(scores.named()[2], ("precision@0.5".to_owned(), 1.0));
        assert_eq!(score([]).0, None);
    }

    #[test]
    fn impossible_masks_are_none() {
        assert!(BinaryMask::new(0, 3).is_none());
        assert!(BinaryMask::new(u32::MAX, u32::MAX).is_none());
        assert!(BinaryMask::from_bits(2, 2, [true; 3]).is_none());
        assert!(BinaryMask::from_bits(2, 2, [true; 5]).is_none());
    }

    #[test]
    fn planes_and_picked_pixels_are_those_of_single_bits() {
        // Words that are full, cut off, and rows that do not begin with one.
        for (width, height) in [(64, 2), (7, 19), (130, 3)] {
            let value = |seed: usize| (0..width * height).map(move |i| ((i * seed) % 11) as f32);
            let (a, b): (Vec<f32>, Vec<f32>) = (value(7).collect(), value(5).collect());
            let (w, h) = (width as u32, height as u32);
            let mask = BinaryMask::from_planes(w, h, (&a, &b), |a, b| a > b).unwrap();
            assert_eq!(Some(&mask), BinaryMask::from_bits(w, h, (0..a.len()).map(|i| a[i] > b[i])).as_ref());
            assert_eq!(
                mask.picked(&Vec::from_iter(0..width), &Vec::from_iter(0..height)),
                Some(mask.clone())
            );
            let columns: Vec<usize> = (0..150).map(|x| x * 3 % (width + 2)).collect();
            let rows = [0, 0, height - 1, height, 1, usize::MAX];
            let expected = BinaryMask::from_fn(150, 6, |x, y| {
                mask.get(columns[x as usize] as u32, rows[y as usize].min(height) as u32)
            });
            assert_eq!(mask.picked(&columns, &rows), expected);
            assert!(mask.picked(&[], &rows).is_none());
            assert!(BinaryMask::from_planes(w, h, (&a, &b[1..]), |a, b| a > b).is_none());
        }
    }

    #[test]
    fn sqnr_in_decibels() {
        assert_eq!(sqnr_db(&[10.0, 0.0], &[9.0, 0.0]), 20.0);
        assert_eq!(sqnr_db(&[1.0], &[1.0]), f64::INFINITY);
        assert_eq!(sqnr_db(&[0.0], &[1.0]), f64::NEG_INFINITY);
        let mut parts = Sqnr::default();
        parts.add(&[10.0], &[9.0]);
        parts.add(&[0.0], &[0.0]);
        assert_eq!(parts.db(), 20.0);
    }

    proptest! {
        #[test]
        fn iou_is_symmetric_and_bounded(
            bits in prop::collection::vec(any::<(bool, bool)>(), 1..200)
        ) {
            let n = bits.len() as u32;
            let a = BinaryMask::from_bits(n, 1, bits.iter().map(|b| b.0)).unwrap();
            let b = BinaryMask::from_bits(n, 1, bits.iter().map(|b| b.1)).unwrap();
            let iou = a.iou(&b).unwrap();
            prop_assert!((0.0..=1.0).contains(&iou));
            prop_assert_eq!(Some(iou), b.iou(&a));
            prop_assert_eq!(a.iou(&a), Some(1.0));
            let set = bits.iter().filter(|b| b.0).count() as u64;
            prop_assert_eq!(a.count(), set);
            for (i, bit) in bits.iter().enumerate() {
                prop_assert_eq!(a.get(i as u32, 0), bit.0);
            }
        }
    }
}
