//! Methods, rewrites and marks: what the keys ask for and what becomes of the plan.

#[path = "support/fake.rs"]
mod fake;
#[path = "support/harness.rs"]
mod harness;

use bitloupe_quant::method::MethodBits;
use bitloupe_quant::plan::Plan;
use bitloupe_quant::session::messages::{Event, Request};
use bitloupe_quant::terms::{Bits, Slot};
use bitloupe_views::app::Scope;
use bitloupe_views::app::rewrites::Standing;
use bitloupe_views::{ColorDepth, Msg};
use harness::Harness;

/// On `blocks.0.attn.qkv`, whose norm can be rewritten.
fn ready() -> Harness {
    let mut harness = Harness::ready(ColorDepth::None, false);
    harness.press(&["]", "]"]);
    assert!(harness.app.layer().unwrap().name.ends_with("blocks.0.attn.qkv"));
    harness
}

fn bits(width: u8) -> Bits {
    Bits::new(width).unwrap()
}

/// Layers on which two plans differ.
fn changed(harness: &Harness, before: &Plan) -> Vec<String> {
    let now = harness.app.plan.current();
    let differs = |layer: &&bitloupe_quant::session::messages::LayerView| {
        layer.sites.iter().any(|site| now.site(&site.site) != before.site(&site.site))
    };
    harness.model.layers.iter().filter(differs).map(|layer| layer.name.clone()).collect()
}

#[test]
fn a_method_for_everything_is_one_edit() {
    let mut harness = ready();
    let (before, name) = (harness.app.plan.current(), harness.app.plan_name.clone());
    harness.keys(&["R", "down", "w", "4", "a", "6", "enter"]);
    let [Request::Method { method, bits: asked, .. }] = harness.sent.as_slice() else {
        panic!("{:?}", harness.sent)
    };
    assert_eq!((method.as_str(), asked.weights, asked.activations), ("repq-vit", bits(4), bits(6)));
    assert_eq!(harness.app.plan.current(), before, "nothing changes before the answer");
    harness.settle();
    assert_eq!(harness.app.plan_name, "repq-vit W4A6");
    assert_eq!(harness.app.plan.current().method, "repq-vit");
    assert!(harness.app.plan.current().rewrites.len() > 10);
    assert!(harness.app.sample_is_current() && harness.app.plan_is_fitted());
    harness.update(Msg::Wake);
    assert!(matches!(harness.sent.as_slice(), [Request::Evaluate { .. }]));
    harness.settle();
    // A further edit is counted from the method.
    harness.press(&["left"]);
    assert_eq!(harness.app.plan_name, "repq-vit W4A6 +1");
    harness.press(&["u", "u"]);
    assert_eq!(harness.app.plan.current(), before);
    assert_eq!(harness.app.plan_name, name);
    assert!(harness.app.notes.back().unwrap().text.contains("undone: repq-vit W4A6"));
    harness.press(&["ctrl-r"]);
    assert_eq!(harness.app.plan_name, "repq-vit W4A6");
}

#[test]
fn what_a_paper_does_apart_can_be_asked_for() {
    let mut harness = ready();
    harness.keys(&["R", "down", "w", "4", "a", "6", "p", "8", "t", "f", "x", "right", "right", "enter"]);
    let [Request::Method { bits: asked, .. }] = harness.sent.as_slice() else { panic!("{:?}", harness.sent) };
    assert_eq!((asked.weights, asked.activations), (bits(4), bits(6)));
    let exceptions = (asked.patch_embedding, asked.last, asked.softmax);
    assert_eq!(exceptions, (Some(bits(8)), Some(Bits::FLOAT), Some(bits(3))));
    harness.settle();
    assert_eq!(harness.app.plan_name, "repq-vit W4A6, patch 8, last float, softmax 3");
    // It opens as it was left; what is deleted is the paper's again, and nothing is narrower than 2 bits.
    harness.keys(&["R", "p", "backspace", "t", "2", "left", "left", "x", "backspace", "enter"]);
    let asked = harness.sent.iter().find_map(|request| match request {
        Request::Method { bits, .. } => Some(*bits),
        _ => None,
    });
    assert_eq!(asked, Some(MethodBits::new(bits(4), bits(6))));
}

