//! Pictures of a fixture against the tensors that the published preprocessors made of them.

use bitloupe_quant::data::decode_image;
use bitloupe_quant::models::Model;

use crate::fixture::Fixture;

/// One resize rounding step.
const TOLERANCE: f32 = 1e-3;

/// Compares what the model's preprocessor makes of `image` with sample `sample` of an input, which may be padded with
/// zeros at the bottom and the right to the largest picture of its batch.
pub(crate) fn compare(fixture: &Fixture, model: &Model, image: &str, input: &str, sample: usize) {
    let bytes = std::fs::read(fixture.path(image)).unwrap();
    let picture = decode_image(image, &bytes).unwrap();
    let pixels = model.preprocessor.as_ref().unwrap().apply(&picture).unwrap();
    let (width, height) = pixels.geometry.output;
    let (width, height) = (width as usize, height as usize);
    let (shape, expected) = &fixture.inputs[input];
    let [_, channels, rows, columns] = shape[..] else { panic!("{input} has shape {shape:?}") };
    assert!(height <= rows && width <= columns, "{height}x{width} of {shape:?}");
    let mut worst = 0.0_f32;
    for channel in 0..channels {
        for y in 0..rows {
            for x in 0..columns {
                let theirs = expected[((sample * channels + channel) * rows + y) * columns + x];
                let inside = y < height && x < width;
                let ours = if inside { pixels.values[(channel * height + y) * width + x] } else { 0.0 };
                worst = worst.max((ours - theirs).abs());
            }
        }
    }
    assert!(worst <= TOLERANCE, "{image}: {worst:e}");
    println!("{image}: {worst:e}");
}
