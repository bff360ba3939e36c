//! Whole frames: snapshots at four sizes and four depths, every size that can go wrong, and no colour without colour.

#[path = "support/fake.rs"]
mod fake;
#[path = "support/harness.rs"]
mod harness;

use std::sync::Arc;

use bitloupe_quant::eval::answer::{Answer, Ranked, Vector};
use bitloupe_quant::session::messages::{Event, OutputView, Picture, SampleView};
use bitloupe_views::ColorDepth::{self, Ansi16, Ansi256, None as NoColor, TrueColor};
use bitloupe_views::Msg;
use harness::Harness;
use ratatui::style::Color;

const DEPTHS: [(&str, ColorDepth, bool); 4] = [
    ("truecolor", TrueColor, false),
    ("16", Ansi16, false),
    ("none", NoColor, false),
    ("ascii", NoColor, true),
];
const SIZES: [(u16, u16); 4] = [(80, 24), (120, 40), (200, 60), (40, 12)];

/// Open, on the first attention layer, at four bits, with the de-quantized values over the histogram.
fn at_work(depth: ColorDepth, ascii: bool) -> Harness {
    let mut harness = Harness::ready(depth, ascii);
    harness.press(&["down", "down", "down", "down", "left", "left", "left", "d"]);
    harness
}

#[test]
fn every_size_in_every_depth() {
    for (name, depth, ascii) in DEPTHS {
        let mut harness = at_work(depth, ascii);
        for (width, height) in SIZES {
            insta::assert_snapshot!(format!("work_{width}x{height}_{name}"), harness.text(width, height));
        }
    }
}

#[test]
fn every_tab_of_two_panes() {
    let mut harness = at_work(TrueColor, false);
    for name in ["histogram", "quantizers", "why", "samples"] {
        harness.press(&["tab"]);
        insta::assert_snapshot!(format!("tab_{name}"), harness.text(80, 24));
    }
    harness.press(&["m", "m", "m", "m"]);
    insta::assert_snapshot!("tab_difference_truecolor", harness.text(80, 24));
    let mut plain = at_work(NoColor, true);
    plain.press(&["m", "m", "m", "m"]);
    insta::assert_snapshot!("tab_difference_ascii", plain.text(80, 24));
}

#[test]
fn a_zoomed_pane_has_all_the_room() {
    let mut harness = at_work(NoColor, false);
    harness.press(&["tab", "tab", "tab", "tab", "Z"]);
    insta::assert_snapshot!("zoomed_200x60", harness.text(200, 60));
    // What a key is about comes to the front.
    harness.press(&["c"]);
    insta::assert_snapshot!("zoomed_heat_map_80x24", harness.text(80, 24));
    harness.press(&["Z"]);
    assert!(harness.text(120, 40).contains(" Layers "));
}

#[test]
fn what_failed_is_said_where_it_would_be() {
    use bitloupe_quant::session::messages::{Job, Request};
    let failed =
        |message: &str| Msg::Session(Event::Failed { job: Job::Sample, message: message.to_owned() });
    let mut harness = at_work(NoColor, false);
    harness.update(failed("pictures/b.png: it ends in the middle; copy it again"));
    insta::assert_snapshot!("sample_failed", harness.text(120, 40));
    let plan = harness.app.plan.current();
    let request = Request::Export { plan, folder: "out".into(), replace: true };
    let files = vec!["out/plan.json".into(), "out/report.md".into()];
    harness.update(Msg::Session(Event::Occupied { request: Box::new(request), files }));
    insta::assert_snapshot!("overlay_replace", harness.text(80, 24));
    let mut harness = Harness::opening(NoColor, false);
    harness.update(failed("model/config.json: not readable JSON (EOF at line 3); copy it again"));
    harness.update(Msg::SessionEnded(None));
    insta::assert_snapshot!("not_open", harness.text(80, 24));
}

#[test]
fn every_overlay() {
    let mut harness = at_work(NoColor, false);
    insta::assert_snapshot!("heat_map", {
        harness.press(&["c"]);
        harness.text(120, 40)
    });
    for (name, keys) in [
        ("help", vec!["?"]),
        ("palette", vec![":", "e", "v"]),
        ("bits", vec!["b"]),
        ("presets", vec!["P"]),
        ("filter", vec!["/", "q", "k", "v"]),
        ("sentence", vec!["t", "!"]),
        ("quit", vec!["q"]),
        ("messages", vec!["A", "M"]),
        ("methods", vec!["R", "down", "w", "4", "8"]),
        ("rewrites", vec!["W", "enter"]),
        ("name", vec!["K"]),
        ("snapshots", vec!["K", "enter", "L"]),
        ("compare", vec!["left", "B"]),
        ("siblings", vec!["Y"]),
    ] {
        harness.press(&keys);
        insta::assert_snapshot!(format!("overlay_{name}"), harness.text(80, 24));
        harness.press(&["esc", "esc"]);
    }
}

