//! Snapshots of the plan and the comparison of two: state and requests, without a frame.

#[path = "support/fake.rs"]
mod fake;
#[path = "support/harness.rs"]
mod harness;

use std::sync::Arc;

use bitloupe_quant::plan::{Hidden, Kept, Plan};
use bitloupe_quant::session::messages::Request;
use bitloupe_quant::terms::Bits;
use bitloupe_views::app::compare::Side;
use bitloupe_views::app::overlay::{DiffWith, Overlay};
use bitloupe_views::{ColorDepth, Effect, Msg};
use harness::Harness;

/// On the first layer, evaluated.
fn ready() -> Harness {
    let mut harness = Harness::ready(ColorDepth::None, false);
    harness.press(&["]"]);
    harness
}

fn bits(width: u8) -> Bits {
    Bits::new(width).unwrap()
}

/// Takes a snapshot under a name.
fn keep(harness: &mut Harness, name: &str) {
    harness.press(&["K", "ctrl-u"]);
    harness.update(Msg::Paste(name.into()));
    harness.press(&["enter"]);
}

fn names(harness: &Harness) -> Vec<&str> {
    harness.app.snapshots.list().iter().map(|snapshot| snapshot.name.as_str()).collect()
}

/// What the session was last told to keep.
fn kept(sent: &[Request]) -> Option<&Kept> {
    sent.iter().rev().find_map(|request| match request {
        Request::Keep { kept } => Some(kept),
        _ => None,
    })
}

fn last_note(harness: &Harness) -> &str {
    harness.app.notes.back().map_or("", |note| note.text.as_str())
}

/// Fits, runs and evaluates what was edited.
fn evaluate(harness: &mut Harness) {
    harness.update(Msg::Wake);
    harness.settle();
    assert!(harness.app.set_is_current());
}

#[test]
fn a_snapshot_is_offered_the_plans_name_and_has_its_figures() {
    let mut harness = ready();
    harness.press(&["left"]);
    evaluate(&mut harness);
    harness.keys(&["K", "enter"]);
    let kept = kept(&harness.sent).unwrap().snapshots.clone();
    assert_eq!(kept.len(), 1);
    assert_eq!(
        (kept[0].name.as_str(), &kept[0].plan),
        ("W8A8 min–max, 1 changed", &harness.app.plan.current())
    );
    let (cost, accuracy) = (kept[0].figures.cost.unwrap(), kept[0].figures.accuracy.clone().unwrap());
    let fitted = harness.app.fitted.clone().unwrap();
    assert_eq!((cost.weight_bits, cost.weight_bytes), (fitted.weight_bits, fitted.weight_bytes));
    assert_eq!(
        (accuracy.metric.as_str(), accuracy.quantized),
        ("mIoU", harness.app.set.clone().unwrap().quantized)
    );
    // The name of the next one is free.
    harness.settle();
    harness.press(&["K", "enter"]);
    assert_eq!(names(&harness), ["W8A8 min–max, 1 changed", "W8A8 min–max, 1 changed (2)"]);
    assert!(harness.app.plan.is_dirty(), "a snapshot is no saved file");
}

#[test]
fn figures_follow_when_the_plan_is_measured_later() {
    let mut harness = ready();
    harness.keys(&["left"]);
    harness.keys(&["K", "enter"]);
    assert_eq!(harness.app.snapshots.list()[0].figures.cost, None, "not fitted yet");
    harness.settle();
    assert!(harness.app.snapshots.list()[0].figures.cost.is_some());
    assert_eq!(harness.app.snapshots.list()[0].figures.accuracy, None);
    harness.update(Msg::Wake);
    harness.settle();
    assert!(harness.app.snapshots.list()[0].figures.accuracy.is_some());
    // The figures of another plan change nothing.
    let before = harness.app.snapshots.list().to_vec();
    harness.press(&["left"]);
    evaluate(&mut harness);
    assert_eq!(harness.app.snapshots.list(), before);
}

