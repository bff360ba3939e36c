//! LAVT in the `lavt_one` form.

use crate::fixture::Fixture;

/// Ten times the gap between f32 and f64 that the fixture's README names for the logits.
const TOLERANCE: f32 = 1e-3;
const INPUTS: [(&str, &str); 3] =
    [("pixel_values", "pixel_values"), ("input_ids", "input_ids"), ("attention_mask", "attention_mask")];

#[test]
fn everything_recorded_is_reproduced() {
    let fixture = Fixture::open("lavt_one_tiny");
    let run = fixture.run(&INPUTS);
    fixture.compare_output(&run, "logits", "out.logits", TOLERANCE);
    fixture.compare_activations(&run, TOLERANCE, 190, |_| None);
}

/// The f64 reference shows how far f32 kernels may be off; fused kernels stay within ten times the f32 gap.
#[test]
fn fused_kernels_agree_with_the_reference() {
    Fixture::open("lavt_one_tiny").run(&INPUTS).compare_reference(f64::from(TOLERANCE));
}
