//! Plans kept under a name while others are tried.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::file::{FORMAT, explain, too_large};
use super::{Plan, PlanError};

/// The version of the file of kept plans.
const KEPT_FORMAT: &str = "bitloupe-snapshots/1";

/// Snapshots that are kept of one model at most.
pub const MAX_SNAPSHOTS: usize = 50;
/// Characters of a name at most.
const MAX_NAME: usize = 60;

/// A plan under a name, with the figures that it had when it was run last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The name; no two snapshots of a model have the same.
    pub name: String,
    /// What was measured.
    #[serde(default)]
    pub figures: Figures,
    /// The plan.
    #[serde(with = "shared")]
    pub plan: Arc<Plan>,
}

/// What is known of a plan besides itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// Once it was fitted.
    #[serde(default)]
    pub cost: Option<Cost>,
    /// Once all samples were evaluated.
    #[serde(default)]
    pub accuracy: Option<Accuracy>,
}

/// Bits and bytes of a fitted plan.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// Average bits of weights, weighted by their number.
    pub weight_bits: f64,
    /// Average bits of activations, weighted by the MACs of their layer.
    pub activation_bits: f64,
    /// Bytes of the weights.
    pub weight_bytes: u64,
}

/// The standing figure of an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accuracy {
    /// Its name for people, e.g. `mIoU`.
    pub metric: String,
    /// Samples evaluated.
    pub samples: u64,
    /// Under the plan, with truth.
    #[serde(default)]
    pub quantized: Option<f64>,
    /// In full precision, with truth.
    #[serde(default)]
    pub full_precision: Option<f64>,
    /// Answers under the plan with those of full precision.
    pub agreement: f64,
}

/// The one of two compared plans that is not shown, kept while one of both has unsaved edits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hidden {
    /// Whether it is B, and the shown plan A.
    pub is_b: bool,
    /// The plan.
    #[serde(with = "shared")]
    pub plan: Arc<Plan>,
}

/// All plans that are kept beside the one that is edited.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    format: String,
    /// In the order in which they were taken.
    pub snapshots: Vec<Snapshot>,
    /// The hidden one of two compared plans.
    #[serde(default)]
    pub hidden: Option<Hidden>,
}

impl Default for Kept {
    fn default() -> Self {
        Self::new(Vec::new(), None)
    }
}

impl Kept {
    /// Snapshots and the hidden side of a comparison.
    pub fn new(snapshots: Vec<Snapshot>, hidden: Option<Hidden>) -> Self {
        Self { format: KEPT_FORMAT.to_owned(), snapshots, hidden }
    }

    /// Whether there is nothing to keep.
    pub fn is_empty(&self) -> bool {
        self.snapshots.is_empty() && self.hidden.is_none()
    }

    /// The file's content; what could not be read again is an error now.
    pub(super) fn to_json(&self, fingerprint: &str) -> Result<String, PlanError> {
        let failed = |reason: String| PlanError::Value { path: "the snapshots".to_owned(), reason };
        let mut json = serde_json::to_string(self).map_err(|e| failed(e.to_string()))?;
        json.push('\n');
        Self::from_json("the written snapshots", json.as_bytes(), fingerprint)
            .map(|_| json)
            .map_err(|error| failed(format!("they cannot be kept: {error}")))
    }

    /// Reads a file's content strictly; `path` is for messages. All plans must be for the model.
    pub(super) fn from_json(path: &str, json: &[u8], fingerprint: &str) -> Result<Self, PlanError> {
        let broken = |error: serde_json::Error| PlanError::Json {
            path: path.to_owned(),
            line: error.line(),
            column: error.column(),
            reason: explain(&error),
        };
        let wrong = |reason: String| PlanError::Value { path: path.to_owned(), reason };
        let value: Value = serde_json::from_slice(json).map_err(broken)?;
        match value.get("format").and_then(Value::as_str) {
            Some(KEPT_FORMAT) => {}
            found => {
                return Err(PlanError::Format {
                    path: path.to_owned(),
                    found: found.unwrap_or("none").chars().take(40).collect(),
                    expected: KEPT_FORMAT,
                });
            }
        }
        if let Some(number) = too_large(&value) {
            return Err(wrong(format!("the number {number} is too large; expected finite 32-bit values")));
        }
        drop(value);
        let kept: Self = serde_json::from_slice(json).map_err(broken)?;
        if kept.snapshots.len() > MAX_SNAPSHOTS {
            return Err(wrong(format!(
                "{} snapshots; at most {MAX_SNAPSHOTS} are kept, delete some",
                kept.snapshots.len()
            )));
        }
        let mut names = BTreeSet::new();
        for snapshot in &kept.snapshots {
            let name = &snapshot.name;
            if clean_name(name).as_ref() != Some(name) {
                return Err(wrong(format!(
                    "{name:?} is no name of a snapshot; expected 1 to {MAX_NAME} characters on a line"
                )));
            }
            if !names.insert(name) {
                return Err(wrong(format!("two snapshots are named {name:?}; keep one of them")));
            }
        }
        let plans = kept.snapshots.iter().map(|s| &s.plan).chain(kept.hidden.iter().map(|h| &h.plan));
        for plan in plans {
            if plan.format != FORMAT {
                let found = plan.format.chars().take(40).collect();
                return Err(PlanError::Format { path: path.to_owned(), found, expected: FORMAT });
            }
            if plan.model.fingerprint != fingerprint {
                return Err(wrong(format!("a plan is for model {}", plan.model.name)));
            }
        }
        Ok(kept)
    }
}

