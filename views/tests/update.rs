//! What keys and events do: state and requests, without a frame.

#[path = "support/fake.rs"]
mod fake;
#[path = "support/harness.rs"]
mod harness;

use bitloupe_quant::session::messages::{Event, Job, Request};
use bitloupe_quant::terms::{Bits, Slot};
use bitloupe_views::app::Pane;
use bitloupe_views::{ColorDepth, Effect, Msg};
use harness::Harness;

fn ready() -> Harness {
    let mut harness = Harness::ready(ColorDepth::None, false);
    harness.press(&["]"]);
    harness.effects.clear();
    harness
}

fn kinds(requests: &[Request]) -> Vec<&'static str> {
    let kind = |request: &Request| match request {
        Request::Calibrate => "calibrate",
        Request::Show { .. } => "show",
        Request::Evaluate { .. } => "evaluate",
        Request::Sweep { .. } => "sweep",
        Request::Search { .. } => "search",
        Request::Solve { .. } => "solve",
        Request::Site { .. } => "site",
        Request::Method { .. } => "method",
        Request::Export { .. } => "export",
        Request::Save { .. } => "save",
        Request::Journal { .. } => "journal",
        Request::Keep { .. } => "keep",
        Request::Cancel => "cancel",
        Request::Quit => "quit",
    };
    requests.iter().map(kind).collect()
}

#[test]
fn opening_asks_for_calibration_and_a_first_look() {
    let mut harness = Harness::opening(ColorDepth::None, false);
    let model = harness.model.clone();
    harness.update(Msg::Session(Event::Opened(model)));
    assert_eq!(kinds(&harness.sent), ["calibrate", "show"]);
    // Before the calibration nothing can be fitted: the first look is in full precision.
    assert!(matches!(&harness.sent[1], Request::Show { plan, .. } if plan.sites().count() == 0));
    harness.settle();
    assert!(
        harness.app.calibration.complete && harness.app.sample_is_current() && harness.app.plan_is_fitted()
    );
}

#[test]
fn an_edit_is_kept_and_run_at_once() {
    let mut harness = ready();
    harness.keys(&["left"]);
    assert_eq!(kinds(&harness.sent), ["journal", "show", "site"]);
    assert!(matches!(harness.effects.last(), Some(Effect::WakeAfter(_))));
    assert!(!harness.app.sample_is_current() && !harness.app.plan_is_fitted());
    harness.settle();
    assert!(harness.app.sample_is_current() && harness.app.plan_is_fitted());
    assert_eq!(harness.app.bits(), Bits::new(6).unwrap());
    harness.update(Msg::Wake);
    assert_eq!(kinds(&harness.sent), ["evaluate"]);
    assert!(!harness.app.set_is_current());
    harness.settle();
    assert!(harness.app.set_is_current());
    harness.update(Msg::Wake);
    assert!(harness.sent.is_empty(), "evaluated once an edit");
}

#[test]
fn old_answers_are_dropped() {
    let mut harness = ready();
    harness.keys(&["left"]);
    let old = std::mem::take(&mut harness.sent);
    harness.press(&["left"]);
    let newest = harness.app.shown.as_ref().unwrap().generation;
    for request in old {
        for event in fake::respond(&harness.model.clone(), &request) {
            harness.update(Msg::Session(event));
        }
    }
    assert_eq!(harness.app.shown.as_ref().unwrap().generation, newest);
    assert_eq!(harness.app.fitted.as_ref().unwrap().generation, newest);
}

#[test]
fn undo_and_redo_bring_plans_back() {
    let mut harness = ready();
    let before = harness.app.plan.current();
    harness.press(&["3"]);
    harness.press(&["left"]);
    let after = harness.app.plan.current();
    assert!(harness.app.plan.is_dirty());
    harness.press(&["u"]);
    harness.press(&["u"]);
    assert_eq!(harness.app.plan.current(), before);
    assert!(!harness.app.plan.is_dirty());
    harness.press(&["u"]);
    assert!(harness.app.notes.back().unwrap().text.contains("nothing to undo"));
    harness.press(&["ctrl-r", "ctrl-r"]);
    assert_eq!(harness.app.plan.current(), after);
}

