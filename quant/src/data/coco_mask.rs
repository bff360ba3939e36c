//! Masks as COCO writes them: polygons and run lengths.
//!
//! Both are drawn exactly as `pycocotools` draws them (`common/maskApi.c`: `rleFrPoly`, `rleFrString`), as a
//! truth mask a pixel wider would move every figure.

use serde::Deserialize;

use crate::eval::metrics::BinaryMask;

/// Most boundary points of all polygons of a mask, at the fivefold resolution of the drawing.
const MAX_POINTS: u64 = 16 << 20;
/// Most pixels that the polygons of a mask may fill together; they may overlap.
const MAX_FILLED: u64 = 256 << 20;

/// A mask as written in a manifest.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a file name, polygons [[x, y, …], …] or {\"size\": [h, w], \"counts\": …}"
)]
pub enum MaskSpec {
    /// A picture, not black where the mask is.
    File(String),
    /// Polygons `[x0, y0, x1, y1, …]` in pixels of the image; the mask is their union.
    Polygons(Vec<Vec<f64>>),
    /// Run lengths, down the columns, starting with zeros.
    Rle(Rle),
}

/// COCO run lengths.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rle {
    /// `[height, width]`.
    pub size: [u32; 2],
    /// The runs.
    pub counts: Counts,
}

/// Run lengths in either of their writings.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged, expecting = "expected a list of run lengths or a compressed text")]
pub enum Counts {
    /// Numbers.
    Plain(Vec<u64>),
    /// COCO's text of 5-bit groups and differences.
    Compressed(String),
}

/// Draws polygons on a picture of `width` x `height`.
pub(super) fn draw_polygons(polygons: &[Vec<f64>], width: u32, height: u32) -> Result<BinaryMask, String> {
    let mut mask = BinaryMask::new(width, height).ok_or("the picture has no pixels")?;
    let (mut budget, mut filled) = (MAX_POINTS, 0);
    for polygon in polygons {
        if polygon.len() < 6 || polygon.len() % 2 == 1 {
            return Err(format!(
                "a polygon of {} numbers; expected x, y of at least three corners",
                polygon.len()
            ));
        }
        let far = 4.0 * f64::from(width.max(height)) + 1000.0;
        if let Some(v) = polygon.iter().find(|v| v.is_nan() || v.abs() > far) {
            return Err(format!("a corner at {v}; the picture is {width}x{height}"));
        }
        let crossings = crossings(polygon, width, height, &mut budget)?;
        filled += fill(&mut mask, &crossings);
        if filled > MAX_FILLED {
            return Err("the polygons overlap more than those of a mask can need".to_owned());
        }
    }
    Ok(mask)
}

/// Column-major pixel indices where the inside begins or ends, sorted (`rleFrPoly`).
fn crossings(polygon: &[f64], width: u32, height: u32, budget: &mut u64) -> Result<Vec<u64>, String> {
    const SCALE: f64 = 5.0;
    let corners: Vec<(i64, i64)> =
        polygon.chunks_exact(2).map(|c| ((SCALE * c[0] + 0.5) as i64, (SCALE * c[1] + 0.5) as i64)).collect();
    let mut boundary: Vec<(i64, i64)> = Vec::new();
    for (i, &(mut xs, mut ys)) in corners.iter().enumerate() {
        let (mut xe, mut ye) = corners.get(i + 1).or(corners.first()).copied().unwrap_or_default();
        let (dx, dy) = ((xe - xs).abs(), (ye - ys).abs());
        *budget = budget
            .checked_sub(dx.max(dy) as u64 + 1)
            .ok_or("the polygons have more boundary than a mask of this kind can need")?;
        // Always drawn from the smaller coordinate, so that both directions give the same points.
        let flip = (dx >= dy && xs > xe) || (dx < dy && ys > ye);
        if flip {
            (xs, xe, ys, ye) = (xe, xs, ye, ys);
        }
        let length = dx.max(dy);
        let slope = match (dx >= dy, length) {
            (_, 0) => 0.0,
            (true, _) => (ye - ys) as f64 / dx as f64,
            (false, _) => (xe - xs) as f64 / dy as f64,
        };
        boundary.extend((0..=length).map(|d| {
            let t = if flip { length - d } else { d };
            if dx >= dy {
                (t + xs, (ys as f64 + slope * t as f64 + 0.5) as i64)
            } else {
                ((xs as f64 + slope * t as f64 + 0.5) as i64, t + ys)
            }
        }));
    }
    let (w, h) = (f64::from(width), f64::from(height));
    let mut starts: Vec<u64> = boundary
        .windows(2)
        .filter_map(|pair| {
            let [(u0, v0), (u1, v1)] = *pair else { return None };
            if u0 == u1 {
                return None;
            }
            let x = (if u1 < u0 { u1 } else { u1 - 1 }) as f64;
            let x = (x + 0.5) / SCALE - 0.5;
            if x.floor() != x || x < 0.0 || x > w - 1.0 {
                return None;
            }
            let y = ((v0.min(v1) as f64 + 0.5) / SCALE - 0.5).clamp(0.0, h).ceil();
            Some(x as u64 * u64::from(height) + y as u64)
        })
        .collect();
    starts.sort_unstable();
    Ok(starts)
}