#[test]
fn loading_a_snapshot_is_one_edit() {
    let mut harness = ready();
    harness.press(&["left", "]", "3"]);
    let plan = harness.app.plan.current();
    keep(&mut harness, "good one");
    harness.press(&["P", "2"]);
    let preset = harness.app.plan.current();
    assert_ne!(preset, plan);
    harness.keys(&["L", "enter"]);
    assert_eq!(harness.app.plan.current(), plan);
    assert!(harness.sent.iter().any(|request| matches!(request, Request::Show { .. })));
    harness.settle();
    assert_eq!(harness.app.plan_name, "good one");
    harness.press(&["u"]);
    assert_eq!(harness.app.plan.current(), preset);
    assert!(last_note(&harness).contains("undone: snapshot \"good one\""));
    harness.press(&["ctrl-r", "L", "1"]);
    assert!(last_note(&harness).contains("already"));
    harness.press(&["left"]);
    assert_eq!(harness.app.plan_name, "good one +1");
}

#[test]
fn the_list_is_edited_and_that_is_taken_back() {
    let mut harness = ready();
    keep(&mut harness, "one");
    harness.press(&["left"]);
    keep(&mut harness, "two");
    harness.press(&["L", "down", "r", "ctrl-u"]);
    harness.keys(&["z", "w", "o", "enter"]);
    assert_eq!(kept(&harness.sent).unwrap().snapshots[1].name, "zwo");
    harness.sent.clear();
    assert!(matches!(harness.app.overlays.as_slice(), [Overlay::Snapshots(1)]), "back in the list");
    // A name that another one has is refused, and the question stays.
    harness.keys(&["r", "ctrl-u", "o", "n", "e", "enter"]);
    assert!(last_note(&harness).contains("already") && harness.sent.is_empty());
    harness.keys(&["esc", "up", "d"]);
    assert_eq!(names(&harness), ["zwo"]);
    assert_eq!(kept(&harness.sent).unwrap().snapshots.len(), 1);
    harness.keys(&["u", "u"]);
    assert_eq!(names(&harness), ["one", "two"]);
    assert_eq!(kept(&harness.sent).unwrap().snapshots[1].name, "two");
    harness.keys(&["u", "u", "u"]);
    assert!(names(&harness).is_empty() && last_note(&harness).contains("nothing"));
    assert!(harness.app.plan.is_dirty(), "the plan has its own history");
}

#[test]
fn the_same_name_replaces() {
    let mut harness = ready();
    keep(&mut harness, "one");
    harness.press(&["left"]);
    keep(&mut harness, " one\t");
    assert_eq!(names(&harness), ["one"]);
    assert_eq!(harness.app.snapshots.list()[0].plan, harness.app.plan.current());
    assert!(last_note(&harness).contains("replaced"));
    // Without a name there is no snapshot.
    harness.press(&["K", "ctrl-u", "enter"]);
    assert!(last_note(&harness).contains("needs a name") && names(&harness).len() == 1);
    harness.press(&["esc"]);
    assert!(harness.app.overlays.is_empty());
}

#[test]
fn a_snapshot_is_exported_into_a_folder_of_its_own() {
    let mut harness = ready();
    keep(&mut harness, "../a b");
    harness.press(&["left"]);
    harness.keys(&["L", "e"]);
    let [Request::Export { plan, folder, .. }] = harness.sent.as_slice() else {
        panic!("{:?}", harness.sent)
    };
    assert_eq!(folder, &std::path::Path::new("export").join("a-b"));
    assert_eq!(plan, &harness.app.snapshots.list()[0].plan);
    harness.settle();
    assert!(last_note(&harness).contains("exported") && harness.app.plan.is_dirty());
}

#[test]
fn no_more_are_kept_than_there_is_room_for() {
    let mut harness = ready();
    for _ in 0..bitloupe_quant::plan::MAX_SNAPSHOTS {
        harness.press(&["K", "enter"]);
    }
    harness.press(&["K"]);
    assert!(harness.app.overlays.is_empty() && last_note(&harness).contains("delete one"));
}