#[test]
fn only_the_newest_answer_counts() {
    let mut harness = ready();
    harness.keys(&["R", "down", "enter"]);
    let old = std::mem::take(&mut harness.sent);
    harness.keys(&["R", "end", "enter"]);
    let newest = std::mem::take(&mut harness.sent);
    let before = harness.app.plan.current();
    for request in &old {
        for event in fake::respond(&harness.model.clone(), request) {
            harness.update(Msg::Session(event));
        }
    }
    assert_eq!(harness.app.plan.current(), before);
    for _ in 0..2 {
        for event in fake::respond(&harness.model.clone(), &newest[0]) {
            harness.update(Msg::Session(event));
        }
    }
    assert_eq!(harness.app.plan.current().method, "ptq4sam");
    harness.press(&["u"]);
    assert_eq!(harness.app.plan.current(), before, "taken once");
}

#[test]
fn marked_layers_alone_get_the_method() {
    let mut harness = ready();
    let before = harness.app.plan.current();
    // Two layers: qkv and, behind it, qk.
    harness.press(&[" ", " "]);
    assert_eq!(harness.app.layers.marked().len(), 2);
    harness.press(&["R", "down", "w", "3", "3", "enter"]);
    let names = changed(&harness, &before);
    assert_eq!(names.len(), 2, "{names:?}");
    let plan = harness.app.plan.current();
    assert_eq!(plan.rewrites.len(), 1);
    assert!(plan.rewrites[0].layer.ends_with("layers.0.blocks.0.norm1"));
    assert_eq!(plan.method, before.method, "the rest is as before");
    assert!(harness.app.plan_name.contains(" +5"), "four sites and a rewrite: {}", harness.app.plan_name);
    harness.press(&["u"]);
    assert_eq!(harness.app.plan.current(), before);
    // It opens as it was left.
    harness.press(&["R", "enter"]);
    assert_eq!(changed(&harness, &before), names);
    harness.press(&["X"]);
    assert!(harness.app.layers.marked().is_empty());
}

#[test]
fn filtered_layers_alone_get_the_method() {
    let mut harness = ready();
    assert_eq!(harness.app.scopes(), [Scope::Everything]);
    let before = harness.app.plan.current();
    harness.press(&["/", "f", "c", "1", "enter"]);
    assert_eq!(harness.app.scopes(), [Scope::Everything, Scope::Filtered]);
    harness.press(&["R", "down", "w", "3", "3", "enter"]);
    let names = changed(&harness, &before);
    assert_eq!(names.len(), 10);
    assert!(names.iter().all(|name| name.ends_with("mlp.fc1")));
    assert!(harness.app.plan.current().rewrites.iter().all(|place| place.layer.ends_with("norm2")));
    // `s` goes round the scopes, here back to everything.
    harness.press(&["R", "s", "enter"]);
    assert_eq!(harness.app.plan_name, "repq-vit W3A3");
}

#[test]
fn a_rewrite_is_switched_and_taken_back() {
    let mut harness = ready();
    let before = harness.app.plan.current();
    let name = harness.app.plan_name.clone();
    let layer = harness.app.layers.layer().unwrap();
    harness.press(&["W"]);
    harness.keys(&["enter"]);
    assert!(matches!(
        harness.sent.as_slice(),
        [Request::Journal { .. }, Request::Show { .. }, Request::Site { .. }]
    ));
    harness.settle();
    let plan = harness.app.plan.current();
    assert_eq!(plan.rewrites.len(), 1);
    assert_eq!(harness.app.plan_name, format!("{name} +1"));
    assert!(harness.app.facts.layer(layer).unwrap().rewritten);
    assert!(!harness.app.facts.layer(layer + 1).unwrap().rewritten);
    let site = harness.app.site_id().unwrap().clone();
    assert_eq!(harness.app.rewrites_of(&site).len(), 1);
    // The list stays open; the same key switches back.
    harness.press(&["enter"]);
    assert_eq!(harness.app.plan.current(), before);
    harness.press(&["esc", "u", "u"]);
    assert!(!harness.app.plan.is_dirty());
}