/// Sets the pixels between the first and second, third and fourth … column-major index; gives their number.
fn fill(mask: &mut BinaryMask, sorted: &[u64]) -> u64 {
    let height = u64::from(mask.height());
    let end = mask.pixels() as u64;
    let mut filled = 0;
    for pair in sorted.chunks(2) {
        let from = pair.first().copied().unwrap_or(end);
        for at in from..pair.get(1).copied().unwrap_or(end).min(end) {
            mask.set((at / height) as u32, (at % height) as u32);
            filled += 1;
        }
    }
    filled
}

/// Draws run lengths.
pub(super) fn draw_rle(rle: &Rle) -> Result<BinaryMask, String> {
    let [height, width] = rle.size;
    let mut mask = BinaryMask::new(width, height)
        .ok_or_else(|| format!("size [{height}, {width}]; expected 1 pixel to 64 megapixels"))?;
    let unpacked;
    let counts = match &rle.counts {
        Counts::Plain(counts) => counts,
        Counts::Compressed(text) => {
            unpacked = unpack(text)?;
            &unpacked
        }
    };
    let pixels = mask.pixels() as u64;
    let mut at = 0u64;
    let mut edges = Vec::new();
    for &count in counts {
        at = at.checked_add(count).filter(|&at| at <= pixels).ok_or_else(|| {
            format!("the runs cover more than the {pixels} pixels of size [{height}, {width}]")
        })?;
        edges.push(at);
    }
    if at != pixels {
        return Err(format!("the runs cover {at} of the {pixels} pixels of size [{height}, {width}]"));
    }
    fill(&mut mask, &edges);
    Ok(mask)
}