#[test]
fn snapshots_of_earlier_sessions_are_there() {
    let mut harness = ready();
    harness.press(&["left"]);
    keep(&mut harness, "from yesterday");
    let list = harness.app.snapshots.list().to_vec();
    let mut again = Harness::opening(ColorDepth::None, false);
    Arc::make_mut(&mut again.model).kept = Kept::new(list, None);
    again.open();
    again.press(&["L", "enter"]);
    assert_eq!(again.app.plan_name, "from yesterday");
    assert_eq!(again.app.plan.current(), harness.app.plan.current());
}

/// A: eight bits. B: the same with two bits in the first site, kept as "two" and shown.
fn comparing() -> Harness {
    let mut harness = ready();
    harness.press(&["b", "2"]);
    keep(&mut harness, "two");
    harness.press(&["u"]);
    evaluate(&mut harness);
    harness.press(&["B", "1"]);
    evaluate(&mut harness);
    assert_eq!(harness.app.side(), Some(Side::B));
    assert_eq!(harness.app.bits(), bits(2));
    harness.sent.clear();
    harness
}

#[test]
fn a_key_switches_between_two_plans_without_a_run() {
    let mut harness = comparing();
    let of_b = (harness.app.shown.clone().unwrap(), harness.app.set.clone().unwrap());
    for side in [Side::A, Side::B, Side::A, Side::B] {
        harness.keys(&["B"]);
        assert_eq!(harness.app.side(), Some(side));
        assert_eq!(harness.app.bits(), bits(if side == Side::A { 8 } else { 2 }));
        assert!(
            harness.app.sample_is_current() && harness.app.plan_is_fitted() && harness.app.set_is_current()
        );
        let run = |request: &Request| matches!(request, Request::Show { .. } | Request::Evaluate { .. });
        assert!(!harness.sent.iter().any(run), "{:?}", harness.sent);
        let (shown, set) = (harness.app.shown.clone().unwrap(), harness.app.set.clone().unwrap());
        assert_eq!(shown.quantized == of_b.0.quantized, side == Side::B);
        assert_eq!(set.quantized == of_b.1.quantized, side == Side::B);
        harness.update(Msg::Wake);
        assert!(!harness.sent.iter().any(run), "nothing is left to do");
        harness.sent.clear();
    }
    assert!(!harness.app.is_animated());
}

#[test]
fn what_was_not_computed_is_asked_for() {
    let mut harness = comparing();
    harness.press(&["n"]);
    harness.keys(&["B"]);
    assert!(!harness.app.sample_is_current());
    assert!(harness.sent.iter().any(|r| matches!(r, Request::Show { sample: 1, .. })));
    harness.settle();
    assert!(harness.app.sample_is_current() && harness.app.set_is_current());
}

#[test]
fn late_answers_of_the_other_side_are_dropped() {
    let mut harness = comparing();
    harness.press(&["B"]);
    // A is edited; before the answers come, B is shown.
    harness.keys(&["left"]);
    harness.update(Msg::Wake);
    harness.keys(&["v"]);
    let late = std::mem::take(&mut harness.sent);
    harness.keys(&["B"]);
    harness.sent.clear();
    let (shown, set) = (harness.app.shown.clone().unwrap(), harness.app.set.clone().unwrap());
    for request in &late {
        for event in fake::respond(&harness.model.clone(), request) {
            harness.update(Msg::Session(event));
        }
    }
    assert!(Arc::ptr_eq(&shown, harness.app.shown.as_ref().unwrap()));
    assert!(Arc::ptr_eq(&set, harness.app.set.as_ref().unwrap()));
    assert!(!harness.app.is_animated(), "nothing is waited for");
    // Back on A, what was dropped is asked for again.
    harness.keys(&["B"]);
    assert!(!harness.app.sample_is_current() && !harness.app.set_is_current());
    harness.settle();
    evaluate(&mut harness);
    assert!(harness.app.sample_is_current());
}