#[test]
fn a_rewrite_that_the_fit_leaves_out_is_no_rewrite() {
    let mut harness = ready();
    harness.press(&["]", "W", "enter", "esc"]);
    let site = harness.app.site_id().unwrap().clone();
    assert_eq!(site.slot, Slot::Lhs);
    let standings: Vec<Standing> =
        harness.app.rewrites_of(&site).iter().map(|(_, standing)| *standing).collect();
    assert_eq!(standings, [Standing::LeftOut]);
    assert!(!harness.app.facts.layer(harness.app.layers.layer().unwrap()).unwrap().rewritten);
}

#[test]
fn rewrites_of_a_group_are_switched_together() {
    let mut harness = ready();
    harness.press(&["W", "enter", "esc", "home"]);
    assert!(harness.app.on_group());
    harness.press(&["W", "enter"]);
    assert_eq!(harness.app.plan.current().rewrites.len(), 20, "those that were off went on");
    harness.press(&["enter", "esc"]);
    assert!(harness.app.plan.current().rewrites.is_empty());
}

#[test]
fn a_layer_without_rewrites_says_so() {
    let mut harness = ready();
    harness.press(&["end", "W"]);
    assert!(harness.app.overlays.is_empty());
    assert!(harness.app.notes.back().unwrap().text.contains("no rewrite fits here"));
}

#[test]
fn edits_go_to_the_marked_layers() {
    let mut harness = ready();
    let before = harness.app.plan.current();
    harness.press(&[" ", "]", "]", " ", "home", "left"]);
    let names = changed(&harness, &before);
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!(harness.app.targets().len(), 2);
    assert!(harness.app.targets().iter().all(|site| harness.app.plan.bits(site) == bits(6)));
    // A quantizer goes to all of them that it fits.
    harness.press(&["u", "]", "]"]);
    harness.press(&["2"]);
    assert_eq!(changed(&harness, &before).len(), 2);
}

#[test]
fn a_held_space_marks_a_run_of_layers() {
    let mut harness = ready();
    let first = harness.app.layers.layer().unwrap();
    harness.press(&[" ", " ", " ", " ", " ", " ", " ", " "]);
    let marked: Vec<usize> = harness.app.layers.marked().iter().copied().collect();
    assert_eq!(marked, (first..first + 8).collect::<Vec<_>>(), "the line of the next group is passed over");
    assert!(!harness.app.plan.is_dirty());
    harness.press(&["f"]);
    assert!(harness.app.notes.back().unwrap().text.contains("of the marked layers"));
}

#[test]
fn the_cursor_of_the_quantizers_follows_the_plan() {
    let mut harness = ready();
    harness.press(&["R", "down", "w", "4", "4", "enter"]);
    assert_eq!(harness.app.choice, harness.app.current_choice().unwrap());
    harness.press(&["u"]);
    assert_eq!(harness.app.choice, harness.app.current_choice().unwrap());
}

#[test]
fn a_group_is_marked_as_a_whole() {
    let mut harness = ready();
    harness.press(&["home", " "]);
    let group = harness.app.layers.selected();
    assert!(group.len() > 10 && group.iter().all(|layer| harness.app.layers.marked().contains(layer)));
    assert_eq!(harness.app.layers.selected(), group, "the cursor stays on it");
    harness.press(&[" "]);
    assert!(harness.app.layers.marked().is_empty());
}

#[test]
fn an_answer_that_nobody_asked_for_is_dropped() {
    let mut harness = ready();
    let before = harness.app.plan.current();
    let plan = fake::preset(&harness.model, bits(2), bits(2)).into();
    harness.update(Msg::Session(Event::Method { generation: 99, plan }));
    assert_eq!(harness.app.plan.current(), before);
}