#[test]
fn a_held_arrow_is_one_step_of_the_history() {
    let mut harness = ready();
    harness.press(&["left", "left", "left"]);
    assert_eq!(harness.app.bits(), Bits::new(4).unwrap());
    harness.press(&["u"]);
    assert_eq!(harness.app.bits(), Bits::new(8).unwrap());
}

#[test]
fn float_comes_back_as_it_was() {
    let mut harness = ready();
    harness.press(&["3", "left", "left", "f"]);
    assert!(harness.app.bits().is_float());
    harness.press(&["f"]);
    assert_eq!(harness.app.bits(), Bits::new(5).unwrap());
    assert_eq!(harness.app.current_choice(), Some(2));
}

#[test]
fn a_group_edits_all_its_sites() {
    let mut harness = Harness::ready(ColorDepth::None, false);
    harness.press(&["home"]);
    assert!(harness.app.on_group());
    let targets = harness.app.targets();
    assert!(targets.len() > 10 && targets.iter().all(|site| site.slot != Slot::Weight));
    harness.press(&["w", "f"]);
    assert!(harness.app.targets().iter().all(|site| harness.app.plan.bits(site).is_float()));
    harness.press(&["u"]);
    assert!(!harness.app.plan.is_dirty());
}

#[test]
fn operands_of_a_product_take_turns() {
    let mut harness = ready();
    harness.press(&["]", "]"]);
    let slot = |harness: &Harness| harness.app.site_id().unwrap().slot;
    assert_eq!(slot(&harness), Slot::Lhs);
    harness.press(&["a"]);
    assert_eq!(slot(&harness), Slot::Rhs);
    harness.press(&["a"]);
    assert_eq!(slot(&harness), Slot::Lhs);
    harness.press(&["w"]);
    assert_eq!(slot(&harness), Slot::Rhs);
    harness.press(&["["]);
    assert_eq!(slot(&harness), Slot::Weight);
}

#[test]
fn a_filter_is_live_and_esc_brings_the_old_one_back() {
    let mut harness = ready();
    let all = harness.app.layers.rows().len();
    harness.press(&["/", "f", "c", "1"]);
    assert!(harness.app.layers.rows().len() < all);
    harness.press(&["esc"]);
    assert_eq!(harness.app.layers.rows().len(), all);
    harness.press(&["/", "b", "i", "m", "o", "d", "a", "l", "enter"]);
    assert_eq!(harness.app.layers.matches(), 10);
    harness.press(&["esc"]);
    assert_eq!(harness.app.layers.rows().len(), all);
}

#[test]
fn a_choice_goes_to_all_sites_of_its_role() {
    let mut harness = ready();
    harness.press(&["]", "2", "A"]);
    let scheme = harness.app.plan.scheme(harness.app.site_id().unwrap());
    let targets = harness.app.role_targets();
    assert!(targets.len() > 5);
    assert!(targets.iter().all(|site| harness.app.plan.scheme(site) == scheme));
}

#[test]
fn a_typed_sentence_is_run_and_taken_back() {
    let mut harness = ready();
    harness.keys(&["t"]);
    harness.keys(&["!", "enter"]);
    assert!(matches!(&harness.sent[0], Request::Show { text: Some(text), .. } if text.ends_with('!')));
    harness.settle();
    let shown = harness.app.shown.clone().unwrap();
    assert!(!shown.own_text && shown.truth.is_none() && harness.app.sample_is_current());
    harness.press(&["n", "p"]);
    assert!(harness.app.typed_sentence().is_some(), "a sentence stays with its sample");
    harness.press(&["T"]);
    assert!(harness.app.shown.as_ref().unwrap().own_text);
}

