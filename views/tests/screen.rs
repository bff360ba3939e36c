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
fn methods_of_marked_layers() {
    let mut harness = at_work(NoColor, false);
    harness.press(&["/", "f", "c", "1", "enter", " ", " ", "R", "down", "tab", "tab"]);
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