/// A plan of repq-vit beside the one before it, both evaluated.
fn compared(depth: ColorDepth, ascii: bool) -> Harness {
    let mut harness = at_work(depth, ascii);
    for keys in [&["K", "enter"][..], &["R", "down", "w", "4", "6", "enter"], &["K", "enter", "B", "enter"]] {
        harness.press(keys);
        harness.update(Msg::Wake);
        harness.settle();
    }
    harness.press(&["esc"]);
    harness
}

#[test]
fn two_plans_side_by_side() {
    for (name, depth, ascii) in [("none", NoColor, false), ("ascii", NoColor, true)] {
        let mut harness = compared(depth, ascii);
        for (width, height) in [(80, 24), (120, 40)] {
            insta::assert_snapshot!(format!("compared_{width}x{height}_{name}"), harness.text(width, height));
        }
    }
    let mut harness = compared(NoColor, false);
    harness.press(&["D", "down"]);
    for (width, height) in [(40, 12), (80, 24), (200, 60)] {
        insta::assert_snapshot!(format!("differences_{width}x{height}"), harness.text(width, height));
    }
    harness.press(&["esc", "L", "down"]);
    for (width, height) in [(40, 12), (80, 24), (200, 60)] {
        insta::assert_snapshot!(format!("snapshots_{width}x{height}"), harness.text(width, height));
    }
    harness.press(&["esc", "left", "B", "q"]);
    insta::assert_snapshot!("quit_with_two_plans", harness.text(80, 24));
}

#[test]
fn methods_with_bits_of_their_own() {
    let mut harness = at_work(NoColor, false);
    harness.press(&["R", "down", "w", "4", "4", "p", "8", "t", "f", "x"]);
    for (width, height) in [(40, 12), (80, 24), (120, 40)] {
        insta::assert_snapshot!(format!("methods_exceptions_{width}x{height}"), harness.text(width, height));
    }
}

#[test]
fn methods_of_marked_layers() {
    let mut harness = at_work(NoColor, false);
    harness.press(&["/", "f", "c", "1", "enter", " ", " ", "R", "down", "backtab"]);
    for (width, height) in [(40, 12), (80, 24), (120, 40)] {
        insta::assert_snapshot!(format!("methods_marked_{width}x{height}"), harness.text(width, height));
    }
}

#[test]
fn layers_that_a_rewrite_changes() {
    for (name, depth, ascii) in [("none", NoColor, false), ("ascii", NoColor, true)] {
        let mut harness = at_work(depth, ascii);
        harness.press(&["R", "end", "enter", "]", " ", " ", "esc", "["]);
        insta::assert_snapshot!(format!("rewritten_{name}"), harness.text(120, 40));
    }
    // The first product's keys have one peak: asked for, left out, and said so.
    let mut harness = at_work(NoColor, false);
    harness.press(&["R", "end", "enter", "down", "W"]);
    insta::assert_snapshot!("rewrite_left_out", harness.text(80, 24));
}

#[test]
fn many_choices_scroll() {
    let mut harness = at_work(NoColor, false);
    let mut detail = (*harness.app.detail.clone().unwrap()).clone();
    let first = detail.choices.clone();
    detail.choices = (0..16).map(|place| first[place % first.len()].clone()).collect();
    detail.generation += 1000;
    harness.update(bitloupe_views::Msg::Session(Event::Site(detail.into())));
    harness.press(&["tab", "tab"]);
    for _ in 0..13 {
        harness.press(&["down"]);
    }
    harness.press(&["up", "up"]);
    insta::assert_snapshot!("many_choices_80x24", harness.text(80, 24));
    insta::assert_snapshot!("many_choices_120x40", harness.text(120, 40));
}

#[test]
fn before_the_model_is_open() {
    let mut harness = Harness::opening(TrueColor, false);
    insta::assert_snapshot!("opening", harness.text(80, 24));
}

#[test]
fn no_size_is_too_odd() {
    let mut harness = at_work(TrueColor, false);
    let mut plain = at_work(NoColor, true);
    let sizes: Vec<(u16, u16)> =
        (0..130).step_by(3).flat_map(|width| (0..64).step_by(3).map(move |height| (width, height))).collect();
    for keys in [
        vec![],
        vec!["?"],
        vec!["esc", "c"],
        vec!["tab"],
        vec!["tab"],
        vec!["tab"],
        vec!["R", "end"],
        vec!["enter", "W"],
        vec!["esc", "K", "enter", "left", "L"],
        vec!["b", "D"],
        vec!["esc", "|"],
        vec!["esc", "Y"],
        vec!["esc", "K"],
        vec!["esc", "tab", "t"],
    ] {
        harness.press(&keys);
        plain.press(&keys);
        for (width, height) in &sizes {
            harness.frame(*width, *height);
            plain.frame(*width, *height);
        }
    }
    for (width, height) in [(1, 1), (500, 3), (3, 500), (300, 200), (40, 12), (39, 12), (40, 11)] {
        harness.frame(width, height);
    }
}

