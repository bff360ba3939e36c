//! The front of a search: browsing it loads plans, leaving it brings the plan back or keeps what was chosen.

#[path = "support/fake.rs"]
mod fake;
#[path = "support/harness.rs"]
mod harness;

use std::sync::Arc;

use bitloupe_quant::session::messages::{Event, Job, Request};
use bitloupe_views::app::overlay::Overlay;
use bitloupe_views::{ColorDepth, Msg};
use harness::Harness;

fn ready() -> Harness {
    Harness::ready(ColorDepth::None, false)
}

fn searches(harness: &Harness) -> usize {
    harness.sent.iter().filter(|request| matches!(request, Request::Search { .. })).count()
}

#[test]
fn the_plan_under_the_cursor_is_loaded_and_esc_brings_the_old_one_back() {
    let mut harness = ready();
    let before = harness.app.plan.current();
    harness.press(&["o"]);
    assert!(harness.app.front.is_some());
    let text = harness.text(120, 40);
    assert!(
        text.contains("4 average bits") && text.contains("W 3.98 A 4.00") && text.contains("repq-vit W6A6")
    );
    harness.press(&["end"]);
    let last = Arc::clone(&harness.app.front.as_ref().unwrap().points[2].plan);
    assert_eq!(harness.app.plan.current().layers, last.layers);
    harness.press(&["up"]);
    assert_ne!(harness.app.plan.current().layers, last.layers);
    harness.press(&["esc"]);
    assert!(harness.app.overlays.is_empty());
    assert_eq!(harness.app.plan.current().layers, before.layers);
    // Enter keeps it, as an edit that can be taken back.
    harness.press(&["o", "home", "enter"]);
    let first = Arc::clone(&harness.app.front.as_ref().unwrap().points[0].plan);
    assert_eq!(harness.app.plan.current().layers, first.layers);
    assert!(harness.app.plan_name.contains("front 4") || harness.app.plan_name.contains("W4A4"));
    harness.press(&["u"]);
    assert_eq!(harness.app.plan.current().layers, before.layers);
}

#[test]
fn it_is_searched_once_and_again_when_asked() {
    let mut harness = ready();
    harness.keys(&["o", "esc", "o"]);
    assert_eq!(searches(&harness), 1, "a search that runs is not begun again");
    assert!(harness.app.jobs.runs(Job::Search));
    let part = fake::front(&harness.model, 1, Some("improving plans"));
    harness.update(Msg::Session(Event::Front(Arc::new(part))));
    assert!(harness.app.jobs.runs(Job::Search), "it goes on");
    assert!(harness.text(100, 30).contains("improving plans"));
    harness.keys(&["x"]);
    assert!(harness.sent.iter().any(|request| matches!(request, Request::Cancel)));
    harness.update(Msg::Session(Event::Front(Arc::new(fake::front(&harness.model, 1, None)))));
    assert!(!harness.app.jobs.runs(Job::Search));
    harness.keys(&["s"]);
    assert_eq!(searches(&harness), 2);
}

#[test]
fn a_budget_between_is_solved_without_a_run() {
    let mut harness = ready();
    harness.press(&["o"]);
    harness.press(&["t", "5", ".", "5", "enter"]);
    let solved: Vec<f64> = harness
        .sent
        .iter()
        .filter_map(|request| match request {
            Request::Solve { average_bits, .. } => Some(*average_bits),
            _ => None,
        })
        .collect();
    assert_eq!(solved.len(), 0, "answered, and so taken off the list");
    let note = harness.app.notes.back().unwrap();
    assert!(
        note.text.contains("5.5 average bits") && note.text.contains("not run by the search"),
        "{}",
        note.text
    );
    // It is a point among the others, under the cursor.
    let limits = |harness: &Harness| -> Vec<String> {
        harness.app.front.as_ref().unwrap().points.iter().map(|point| point.limit.clone()).collect()
    };
    assert!(matches!(harness.app.overlays.last(), Some(Overlay::Front { cursor: 1, .. })));
    let all = ["4 average bits", "5.5 average bits", "6 average bits", "8 average bits"];
    assert_eq!(limits(&harness), all);
    assert!(harness.text(120, 40).contains("between measured plans"));
    harness.press(&["down", "up"]);
    let point = harness.app.front.as_ref().unwrap().points[1].clone();
    assert_eq!(harness.app.plan.current().layers, point.plan.layers);
    // A front that arrives later has it too, once.
    harness.update(Msg::Session(Event::Front(Arc::new(fake::front(&harness.model, 9, None)))));
    assert_eq!(limits(&harness), all);
    harness.press(&["t", "5", ".", "5", "enter"]);
    assert_eq!(limits(&harness), all);
    harness.press(&["home", "down", "b"]);
    assert!(harness.app.compare.is_some(), "it can be compared");
    harness.press(&["o"]);
    harness.press(&["t", "x", "enter"]);
    assert!(harness.app.notes.back().unwrap().text.contains("a number such as"));
}

#[test]
fn the_front_fits_every_size() {
    let mut harness = ready();
    harness.press(&["o"]);
    for (width, height) in [(40, 12), (60, 20), (80, 24), (200, 60)] {
        let text = harness.text(width, height);
        assert!(text.contains("Plans for budgets") && text.contains("average bits"), "{text}");
    }
}