#[test]
fn pasted_text_is_one_clean_line() {
    let mut harness = ready();
    harness.keys(&["t", "ctrl-u"]);
    harness.update(Msg::Paste("red\n\x1b[2Jcircle".into()));
    harness.keys(&["enter"]);
    assert!(
        matches!(&harness.sent[0], Request::Show { text: Some(text), .. } if !text.chars().any(char::is_control))
    );
}

#[test]
fn leaving_asks_while_the_plan_is_unsaved() {
    let mut harness = ready();
    harness.press(&["q"]);
    assert!(matches!(harness.effects.last(), Some(Effect::Quit)));
    harness.effects.clear();
    harness.press(&["left", "q"]);
    assert!(!harness.effects.iter().any(|effect| matches!(effect, Effect::Quit)));
    harness.press(&["esc", "q", "s"]);
    assert!(matches!(harness.effects.last(), Some(Effect::Quit)), "saved, then left");
    assert!(!harness.app.plan.is_dirty());
}

#[test]
fn files_of_others_are_asked_about() {
    use bitloupe_views::app::overlay::Overlay;
    let mut harness = ready();
    harness.press(&["left"]);
    harness.keys(&["q", "s"]);
    let Some(Request::Save { plan, path, replace: false }) = harness.sent.first().cloned() else {
        panic!("{:?}", harness.sent)
    };
    let files = vec![path.clone()];
    let occupied = || {
        let request = Request::Save { plan: plan.clone(), path: path.clone(), replace: true };
        Msg::Session(Event::Occupied { request: Box::new(request), files: files.clone() })
    };
    harness.sent.clear();
    harness.update(occupied());
    assert!(matches!(harness.app.overlays.as_slice(), [Overlay::Replace { .. }]));
    // Left as they are, nothing is written and nobody leaves.
    harness.effects.clear();
    harness.press(&["esc"]);
    assert!(harness.sent.is_empty() && harness.effects.is_empty() && harness.app.plan.is_dirty());
    assert!(harness.app.notes.back().unwrap().text.contains("--plan"));
    harness.update(occupied());
    harness.press(&["y"]);
    assert!(!harness.app.plan.is_dirty());
    // The export asks in the same way.
    harness.keys(&["e"]);
    assert!(
        matches!(harness.sent.last(), Some(Request::Export { replace: false, .. })),
        "{:?}",
        harness.sent
    );
}

#[test]
fn a_sample_that_fails_is_no_picture_of_another() {
    let mut harness = ready();
    harness.keys(&["n"]);
    let message = "b.png: not a picture".to_owned();
    harness.update(Msg::Session(Event::Failed { job: Job::Sample, message }));
    assert_eq!(harness.app.sample_failure.as_deref(), Some("b.png: not a picture"));
    harness.press(&["p"]);
    assert!(harness.app.sample_failure.is_none() && harness.app.sample_is_current());
}

#[test]
fn a_failed_save_does_not_leave() {
    let mut harness = ready();
    harness.press(&["left"]);
    harness.keys(&["q", "s"]);
    harness.effects.clear();
    harness.update(Msg::Session(Event::Failed { job: Job::Save, message: "no space left".into() }));
    assert!(harness.effects.is_empty() && harness.app.plan.is_dirty());
    assert_eq!(harness.app.notes.back().unwrap().text, "no space left");
}

#[test]
fn ctrl_c_leaves_from_anywhere() {
    for keys in [vec![], vec!["t"], vec!["/"], vec!["?"], vec!["b"]] {
        let mut harness = ready();
        harness.press(&["left"]);
        harness.press(&keys);
        harness.keys(&["ctrl-c"]);
        assert!(matches!(harness.effects.last(), Some(Effect::Quit)), "{keys:?}");
    }
}

#[test]
fn help_runs_what_is_found() {
    let mut harness = ready();
    harness.keys(&["?", "e", "v", "a", "l", "u", "enter"]);
    assert_eq!(kinds(&harness.sent), ["evaluate"]);
    assert!(harness.app.overlays.is_empty());
}

