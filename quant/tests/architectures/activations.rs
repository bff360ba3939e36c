//! Recorded activations that are larger than the results.

use crate::fixture::{Fixture, Run, node_of};

/// What a fixture's README says of its logits: ten times the gap between f32 and f64, and how large they are.
#[derive(Clone, Copy)]
pub(crate) struct Gap {
    pub(crate) tolerance: f32,
    pub(crate) largest: f32,
}

impl Gap {
    /// The gap is relative, as f32 is: for values larger than the logits it grows with them. (LayerNorm gains of these
    /// miniatures make activations of 20 to 45; against f64 the recorded ones are off by up to 1.2e-4 there, ours by less.)
    fn of(self, values: &[f32]) -> f32 {
        let largest = values.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        self.tolerance * (largest / self.largest).max(1.0)
    }
}

/// Compares every recorded activation with the node of its name; at least so many must be there.
pub(crate) fn compare(fixture: &Fixture, run: &Run, gap: Gap, at_least: usize) {
    let listed = std::fs::read(fixture.path("activations.json")).unwrap();
    let listed: Vec<serde_json::Value> = serde_json::from_slice(&listed).unwrap();
    let (mut compared, mut bad) = (0, Vec::new());
    for entry in &listed {
        let name = entry["name"].as_str().unwrap();
        // Also those that were dropped for their size must be found.
        let node = node_of(&run.model.graph, name);
        let Some(tensor) = entry["tensor"].as_str() else { continue };
        compared += 1;
        bad.extend(difference(&run.values(node), &fixture.recorded[tensor].1, gap, name));
    }
    assert!(bad.is_empty(), "{} of {compared} differ:\n{}", bad.len(), bad.join("\n"));
    assert!(compared >= at_least, "only {compared} compared");
}

/// Compares the value of a node, given as the name of an activation, with a recorded tensor.
pub(crate) fn compare_node(fixture: &Fixture, run: &Run, activation: &str, recorded: &str, gap: Gap) {
    let node = node_of(&run.model.graph, activation);
    let bad = difference(&run.values(node), &fixture.recorded[recorded].1, gap, recorded);
    assert_eq!(bad, None);
}

/// What is wrong, if something is.
fn difference(ours: &[f32], theirs: &[f32], gap: Gap, name: &str) -> Option<String> {
    assert_eq!(ours.len(), theirs.len(), "{name}");
    let worse = |worst: f32, gap: f32| if gap > worst || gap.is_nan() { gap } else { worst };
    let worst = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, worse);
    let allowed = gap.of(theirs);
    (worst.is_nan() || worst > allowed).then(|| format!("{name}: {worst:e}, allowed are {allowed:e}"))
}
