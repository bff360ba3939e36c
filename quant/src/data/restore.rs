//! From what a model made of a picture back to the picture.

use super::{DataError, Geometry, MAX_PIXELS};
use crate::exec::kernels::resize::bilinear;

impl Geometry {
    /// Values of any grid over the tensor (logits of a mask) at the picture's size, rows from the top: enlarged to the
    /// tensor, cut to the resized picture, brought to the picture, bilinear both times. So does SAM's post-processing, on
    /// logits, before they are compared with a threshold. `outside` stands where a crop left nothing.
    pub fn values_to_original(
        &self,
        values: &[f32],
        (width, height): (u32, u32),
        outside: f32,
    ) -> Result<Vec<f32>, DataError> {
        let numbers = |(w, h): (u32, u32)| u64::from(w) * u64::from(h);
        let fits = |size| (1..=MAX_PIXELS).contains(&numbers(size));
        let sizes = [(width, height), self.output, self.resized, self.original];
        if numbers((width, height)) != values.len() as u64 || !sizes.into_iter().all(fits) {
            return Err(DataError::Mask {
                place: "preprocessor".to_owned(),
                reason: format!("{} values of {width}x{height} do not fit {self:?}", values.len()),
            });
        }
        let whole = resized(values, (width, height), self.output);
        let ((left, top), (columns, rows)) = (self.offset, self.resized);
        let inside = |i: u32, start: i64, end: u32| {
            u32::try_from(i64::from(i) - start).ok().filter(|&place| place < end)
        };
        let mut cut = vec![outside; columns as usize * rows as usize];
        for (y, line) in (0..rows).zip(cut.chunks_exact_mut(columns as usize)) {
            let Some(from) = inside(y, top, self.cropped.1) else { continue };
            for (x, value) in (0..columns).zip(line) {
                if let Some(at) = inside(x, left, self.cropped.0) {
                    *value = whole[from as usize * self.output.0 as usize + at as usize];
                }
            }
        }
        Ok(resized(&cut, self.resized, self.original))
    }
}

/// One plane at another `(width, height)`.
fn resized(values: &[f32], from: (u32, u32), to: (u32, u32)) -> Vec<f32> {
    let sides = |(w, h): (u32, u32)| [h as usize, w as usize];
    let mut out = vec![0.0; to.0 as usize * to.1 as usize];
    bilinear(values, 1, sides(from), sides(to), false, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use crate::data::PreprocessorConfig;

    const MEAN: &str = r#""image_mean": [0, 0, 0], "image_std": [1, 1, 1]"#;

    #[test]
    fn padding_is_cut_off_and_what_was_cropped_stays_outside() {
        let json = format!(
            r#"{{"size": {{"longest_edge": 8}}, "do_pad": true, "pad_size": {{"height": 8, "width": 8}}, {MEAN}}}"#
        );
        let geometry = PreprocessorConfig::from_json("c", json.as_bytes()).unwrap().geometry(4, 2);
        // The lower half of the tensor is padding.
        let made = geometry.values_to_original(&[1.0, 1.0, 5.0, 5.0], (1, 4), 0.0).unwrap();
        assert_eq!(made.len(), 8);
        assert!(made[..4].iter().all(|x| *x == 1.0), "{made:?}");
        let json =
            format!(r#"{{"size": {{"shortest_edge": 4}}, "do_center_crop": true, "crop_size": 4, {MEAN}}}"#);
        let geometry = PreprocessorConfig::from_json("c", json.as_bytes()).unwrap().geometry(8, 4);
        let made = geometry.values_to_original(&[3.0], (1, 1), -1.0).unwrap();
        assert_eq!(made[..8], [-1.0, -1.0, 3.0, 3.0, 3.0, 3.0, -1.0, -1.0]);
        assert!(geometry.values_to_original(&[3.0], (2, 1), 0.0).is_err());
        assert!(geometry.values_to_original(&[], (0, 0), 0.0).is_err());
    }
}