#[test]
fn each_side_has_its_own_history() {
    let mut harness = comparing();
    harness.press(&["right", "right"]);
    assert_eq!(harness.app.bits(), bits(4));
    harness.press(&["B"]);
    assert_eq!(harness.app.bits(), bits(8), "edits go to the side that is shown");
    // What was taken back of A before the comparison.
    harness.press(&["ctrl-r"]);
    assert_eq!(harness.app.bits(), bits(2));
    harness.press(&["u", "B", "u"]);
    assert_eq!((harness.app.bits(), harness.app.side()), (bits(2), Some(Side::B)));
    harness.press(&["u"]);
    assert!(last_note(&harness).contains("nothing to undo"));
}

#[test]
fn the_plan_before_a_load_can_be_compared_with() {
    let mut harness = ready();
    harness.press(&["B"]);
    assert!(harness.app.overlays.is_empty() && last_note(&harness).contains("no other plan"));
    let before = harness.app.plan.current();
    harness.press(&["R", "down", "w", "4", "4", "enter"]);
    let method = harness.app.plan.current();
    harness.press(&["B", "enter"]);
    assert_eq!((harness.app.plan.current(), harness.app.side()), (before, Some(Side::B)));
    harness.press(&["B"]);
    assert_eq!((harness.app.plan.current(), harness.app.side()), (method, Some(Side::A)));
    assert_eq!(harness.app.plan_name, "repq-vit W4A4");
}

#[test]
fn differences_name_every_site_and_both_figures() {
    let mut harness = comparing();
    harness.press(&["]", "w"]);
    harness.press(&["3", "]", "W", "enter", "esc", "D"]);
    let found = harness.app.differences(&DiffWith::Side).unwrap();
    assert_eq!((found.sites, found.rows.len()), (2, 3), "{:?}", found.rows);
    assert_eq!(
        found.columns.each_ref().map(|column| (column.letter, column.shown)),
        [("A", false), ("B", true)]
    );
    assert_eq!(found.columns[0].figures.accuracy.clone().unwrap().metric, "mIoU");
    assert!(found.columns.iter().all(|column| column.figures.cost.is_some()));
    let first = &found.rows[0];
    assert!(first.left.starts_with("8 uniform") && first.right.starts_with("2 uniform"), "{first:?}");
    assert_eq!((found.rows[2].left.as_str(), found.rows[2].right.as_str()), ("off", "on"));
    // A stays on the left when it is shown.
    harness.keys(&["B"]);
    let turned = harness.app.differences(&DiffWith::Side).unwrap();
    assert_eq!(turned.rows, found.rows);
    assert!(turned.columns[0].shown);
    // Enter goes to the layer, through a filter that hides it.
    harness.press(&["esc", "/", "c", "o", "n", "v", "2", "enter", "z", "D", "down", "enter"]);
    assert!(harness.app.overlays.is_empty());
    assert_eq!(harness.app.layers.layer(), found.rows[1].layer);
    assert!(!harness.app.on_group());
}

#[test]
fn differences_to_a_snapshot() {
    let mut harness = ready();
    keep(&mut harness, "base");
    harness.press(&["left", "L", "D"]);
    let with = DiffWith::Snapshot("base".into());
    let found = harness.app.differences(&with).unwrap();
    assert_eq!(found.sites, 1);
    assert!(found.rows[0].left.starts_with('6') && found.rows[0].right.starts_with('8'));
    harness.press(&["esc"]);
    assert!(matches!(harness.app.overlays.as_slice(), [Overlay::Snapshots(0)]));
    harness.press(&["d"]);
    assert_eq!(harness.app.differences(&with), None);
}

