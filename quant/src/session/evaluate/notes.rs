//! What a person should know about the figures of a set: samples without truth, labels that mean nothing, cut sentences.

use std::collections::BTreeMap;

use crate::data::{Entry, TextWarning};

/// What one sample has of these.
#[derive(Debug, Clone, Default)]
pub(super) struct Noted {
    /// Whether there is a truth that its answer could be compared with.
    pub(super) compared: bool,
    /// What was lost of its sentence.
    pub(super) text: Vec<TextWarning>,
}

/// Each fact once, with how many samples it is about and where the first is. `labelled` says whether a label is a truth
/// for this task.
pub(super) fn of_set<'s>(
    samples: impl Iterator<Item = (&'s Entry, &'s Noted)>,
    labelled: bool,
) -> Vec<String> {
    let (mut total, mut compared, mut given) = (0_usize, 0_usize, false);
    let mut facts: BTreeMap<Fact, (usize, String)> = BTreeMap::new();
    for (entry, noted) in samples {
        total += 1;
        compared += usize::from(noted.compared);
        let mut note = |fact: Fact, example: String| facts.entry(fact).or_insert((0, example)).0 += 1;
        if !noted.compared {
            match &entry.label {
                Some(label) if labelled => {
                    note(Fact::NoClass, format!("`{label}` at {}", entry.place));
                    given = true;
                }
                _ if entry.mask.is_some() => given = true,
                _ => {}
            }
        }
        for warning in &noted.text {
            let fact = match warning {
                TextWarning::Truncated { .. } => Fact::Cut,
                TextWarning::UnknownWords(_) => Fact::Unknown,
            };
            note(fact, format!("{}: {warning}", entry.place));
        }
    }
    let count = |n: usize| if n == 1 { "1 sample".to_owned() } else { format!("{n} samples") };
    let mut said: Vec<String> = facts
        .into_iter()
        .map(|(fact, (n, example))| match fact {
            Fact::NoClass => format!(
                "{} with a label that is no class of this model count as without truth (first: {example})",
                count(n)
            ),
            Fact::Cut => format!("{} with a text that was cut (first: {example})", count(n)),
            Fact::Unknown => format!("{} with words the model does not know (first: {example})", count(n)),
        })
        .collect();
    if compared < total && (compared > 0 || given) {
        said.push(match compared {
            0 => format!("no truth of the {total} samples can be compared: there are no figures against it"),
            _ => format!("figures against the truth are over {compared} of {total} samples; the others have none that fits"),
        });
    }
    said
}

/// What is noted, in the order it is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fact {
    NoClass,
    Cut,
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(place: &str, label: Option<&str>) -> Entry {
        Entry {
            place: place.to_owned(),
            image: None,
            text: None,
            mask: None,
            points: Vec::new(),
            bbox: None,
            label: label.map(ToOwned::to_owned),
            prompt: None,
            inputs: None,
        }
    }

    fn noted(compared: bool, text: &[TextWarning]) -> Noted {
        Noted { compared, text: text.to_vec() }
    }

    fn said(samples: &[(Entry, Noted)], labelled: bool) -> Vec<String> {
        of_set(samples.iter().map(|(entry, noted)| (entry, noted)), labelled)
    }

    #[test]
    fn nothing_is_said_where_nothing_is_lost() {
        let with =
            [(entry("a:1", Some("cat")), noted(true, &[])), (entry("a:2", Some("dog")), noted(true, &[]))];
        assert!(said(&with, true).is_empty());
        let without = [(entry("a:1", None), noted(false, &[]))];
        assert!(said(&without, true).is_empty());
        // A label that the task has no use for is none that is wrong.
        assert!(said(&[(entry("a:1", Some("cat")), noted(false, &[]))], false).is_empty());
    }

    #[test]
    fn each_fact_is_said_once_with_its_count() {
        let cut = TextWarning::Truncated { tokens: 30, kept: 20 };
        let samples = [
            (entry("a:1", Some("cat")), noted(true, std::slice::from_ref(&cut))),
            (entry("a:2", Some("whale")), noted(false, std::slice::from_ref(&cut))),
            (entry("a:3", Some("squid")), noted(false, &[])),
            (entry("a:4", None), noted(false, &[TextWarning::UnknownWords(vec!["zyx".to_owned()])])),
        ];
        let said = said(&samples, true);
        assert_eq!(said.len(), 4, "{said:?}");
        assert!(said[0].starts_with("2 samples") && said[0].contains("`whale` at a:2"), "{said:?}");
        assert!(said[1].starts_with("2 samples") && said[1].contains("30 tokens"), "{said:?}");
        assert!(said[2].starts_with("1 sample ") && said[2].contains("zyx"), "{said:?}");
        assert!(said[3].contains("over 1 of 4 samples"), "{said:?}");
        let none = [(entry("a:1", Some("whale")), noted(false, &[]))];
        assert!(super::of_set(none.iter().map(|(e, n)| (e, n)), true)[1].contains("no truth of the 1"));
    }
}