/// COCO's text: groups of 5 bits, least first, bit 5 set when more follow; from the fourth run on, the
/// difference to the run two before.
fn unpack(text: &str) -> Result<Vec<u64>, String> {
    let broken = || "the compressed counts are broken; expected the text that pycocotools writes".to_owned();
    let mut counts: Vec<i64> = Vec::new();
    let (mut value, mut shift) = (0i64, 0u32);
    for byte in text.bytes() {
        let group = i64::from(byte) - 48;
        if !(0..64).contains(&group) || shift > 30 {
            return Err(broken());
        }
        value |= (group & 0x1f) << shift;
        shift += 5;
        if group & 0x20 != 0 {
            continue;
        }
        if group & 0x10 != 0 {
            value |= -1 << shift;
        }
        if counts.len() > 2 {
            value += counts.get(counts.len() - 2).copied().unwrap_or(0);
        }
        if value < 0 {
            return Err(broken());
        }
        counts.push(value);
        (value, shift) = (0, 0);
    }
    if shift != 0 {
        return Err(broken());
    }
    Ok(counts.into_iter().map(|c| c as u64).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The writer of `unpack`'s text (`rleToString`).
    fn pack(counts: &[u64]) -> String {
        let mut text = String::new();
        for (i, &count) in counts.iter().enumerate() {
            let mut x = count as i64 - if i > 2 { counts[i - 2] as i64 } else { 0 };
            loop {
                let mut group = x & 0x1f;
                x >>= 5;
                let more = if group & 0x10 != 0 { x != -1 } else { x != 0 };
                if more {
                    group |= 0x20;
                }
                text.push((group + 48) as u8 as char);
                if !more {
                    break;
                }
            }
        }
        text
    }

    #[test]
    fn a_rectangle_is_drawn_as_coco_draws_it() {
        let mask = draw_polygons(&[vec![1.0, 2.0, 4.0, 2.0, 4.0, 5.0, 1.0, 5.0]], 6, 7).unwrap();
        let expected = BinaryMask::from_fn(6, 7, |x, y| (1..4).contains(&x) && (2..5).contains(&y)).unwrap();
        assert_eq!(mask, expected);
        let reversed = draw_polygons(&[vec![1.0, 5.0, 4.0, 5.0, 4.0, 2.0, 1.0, 2.0]], 6, 7).unwrap();
        assert_eq!(reversed, expected);
    }

    #[test]
    fn polygons_unite_and_are_clipped() {
        let outside = vec![-5.0, -5.0, 2.0, -5.0, 2.0, 30.0, -5.0, 30.0];
        let mask = draw_polygons(&[outside, vec![3.0, 0.0, 4.0, 0.0, 4.0, 1.0, 3.0, 1.0]], 5, 4).unwrap();
        assert_eq!(mask, BinaryMask::from_fn(5, 4, |x, y| x < 2 || (x == 3 && y == 0)).unwrap());
    }

    #[test]
    fn bad_masks_are_errors() {
        for polygon in [vec![], vec![1.0, 2.0, 3.0], vec![1.0; 5], vec![f64::NAN; 6], vec![1e300; 6]] {
            assert!(draw_polygons(&[polygon], 5, 5).is_err());
        }
        let whole = vec![0.0, 0.0, 8000.0, 0.0, 8000.0, 8000.0, 0.0, 8000.0];
        assert!(draw_polygons(&vec![whole; 50], 8000, 8000).is_err());
        let zigzag: Vec<f64> = (0..200_000).map(|i| f64::from(i % 4) * 20_000.0).collect();
        assert!(draw_polygons(&[zigzag], 16_000, 4000).is_err());
        let rle = |size, counts| draw_rle(&Rle { size, counts });
        assert!(rle([2, 2], Counts::Plain(vec![1, 2])).is_err());
        assert!(rle([2, 2], Counts::Plain(vec![u64::MAX, u64::MAX])).is_err());
        assert!(rle([0, 2], Counts::Plain(vec![])).is_err());
        assert!(rle([u32::MAX, u32::MAX], Counts::Plain(vec![])).is_err());
        for text in ["P", "oooooooooooo", "é", "/", "1N"] {
            assert!(rle([2, 2], Counts::Compressed(text.to_owned())).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn both_writings_of_runs_agree(runs in prop::collection::vec(0u64..400, 1..40)) {
            let pixels = runs.iter().sum::<u64>().max(1);
            let mut runs = runs;
            if runs.iter().sum::<u64>() == 0 { runs[0] = 1; }
            let size = [pixels as u32, 1];
            let plain = draw_rle(&Rle { size, counts: Counts::Plain(runs.clone()) }).unwrap();
            let packed = draw_rle(&Rle { size, counts: Counts::Compressed(pack(&runs)) }).unwrap();
            prop_assert_eq!(&plain, &packed);
            let set: u64 = runs.iter().skip(1).step_by(2).sum();
            prop_assert_eq!(plain.count(), set);
        }

        #[test]
        fn any_polygon_is_drawn_or_refused(corners in prop::collection::vec(-50f64..50.0, 0..20)) {
            let _ = draw_polygons(&[corners], 20, 20);
        }

        #[test]
        fn any_text_is_unpacked_or_refused(text in "[ -~]{0,40}") {
            let _ = unpack(&text);
        }
    }
}
