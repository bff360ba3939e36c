//! What sites cost: asked for, shown, and kept only as long as it is true.

#[path = "support/fake.rs"]
mod fake;
#[path = "support/harness.rs"]
mod harness;

use std::sync::Arc;

use bitloupe_quant::eval::sensitivity::By;
use bitloupe_quant::session::messages::{Event, Job, Request};
use bitloupe_views::app::layers::Sort;
use bitloupe_views::{ColorDepth, Msg};
use harness::Harness;

fn ready() -> Harness {
    Harness::ready(ColorDepth::None, false)
}

fn last_note(harness: &Harness) -> &str {
    harness.app.notes.back().map_or("", |note| note.text.as_str())
}

#[test]
fn the_most_harmful_layer_comes_first_and_its_effect_is_told() {
    let mut harness = ready();
    harness.press(&["]", "]", "]", "]"]);
    harness.press(&["s"]);
    assert_eq!(harness.app.layers.sort, Sort::Effect);
    assert_eq!(harness.app.layers.cursor, 0, "the ranking is read from its top");
    assert!(last_note(&harness).contains("on 32 samples"), "{}", last_note(&harness));
    let first = harness.app.layers.layer().unwrap();
    assert_eq!(first, 0, "the made-up session says so");
    let worst = harness.app.facts.layer(first).unwrap().effect.unwrap();
    assert!((worst + 0.06).abs() < 1e-12);
    let text = harness.text(200, 60);
    assert!(text.contains("ΔIoU") && text.contains("−.060"), "{text}");
    assert!(text.contains("when only it is quantized (32 samples)"), "{text}");
    assert!(harness.text(80, 24).contains("−.060"));
}

#[test]
fn an_effect_holds_as_long_as_the_choice_is_the_same() {
    let mut harness = ready();
    harness.press(&["s", "home"]);
    let site = harness.app.site_id().unwrap().clone();
    let other = harness.model.layers[3].sites[0].site.clone();
    assert!(harness.app.effect(&site).is_some());
    harness.press(&["left"]);
    assert!(harness.app.effect(&site).is_none(), "that was another width");
    assert!(harness.app.effect(&other).is_some(), "its own choice is what it was");
    harness.press(&["u"]);
    assert!(harness.app.effect(&site).is_some());
    // Measured already: nothing is asked again.
    harness.sent.clear();
    harness.keys(&["s"]);
    assert!(!harness.sent.iter().any(|request| matches!(request, Request::Sweep { .. })));
    assert!(last_note(&harness).contains("every site is measured"));
    harness.press(&["left"]);
    harness.keys(&["s"]);
    assert!(harness.sent.iter().any(|request| matches!(request, Request::Sweep { .. })));
}

#[test]
fn a_first_ranking_is_shown_while_the_rest_is_measured_and_stopping_keeps_it() {
    let mut harness = ready();
    harness.keys(&["s"]);
    assert!(harness.app.jobs.runs(Job::Sensitivity) && harness.app.jobs.cancellable());
    let plan = harness.app.plan.current();
    let mut part = fake::sensitivity(&harness.model, 1, &plan, 1);
    part.sites.truncate(5);
    harness.update(Msg::Session(Event::Sensitivity(Arc::new(part.clone()))));
    assert!(harness.app.jobs.runs(Job::Sensitivity));
    assert!(harness.app.effect(&part.sites[0].site).is_some());
    harness.update(Msg::Session(Event::Cancelled { job: Job::Sensitivity }));
    assert!(!harness.app.jobs.runs(Job::Sensitivity));
    assert!(harness.app.effect(&part.sites[0].site).is_some());
}

#[test]
fn a_plan_that_quantizes_nothing_has_nothing_to_measure() {
    let mut harness = ready();
    // All layers to float.
    harness.press(&["&", "f"]);
    harness.sent.clear();
    harness.keys(&["s"]);
    let any = harness.app.plan.current().sites().any(|(_, site)| !site.bits().is_float());
    assert_eq!(any, harness.sent.iter().any(|request| matches!(request, Request::Sweep { .. })));
    if !any {
        assert!(last_note(&harness).contains("quantizes nothing"));
    }
}

#[test]
fn parts_are_grouped_and_measured_as_chosen() {
    let mut harness = Harness::ready(ColorDepth::None, false);
    harness.press(&["I"]);
    let text = harness.text(120, 40);
    assert!(text.contains("What parts cost") && text.contains("role post-softmax"), "{text}");
    assert!(!text.contains("without"), "{text}");
    harness.press(&["a", "c"]);
    let text = harness.text(120, 40);
    assert!(text.contains("without") && text.contains("calibr."), "{text}");
    harness.press(&["b"]);
    assert_eq!(harness.app.parts.of.by, By::Block);
    assert!(harness.text(120, 40).contains("block query"));
    // The table is kept until the plan is another one.
    let asked = |harness: &Harness| harness.sent.iter().any(|r| matches!(r, Request::Parts { .. }));
    harness.keys(&["esc", "I"]);
    assert!(!asked(&harness));
    harness.press(&["esc", "right"]);
    harness.keys(&["I"]);
    assert!(asked(&harness));
    harness.settle();
    for (width, height) in [(40, 12), (60, 20), (200, 60)] {
        assert!(harness.text(width, height).contains("What parts cost"));
    }
}

#[test]
fn the_whole_model_is_explained_and_scrolled() {
    let mut harness = Harness::ready(ColorDepth::None, false);
    harness.press(&["i"]);
    let first = |harness: &mut Harness| harness.text(100, 24).contains("Sentence number 1 of");
    let last = |harness: &mut Harness| harness.text(100, 24).contains("Sentence number 60 of");
    assert!(first(&mut harness) && !last(&mut harness));
    harness.press(&["pagedown"; 12]);
    assert!(!first(&mut harness) && last(&mut harness));
    harness.press(&["home"]);
    assert!(first(&mut harness));
    harness.press(&["esc"]);
    assert!(harness.app.overlays.is_empty());
    // Another plan needs another diagnosis.
    let asked = |harness: &Harness| harness.sent.iter().any(|r| matches!(r, Request::Diagnose { .. }));
    harness.keys(&["i", "esc"]);
    assert!(!asked(&harness));
    harness.press(&["right"]);
    harness.keys(&["i"]);
    assert!(asked(&harness));
}
