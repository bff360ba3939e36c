//! Marks, edits of all that is marked, and a choice copied to siblings: state, without a frame.

#[path = "support/fake.rs"]
mod fake;
#[path = "support/harness.rs"]
mod harness;

use bitloupe_quant::session::messages::LayerView;
use bitloupe_quant::terms::{Bits, Role, Slot};
use bitloupe_views::app::overlay::Overlay;
use bitloupe_views::{ColorDepth, Msg};
use crossterm::event::{KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use harness::Harness;

/// On `layers.0.blocks.0.attn.qkv`.
fn ready() -> Harness {
    let mut harness = Harness::ready(ColorDepth::None, false);
    harness.press(&["]", "]"]);
    harness
}

fn bits(width: u8) -> Bits {
    Bits::new(width).unwrap()
}

fn marked(harness: &Harness) -> Vec<usize> {
    harness.app.layers.marked().iter().copied().collect()
}

/// The layers that are so.
fn layers(harness: &Harness, wanted: impl Fn(&LayerView) -> bool) -> Vec<usize> {
    (0..harness.model.layers.len()).filter(|layer| wanted(&harness.model.layers[*layer])).collect()
}

fn last_note(harness: &Harness) -> &str {
    harness.app.notes.back().map_or("", |note| note.text.as_str())
}

#[test]
fn a_range_goes_from_the_last_mark_to_the_cursor() {
    let mut harness = ready();
    let first = harness.app.layers.layer().unwrap();
    harness.press(&[" ", "]", "]", "]", "V"]);
    let last = harness.app.layers.layer().unwrap();
    assert_eq!(marked(&harness), (first..=last).collect::<Vec<_>>());
    assert_eq!(last, first + 4);
    assert!(last_note(&harness).contains("4 more layers") && last_note(&harness).contains("5 in all"));
    // The next range begins where this one ended, and goes up as well as down.
    harness.press(&["X", "]", "]", " ", "[", "[", "[", "[", "[", "V"]);
    let up = harness.app.layers.layer().unwrap();
    assert!(up < last && marked(&harness).len() == last + 2 - up + 1, "{:?}", marked(&harness));
    // Without a mark a range begins at the cursor.
    harness.press(&["X", "V"]);
    assert_eq!(marked(&harness), [up]);
    assert!(last_note(&harness).contains("press V"));
    harness.press(&["]", "V"]);
    assert_eq!(marked(&harness), [up, up + 1]);
}

#[test]
fn a_range_takes_folded_groups_whole_and_follows_the_order_of_the_table() {
    let mut harness = ready();
    harness.press(&["home", "z", "V", "down", "V"]);
    assert!(harness.app.on_group());
    let of_groups = marked(&harness).len();
    assert!(of_groups > 50, "the backbone and the text encoder: {of_groups}");
    harness.press(&["X", "z", ">", "home", " ", "down", "down", "V"]);
    // Sorted by dB the marked layers do not lie beside each other in the model.
    let found = marked(&harness);
    assert_eq!(found.len(), 4);
    let worst = |layer: usize| harness.app.facts.layer(layer).unwrap().decibels.unwrap();
    let highest = found.iter().map(|layer| worst(*layer)).fold(f64::MIN, f64::max);
    let better = layers(&harness, |_| true).into_iter().filter(|layer| worst(*layer) < highest);
    assert!(better.count() <= 4);
}

#[test]
fn layers_are_marked_by_filter_role_and_op() {
    let mut harness = ready();
    harness.press(&["@"]);
    let norms = layers(&harness, |layer| layer.sites.iter().any(|site| site.role == Role::PostLayerNorm));
    assert_eq!(marked(&harness), norms);
    assert!(last_note(&harness).contains("post-layernorm"));
    harness.press(&["X", "]", "#"]);
    assert_eq!(marked(&harness), layers(&harness, |layer| layer.op == "MatMul"));
    harness.press(&["X", "/", "f", "c", "2", "enter", "&"]);
    let fc2 = layers(&harness, |layer| layer.name.ends_with("fc2"));
    assert_eq!(marked(&harness), fc2);
    // Within the filter only.
    harness.press(&["esc", "esc", "/", "l", "a", "y", "e", "r", "s", ".", "1", "enter", "#"]);
    let here = layers(&harness, |layer| {
        layer.name.ends_with("fc2") || (layer.name.contains("layers.1") && layer.op == "Linear")
    });
    assert_eq!(marked(&harness), here);
}

#[test]
fn marks_are_inverted_taken_away_and_brought_back() {
    let mut harness = ready();
    harness.press(&[" ", "*"]);
    let all = harness.model.layers.len();
    assert_eq!(marked(&harness).len(), all - 1);
    assert!(last_note(&harness).contains(&format!("{} layers", all - 1)));
    harness.press(&["*"]);
    assert_eq!(marked(&harness).len(), 1);
    harness.press(&["/", "f", "c", "2", "enter", "*"]);
    assert_eq!(marked(&harness).len(), 11, "the ten that the filter shows, and the one before");
    harness.press(&["X"]);
    assert!(marked(&harness).is_empty());
    harness.press(&["X"]);
    assert_eq!(marked(&harness).len(), 11);
}

#[test]
fn bits_and_quantizer_of_all_marked_are_one_step_each() {
    let mut harness = ready();
    let before = harness.app.plan.current();
    harness.press(&["*", "b", "4"]);
    assert!(harness.app.targets().len() > 60);
    assert!(harness.app.targets().iter().all(|site| harness.app.plan.bits(site) == bits(4)));
    harness.press(&["u"]);
    assert_eq!(harness.app.plan.current(), before);
    // On the softmax its own grids are offered; the fifth is a logarithmic one.
    harness.press(&["]", "]"]);
    harness.press(&["5"]);
    assert_eq!(harness.app.site().unwrap().role, Role::PostSoftmax);
    let log = harness.app.choices()[4].scheme.clone();
    let plan = harness.app.plan.current();
    for site in harness.model.layers.iter().flat_map(|layer| &layer.sites) {
        let has = matches!(plan.site(&site.site), Some(bitloupe_quant::plan::SitePlan::Quantized { scheme, .. }) if *scheme == log);
        assert_eq!(has, site.role == Role::PostSoftmax, "{}", site.site);
    }
    let note = last_note(&harness);
    assert!(note.contains("edited 10 sites") && note.contains("does not fit"), "{note}");
    assert!(note.contains("patch_embed.proj:input (image)") && note.contains("more"), "{note}");
    harness.press(&["u"]);
    assert_eq!(harness.app.plan.current(), before);
    // Equal steps fit all of them.
    harness.press(&["2"]);
    assert!(!last_note(&harness).contains("does not fit"), "{}", last_note(&harness));
    let scheme = harness.app.plan.scheme(harness.app.site_id().unwrap());
    assert!(harness.app.targets().iter().all(|site| harness.app.plan.scheme(site) == scheme));
}

#[test]
fn what_was_float_from_the_start_gets_a_quantizer_that_fits() {
    let mut harness = ready();
    let float = bitloupe_quant::plan::Plan::new(harness.app.plan.current().model.clone());
    assert!(harness.app.plan.replace(&float, "nothing quantized"));
    // The best choice of a softmax is logarithmic; the other sites cannot have it.
    harness.press(&["]", "]"]);
    assert_eq!(harness.app.site().unwrap().role, Role::PostSoftmax);
    let best =
        harness.app.best_choice().map(|(place, _)| harness.app.choices()[place].scheme.clone()).unwrap();
    harness.press(&["*", "b", "4"]);
    for site in harness.model.layers.iter().flat_map(|layer| &layer.sites) {
        let scheme = harness.app.plan.scheme(&site.site);
        if site.site.slot == Slot::Weight {
            assert_eq!(scheme, None, "{}", site.site);
        } else {
            // After a ReLU nothing is negative either.
            let fits = matches!(site.role, Role::PostSoftmax | Role::PostRelu);
            assert_eq!(scheme.as_ref() == Some(&best), fits, "{}", site.site);
        }
    }
}

#[test]
fn a_quantizer_that_fits_nothing_marked_changes_nothing() {
    let mut harness = ready();
    harness.press(&[" ", "]"]);
    let before = harness.app.plan.current();
    harness.press(&["5"]);
    assert_eq!(harness.app.site().unwrap().role, Role::PostSoftmax);
    assert!(last_note(&harness).contains("fits no site of the marked layers"), "{}", last_note(&harness));
    assert_eq!(harness.app.plan.current(), before);
}

#[test]
fn the_mouse_marks() {
    let mut harness = ready();
    let row = harness.app.layers.cursor as u16;
    let click = |button, modifiers, row: u16| {
        // The table begins below the header, its frame and its headings.
        Msg::Mouse(MouseEvent { kind: MouseEventKind::Down(button), column: 5, row: row + 3, modifiers })
    };
    let first = harness.app.layers.layer().unwrap();
    harness.update(click(MouseButton::Right, KeyModifiers::NONE, row));
    assert_eq!(marked(&harness), [first]);
    harness.update(click(MouseButton::Left, KeyModifiers::CONTROL, row + 3));
    assert_eq!(marked(&harness), [first, first + 1, first + 2, first + 3]);
    harness.update(click(MouseButton::Right, KeyModifiers::NONE, row));
    assert_eq!(marked(&harness).len(), 3);
    harness.update(click(MouseButton::Right, KeyModifiers::NONE, 300));
    assert_eq!(marked(&harness).len(), 3);
}

#[test]
fn a_choice_is_copied_to_the_same_place_in_other_blocks() {
    let mut harness = ready();
    let before = harness.app.plan.current();
    harness.press(&["3", "b", "5"]);
    let wanted = harness.app.plan.in_words(harness.app.site_id().unwrap());
    let groups = harness.app.siblings();
    assert_eq!(groups[0].label, "backbone.layers.*.blocks.*.attn.qkv:input");
    assert_eq!((groups[0].sites.len(), groups[0].changing), (9, 9));
    assert!(groups[1].sites.len() > 20);
    harness.press(&["Y", "enter"]);
    let qkv = layers(&harness, |layer| layer.name.ends_with("attn.qkv"));
    for layer in &qkv {
        for site in &harness.model.layers[*layer].sites {
            let is_copy = harness.app.plan.in_words(&site.site) == wanted;
            assert_eq!(is_copy, site.site.slot == Slot::Input, "{}", site.site);
        }
    }
    assert!(last_note(&harness).contains("9 sites now 5 bits"));
    // Nothing is left to change there; the role still has others.
    let groups = harness.app.siblings();
    assert_eq!(groups[0].changing, 0);
    assert!(groups[1].changing > 10 && groups[1].changing < groups[1].sites.len());
    harness.press(&["Y", "1"]);
    assert!(last_note(&harness).contains("already"));
    harness.press(&["u", "u", "u"]);
    assert_eq!(harness.app.plan.current(), before);
}

#[test]
fn copied_choices_bring_no_numbers_and_float_is_a_choice_too() {
    let mut harness = ready();
    // A plan from a file has numbers for every site.
    let site = harness.app.site_id().unwrap().clone();
    let mut plan = (*harness.app.plan.current()).clone();
    let scheme = harness.app.plan.scheme(&site).unwrap();
    let params = bitloupe_quant::quantizer::Params {
        scheme,
        bits: bits(3),
        scale: vec![0.5],
        zero_point: vec![0.0],
        extra: std::collections::BTreeMap::new(),
    };
    plan.set(&site, Some(bitloupe_quant::plan::SitePlan::fitted(params)));
    assert!(harness.app.plan.replace(&plan, "from a file"));
    harness.press(&["Y", "2"]);
    for sibling in harness.app.role_targets() {
        let now = harness.app.plan.current();
        let choice = now.site(&sibling).unwrap();
        assert_eq!(choice.bits(), bits(3));
        assert_eq!(choice.params().is_some(), sibling == site, "{sibling}");
    }
    harness.press(&["f", "Y", "1"]);
    assert!(harness.app.siblings()[0].sites.iter().all(|site| harness.app.plan.bits(site).is_float()));
}

#[test]
fn a_layer_outside_blocks_has_only_its_role() {
    let mut harness = ready();
    harness.press(&["end"]);
    assert!(harness.app.layer().unwrap().name.starts_with("classifier"));
    assert_eq!(harness.app.siblings().len(), 1);
    harness.press(&["Y"]);
    assert!(matches!(harness.app.overlays.as_slice(), [Overlay::Siblings(0)]));
    harness.press(&["down", "down", "Y"]);
    assert!(harness.app.overlays.is_empty());
}

#[test]
fn the_mouse_works_on_lists() {
    let mut harness = ready();
    harness.frame(120, 40);
    harness.press(&["P"]);
    let text = harness.text(120, 40);
    let row = text.lines().position(|line| line.contains("W4A4 min")).unwrap() as u16;
    let click = |row| {
        let kind = MouseEventKind::Down(MouseButton::Left);
        Msg::Mouse(MouseEvent { kind, column: 60, row, modifiers: KeyModifiers::NONE })
    };
    harness.update(click(row));
    assert!(matches!(harness.app.overlays.as_slice(), [Overlay::Presets(2)]));
    harness.update(click(row));
    harness.settle();
    assert_eq!(harness.app.plan_name, "W4A4 min–max");
    // Beside the box it closes.
    harness.press(&["P"]);
    harness.update(click(1));
    assert!(harness.app.overlays.is_empty());
    // The header switches between two plans.
    harness.press(&["B", "enter"]);
    let side = harness.app.side();
    harness.update(click(0));
    assert_ne!(harness.app.side(), side);
}

#[test]
fn the_operands_of_a_product_are_exchanged_by_one_key() {
    let mut harness = ready();
    harness.press(&["E"]);
    assert!(last_note(&harness).contains("only the two operands of a product"), "{}", last_note(&harness));
    let product = |layer: &LayerView| layer.sites.iter().all(|site| site.site.slot != Slot::Weight);
    let product = layers(&harness, product)[0];
    while harness.app.layers.layer() != Some(product) {
        harness.press(&["]"]);
    }
    harness.press(&["E"]);
    assert!(last_note(&harness).contains("both operands have the same"), "{}", last_note(&harness));
    let sites: Vec<_> = harness.model.layers[product].sites.iter().map(|site| site.site.clone()).collect();
    let now =
        |harness: &Harness| -> Vec<Bits> { sites.iter().map(|site| harness.app.plan.bits(site)).collect() };
    harness.press(&["a", "-"]);
    let before = now(&harness);
    assert_ne!(before[0], before[1]);
    harness.press(&["E"]);
    assert_eq!(now(&harness), [before[1], before[0]]);
    harness.press(&["u"]);
    assert_eq!(now(&harness), before);
}