#[test]
fn without_colours_no_cell_has_one() {
    for ascii in [false, true] {
        let mut harness = at_work(NoColor, ascii);
        for keys in [vec![], vec!["c"], vec!["?"], vec!["esc", "m"], vec!["m", "m", "m"]] {
            harness.press(&keys);
            for (width, height) in SIZES {
                let buffer = harness.frame(width, height);
                assert!(buffer.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
            }
        }
    }
}

#[test]
fn each_depth_keeps_to_its_colours() {
    for depth in [Ansi16, Ansi256] {
        let mut harness = at_work(depth, false);
        for keys in [vec![], vec!["c"], vec!["m", "m", "m", "m"]] {
            harness.press(&keys);
            let buffer = harness.frame(200, 60);
            let allowed = |color: Color| match color {
                Color::Rgb(..) => false,
                Color::Indexed(_) => depth == Ansi256,
                _ => true,
            };
            assert!(buffer.content.iter().all(|cell| allowed(cell.fg) && allowed(cell.bg)));
        }
    }
}

#[test]
fn ascii_means_ascii() {
    let mut harness = at_work(NoColor, true);
    for keys in [
        vec![],
        vec!["c"],
        vec!["?"],
        vec!["esc", "b"],
        vec!["esc", "P"],
        vec!["esc", "R"],
        vec!["esc", "W", "enter"],
        vec!["esc", "K", "ctrl-u", "x", "enter", "left", "L"],
        vec!["b", "D"],
        vec!["esc", "|"],
        vec!["esc", "Y"],
        vec!["esc", " ", "m", "m", "m", "m"],
    ] {
        harness.press(&keys);
        for (width, height) in SIZES {
            // The labels of the made-up session are not ASCII, as those of files may not be.
            let text = harness.text(width, height);
            let odd: Vec<char> = text.chars().filter(|ch| !ch.is_ascii()).collect();
            assert!(odd.is_empty(), "{odd:?}\n{text}");
        }
    }
}

/// Answers that are no masks stand as words beside the picture, or below a picture as flat as a line.
#[test]
fn answers_in_words() {
    let ranked =
        |class: usize, probability: f64| Ranked { class, label: format!("class {class}"), probability };
    let classes = |order: &[usize]| {
        Answer::Classes(order.iter().enumerate().map(|(at, &c)| ranked(c, 0.5 / (at + 1) as f64)).collect())
    };
    let vector = || Vector { name: "embeds".to_owned(), values: Arc::new(vec![1.0; 4]) };
    let output = OutputView { name: "embeds".to_owned(), numbers: 4, cosine: 0.913, sqnr_db: 12.3 };
    let cases = [
        (classes(&[3, 1, 2]), classes(&[1, 3, 2]), ["full precision", "class 3", "this plan"]),
        (
            Answer::Letters("Segment".to_owned()),
            Answer::Letters("Segnent".to_owned()),
            ["full precision", "Segment", "Segnent"],
        ),
        (Answer::Vectors(vec![vector()]), Answer::Vectors(vec![vector()]), ["embeds", "0.9130", "12.3"]),
    ];
    for (float, quantized, parts) in cases {
        let mut harness = Harness::ready(NoColor, false);
        let Some(shown) = harness.app.shown.clone() else { panic!("nothing is shown") };
        for picture in [
            shown.picture.clone(),
            Some(Arc::new(Picture { width: 300, height: 40, rgb: vec![9; 36_000] })),
            None,
        ] {
            let view = SampleView {
                full_precision: float.clone(),
                quantized: quantized.clone(),
                truth: None,
                outputs: vec![output.clone()],
                picture,
                ..SampleView::clone(&shown)
            };
            harness.update(Msg::Session(Event::Sample(Arc::new(view))));
            for (width, height) in [(200, 60), (120, 40), (40, 12)] {
                let text = harness.text(width, height);
                assert!(width < 120 || parts.iter().all(|part| text.contains(part)), "{parts:?} in\n{text}");
            }
        }
    }
}

#[test]
fn swapped_scales_are_mended_by_one_key() {
    use bitloupe_quant::session::explain::{NamedFault, Remedy};
    let mut harness = at_work(NoColor, true);
    let product = |site: &bitloupe_quant::terms::SiteId| site.slot == bitloupe_quant::terms::Slot::Lhs;
    while !harness.app.site_id().is_some_and(product) {
        harness.press(&["]"]);
    }
    // Different in bits here, as in their numbers in a plan that brings some.
    harness.press(&["-"]);
    let Event::Explained { generation, explanation } = explained(&harness) else { unreachable!() };
    let mut explanation = (*explanation).clone();
    let mut with = explanation.site.clone();
    with.slot = bitloupe_quant::terms::Slot::Rhs;
    let remedy = Remedy::Exchange { with };
    let sentence = "Swapped parameters: those of the other operand fit here.".to_owned();
    let fault = NamedFault { remedy: remedy.clone(), sentence, ..explanation.faults.remove(0) };
    explanation.faults = vec![fault];
    explanation.remedies[0].remedy = remedy;
    explanation.remedies[0].sentence = "Exchange the parameters.".to_owned();
    harness.update(Msg::Session(Event::Explained { generation, explanation: Arc::new(explanation) }));
    let text = harness.text(200, 60);
    assert!(text.contains("Exchange the parameters: press E"), "{text}");
    let before = harness.app.plan.current();
    harness.press(&["E"]);
    assert_ne!(harness.app.plan.current(), before);
}

/// What the session says of the shown site: a range that is wrong, and a remedy for it.
fn explained(harness: &Harness) -> Event {
    use bitloupe_quant::session::explain::{
        Advice, Fault, HeldOut, NamedFault, Present, Remedy, SiteExplanation,
    };
    let site = harness.app.site().unwrap();
    let scheme = harness.app.choices()[2].scheme.clone();
    let remedy = Remedy::Quantizer { scheme: scheme.clone(), bits: None };
    let fault = Fault::WrongRange {
        scheme: scheme.clone(),
        better_db: 14.3,
        clipped: [0.35, 0.001],
        levels_used: [16, 16],
        stale: false,
    };
    let sentence =
        "Wrong range: 35 % of the values are clipped (6.3 dB). uniform mse gives 14.3 dB, 8.0 dB more.";
    let explanation = SiteExplanation {
        site: site.site.clone(),
        role: site.role,
        class: bitloupe_quant::terms::Class::OutlierChannel,
        evidence: bitloupe_quant::stats::Evidence::default(),
        present: Some(Present {
            quantizer: "uniform min-max".into(),
            scheme,
            bits: harness.app.bits(),
            sqnr_db: 6.3,
            clipped_fraction: 0.35,
            levels: 16,
            levels_used: 16,
            crowded_levels: Some(3),
            empty_middle_levels: Some(0),
            rewritten_by: Vec::new(),
        }),
        faults: vec![NamedFault { fault, cost_db: 8.0, remedy: remedy.clone(), sentence: sentence.into() }],
        remedies: vec![Advice {
            remedy,
            sqnr_db: Some(14.3),
            gain_db: Some(8.0),
            sentence: "uniform mse at the same bits: +8.0 dB.".into(),
        }],
        choices: Vec::new(),
        widths: Vec::new(),
        rewrites: Vec::new(),
        held_out: Some(HeldOut {
            calibration_range: [-38.0, 31.0],
            range: [-41.0, 33.0],
            calibration_clipped_fraction: 0.35,
            clipped_fraction: 0.36,
            sqnr_db: 6.1,
            disagrees: false,
        }),
        sentences: Vec::new(),
    };
    Event::Explained { generation: 1_000_000, explanation: Arc::new(explanation) }
}

#[test]
fn what_is_wrong_with_a_site_comes_first() {
    for (name, depth, ascii) in [("truecolor", TrueColor, false), ("ascii", NoColor, true)] {
        let mut harness = at_work(depth, ascii);
        let event = explained(&harness);
        harness.update(Msg::Session(event));
        insta::assert_snapshot!(format!("why_fault_200x60_{name}"), harness.text(200, 60));
        harness.press(&["tab", "tab", "tab"]);
        insta::assert_snapshot!(format!("why_fault_80x24_{name}"), harness.text(80, 24));
        // Another site is not blamed for it.
        harness.press(&["backtab", "backtab", "backtab", "down"]);
        assert!(!harness.text(200, 60).contains("Wrong range"));
    }
}

#[test]
fn an_explanation_of_an_older_plan_is_not_shown() {
    let mut harness = at_work(NoColor, false);
    let Event::Explained { explanation, .. } = explained(&harness) else { panic!() };
    let generation = harness.app.plan.generation;
    let told = |generation| Event::Explained { generation, explanation: Arc::clone(&explanation) };
    harness.update(Msg::Session(told(generation - 1)));
    assert!(!harness.text(200, 60).contains("Wrong range"));
    harness.update(Msg::Session(told(generation)));
    assert!(harness.text(200, 60).contains("Wrong range"));
    // Its key mends it, and what was said of the plan before is gone.
    let scheme = harness.app.choices()[2].scheme.clone();
    harness.press(&["3"]);
    assert_eq!(harness.app.plan.scheme(harness.app.site_id().unwrap()), Some(scheme));
    assert!(!harness.text(200, 60).contains("Wrong range"));
}