#[test]
fn the_hidden_side_is_kept_while_anything_is_unsaved() {
    let mut harness = comparing();
    // Neither side has edits: nothing to recover.
    harness.keys(&["B", "B"]);
    assert_eq!(kept(&harness.sent), None);
    harness.keys(&["right"]);
    let hidden = kept(&harness.sent).unwrap().hidden.clone().unwrap();
    assert!(!hidden.is_b);
    let journal = |sent: &[Request]| {
        sent.iter().rev().find_map(|request| match request {
            Request::Journal { plan } => Some(Arc::clone(plan)),
            _ => None,
        })
    };
    assert_eq!(journal(&harness.sent).unwrap(), harness.app.plan.current());
    let edited = harness.app.plan.current();
    harness.settle();
    // A is shown, B has the edit: leaving asks, the journal has A and the hidden plan is B.
    harness.keys(&["B"]);
    assert_eq!(journal(&harness.sent).unwrap(), harness.app.plan.current());
    let hidden = kept(&harness.sent).unwrap().hidden.clone().unwrap();
    assert_eq!((hidden.is_b, &hidden.plan), (true, &edited));
    harness.press(&["q"]);
    assert!(matches!(harness.app.overlays.as_slice(), [Overlay::ConfirmQuit]));
    harness.press(&["esc"]);
    // The hidden edit becomes a snapshot when the comparison ends.
    harness.keys(&["|", "x"]);
    assert_eq!(harness.app.side(), None);
    let kept = kept(&harness.sent).unwrap();
    assert_eq!(kept.hidden, None);
    let aside = kept.snapshots.iter().find(|snapshot| snapshot.plan == edited).unwrap();
    assert_eq!(aside.name, "two, 1 changed");
    assert!(last_note(&harness).contains("snapshot"));
}

fn recovered(plan: Option<&Arc<Plan>>, hidden: Hidden) -> Harness {
    let mut harness = Harness::opening(ColorDepth::None, false);
    let model = Arc::make_mut(&mut harness.model);
    model.recovered = plan.cloned();
    model.kept = Kept::new(Vec::new(), Some(hidden));
    harness.open();
    harness
}

#[test]
fn both_sides_come_back_after_a_crash() {
    let model = fake::model();
    let (shown, other) = (fake::preset(&model, bits(4), bits(4)), fake::preset(&model, bits(3), bits(5)));
    let (shown, other) = (Arc::new(shown), Arc::new(other));
    let hidden = Hidden { is_b: true, plan: Arc::clone(&other) };
    let mut harness = recovered(Some(&shown), hidden.clone());
    assert_eq!((harness.app.plan.current(), harness.app.side()), (shown, Some(Side::A)));
    harness.press(&["B"]);
    assert_eq!((harness.app.plan.current(), harness.app.side()), (Arc::clone(&other), Some(Side::B)));
    assert!(harness.app.plan.is_dirty() && harness.app.sample_is_current());
    // The shown side was saved before the end: the other one is not lost.
    let harness = recovered(None, hidden);
    assert_eq!(harness.app.side(), None);
    assert_eq!(harness.app.snapshots.list()[0].plan, other);
}

#[test]
fn what_was_saved_before_a_later_edit_keeps_its_journal() {
    let mut harness = ready();
    harness.press(&["left"]);
    harness.keys(&["S"]);
    let save = std::mem::take(&mut harness.sent);
    harness.keys(&["left"]);
    harness.sent.clear();
    for event in fake::respond(&harness.model.clone(), &save[0]) {
        harness.update(Msg::Session(event));
    }
    let now = harness.app.plan.current();
    assert!(harness.sent.iter().any(|r| matches!(r, Request::Journal { plan } if *plan == now)));
    assert!(!harness.effects.iter().any(|effect| matches!(effect, Effect::Quit)));
}

#[test]
fn nothing_is_measured_for_the_wrong_plan() {
    let mut harness = comparing();
    keep(&mut harness, "b now");
    harness.press(&["B"]);
    keep(&mut harness, "a now");
    let figures = |name: &str| {
        let list = harness.app.snapshots.list();
        list.iter().find(|s| s.name == name).unwrap().figures.accuracy.clone().unwrap().quantized
    };
    assert_ne!(figures("a now"), figures("b now"));
    assert_eq!(figures("a now"), harness.app.set.clone().unwrap().quantized);
}