/// A name as it may be kept: one line without spaces around it, not too long; none if nothing is left.
pub fn clean_name(text: &str) -> Option<String> {
    let spaced: String = text.chars().map(|ch| if ch.is_control() { ' ' } else { ch }).collect();
    let cut: String = spaced.trim().chars().take(MAX_NAME).collect();
    let name = cut.trim_end();
    (!name.is_empty()).then(|| name.to_owned())
}

/// A shared plan in a file.
mod shared {
    use super::{Arc, Plan};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(plan: &Arc<Plan>, serializer: S) -> Result<S::Ok, S::Error> {
        Plan::serialize(plan, serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<Plan>, D::Error> {
        Plan::deserialize(deserializer).map(Arc::new)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::example::{model, plan};
    use super::*;

    /// Two snapshots, one of them with figures, and a hidden side.
    pub(in super::super) fn kept() -> Kept {
        let figures = Figures {
            cost: Some(Cost { weight_bits: 4.25, activation_bits: 8.0, weight_bytes: 1_100_000 }),
            accuracy: Some(Accuracy {
                metric: "mIoU".to_owned(),
                samples: 24,
                quantized: Some(0.742),
                full_precision: None,
                agreement: 0.9,
            }),
        };
        let snapshot = |name: &str, figures| Snapshot { name: name.to_owned(), figures, plan: plan().into() };
        let snapshots = vec![snapshot("before lunch", figures), snapshot("W4", Figures::default())];
        Kept::new(snapshots, Some(Hidden { is_b: true, plan: plan().into() }))
    }

    #[test]
    fn what_is_kept_is_written_and_read() {
        let fingerprint = model().fingerprint;
        for kept in [kept(), Kept::default()] {
            let json = kept.to_json(&fingerprint).unwrap();
            assert_eq!(Kept::from_json("s.json", json.as_bytes(), &fingerprint).unwrap(), kept);
        }
    }

    #[test]
    fn bad_files_are_errors_that_say_what() {
        let fingerprint = model().fingerprint;
        let good = kept().to_json(&fingerprint).unwrap();
        let swap = |from: &str, to: &str| {
            assert!(good.contains(from), "{from}");
            good.replacen(from, to, 1)
        };
        let cases = [
            (String::new(), "s.json:1:0"),
            ("[]".to_owned(), "`none`"),
            (swap("bitloupe-snapshots/1", "bitloupe-snapshots/9"), "snapshots/9"),
            (swap("\"hidden\"", "\"concealed\""), "unknown field `concealed`"),
            (swap("before lunch", "W4"), "two snapshots"),
            (swap("before lunch", "before\\nlunch"), "no name"),
            (swap("before lunch", ""), "no name"),
            (swap("bitloupe-plan/1", "bitloupe-plan/7"), "plan/7"),
            (swap("0123abcd", "ffff"), "for model lavt-mini"),
            (swap("4.25", "1e300"), "too large"),
            (swap("0.742", "\"good\""), "invalid type"),
        ];
        for (text, part) in cases {
            let error = Kept::from_json("s.json", text.as_bytes(), &fingerprint).unwrap_err().to_string();
            assert!(error.starts_with("s.json") && error.contains(part), "{part}: {error}");
        }
        let many = kept().snapshots.remove(0);
        let name = |n: usize| Snapshot { name: n.to_string(), ..many.clone() };
        let list = Kept::new((0..=MAX_SNAPSHOTS).map(name).collect(), None);
        assert!(list.to_json(&fingerprint).unwrap_err().to_string().contains("51 snapshots"));
    }

    #[test]
    fn names_are_one_short_line() {
        assert_eq!(clean_name(" a\tb \n"), Some("a b".to_owned()));
        assert_eq!(clean_name(" \n"), None);
        let long = "ä".repeat(MAX_NAME - 1) + " bc";
        assert_eq!(clean_name(&long), Some("ä".repeat(MAX_NAME - 1)));
    }
}
