//! The scales that the Hessian-weighted searches try.

/// How many scales are tried.
const CANDIDATES: u32 = 100;
/// Rounds of searching one operand with the other fixed.
pub(super) const ROUNDS: u32 = 3;

/// The shares of the first scale that are tried: 0.01 to 1.1881 in equal steps (a last one, 1.2, is built by the release
/// and never tried).
pub(super) fn shares() -> impl ExactSizeIterator<Item = f32> + Clone {
    (0..CANDIDATES).map(|i| (0.01 + f64::from(i) * (1.2 - 0.01) / f64::from(CANDIDATES)) as f32)
}

/// For every group the first candidate with the least error; the candidates come with an error per group.
pub(super) fn least_of_groups(errors: &[Vec<f64>], groups: usize) -> Vec<usize> {
    let least = |group: usize| {
        let mut best = (0, f64::INFINITY);
        for (at, errors) in errors.iter().enumerate() {
            if errors[group] < best.1 {
                best = (at, errors[group]);
            }
        }
        best.0
    };
    (0..groups).map(least).collect()
}

/// The largest magnitude.
pub(super) fn reach(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |most, x| most.max(x.abs()))
}