#[test]
fn what_cannot_be_done_says_why() {
    let mut harness = Harness::opening(ColorDepth::None, false);
    harness.keys(&["left"]);
    assert!(harness.app.notes.back().unwrap().text.contains("still opening"));
    assert!(harness.sent.is_empty());
}

#[test]
fn jobs_can_be_cancelled() {
    let mut harness = ready();
    harness.keys(&["v"]);
    assert!(harness.app.jobs.runs(Job::Evaluation) && harness.app.is_animated());
    harness.sent.clear();
    harness.keys(&["esc"]);
    assert_eq!(kinds(&harness.sent), ["cancel"]);
    harness.sent.clear();
    harness.update(Msg::Session(Event::Cancelled { job: Job::Evaluation }));
    assert!(!harness.app.is_animated(), "nothing moves when nothing runs");
}

#[test]
fn a_newer_evaluation_stops_the_older_one_without_a_word() {
    let mut harness = ready();
    harness.keys(&["v"]);
    let notes = harness.app.notes.len();
    harness.update(Msg::Session(Event::Cancelled { job: Job::Evaluation }));
    assert_eq!(harness.app.notes.len(), notes);
    assert!(harness.app.jobs.runs(Job::Evaluation), "the newer one goes on");
}

#[test]
fn the_session_may_end_before_the_interface() {
    let mut harness = ready();
    harness.update(Msg::SessionEnded(Some("out of memory".into())));
    assert!(harness.app.notes.back().unwrap().text.contains("out of memory"));
    harness.keys(&["left", "v", "n"]);
    assert!(harness.sent.is_empty());
    harness.keys(&["q"]);
    assert!(matches!(harness.effects.last(), Some(Effect::Quit)));
}

#[test]
fn escape_sequences_in_messages_stay_text() {
    let mut harness = ready();
    harness.update(Msg::Session(Event::Warning { message: "a\x1b[31mb\nc".into() }));
    assert!(!harness.app.notes.back().unwrap().text.chars().any(char::is_control));
}

#[test]
fn tab_goes_round_the_panes() {
    let mut harness = ready();
    for pane in [Pane::Histogram, Pane::Quantizers, Pane::Why, Pane::Samples, Pane::Layers] {
        harness.press(&["tab"]);
        assert_eq!(harness.app.focus, pane);
    }
    harness.press(&["backtab"]);
    assert_eq!(harness.app.focus, Pane::Samples);
}

#[test]
fn sorting_by_decibels_puts_the_worst_first() {
    let mut harness = ready();
    harness.press(&[">", "home"]);
    let first = harness.app.layers.layer().unwrap();
    let least = (0..harness.model.layers.len()).filter_map(|layer| harness.app.facts.layer(layer)?.decibels);
    assert_eq!(harness.app.facts.layer(first).unwrap().decibels, least.reduce(f64::min));
}

#[test]
fn the_worst_sample_is_one_key_away() {
    let mut harness = ready();
    let mut set = fake::set(&harness.model, 99, &harness.app.plan.current(), harness.model.samples.len());
    set.per_sample[3].1 = 0.1;
    harness.update(Msg::Session(Event::Set(std::sync::Arc::new(set))));
    harness.press(&["N"]);
    assert_eq!(harness.app.sample, 3);
}

#[test]
fn nothing_is_written_before_the_calibration() {
    let mut harness = Harness::opening(ColorDepth::None, false);
    let model = harness.model.clone();
    harness.update(Msg::Session(Event::Opened(model)));
    harness.sent.clear();
    harness.keys(&["e", "S", "v"]);
    assert!(harness.sent.is_empty());
    assert!(harness.app.notes.back().unwrap().text.contains("calibration"));
}

#[test]
fn the_manual_lists_every_command() {
    let table = bitloupe_views::key_table();
    insta::assert_snapshot!(table);
}
