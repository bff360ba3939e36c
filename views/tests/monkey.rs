//! Thousands of random keys, clicks, sizes and answers (late, doubled, foreign): nothing panics, every place stays
//! inside its list, and what is drawn is what is meant.

#[path = "support/fake.rs"]
mod fake;
#[path = "support/harness.rs"]
mod harness;

use bitloupe_quant::method::MethodBits;
use bitloupe_quant::session::messages::{Event, Job, Request};
use bitloupe_quant::terms::Bits;
use bitloupe_views::{ColorDepth, Msg};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use harness::{Harness, key_event};

/// A small generator, the same on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % sides.max(1)
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.roll(from.len())]
    }
}

const KEYS: &[&str] = &[
    "up",
    "down",
    "left",
    "right",
    "tab",
    "backtab",
    "enter",
    "esc",
    "end",
    "home",
    "pagedown",
    "pageup",
    "backspace",
    "j",
    "k",
    "g",
    "G",
    "w",
    "a",
    "f",
    "1",
    "2",
    "3",
    "9",
    "b",
    "n",
    "p",
    "t",
    "T",
    "m",
    "l",
    "c",
    "d",
    "P",
    "A",
    "v",
    "e",
    "s",
    "u",
    "ctrl-r",
    "/",
    ">",
    "<",
    "S",
    "z",
    ":",
    "?",
    "M",
    "R",
    "W",
    "K",
    "L",
    "B",
    "B",
    "|",
    "D",
    "Y",
    "V",
    "&",
    "@",
    "#",
    "*",
    "X",
    "4",
    "6",
    "s",
    "x",
    "C",
    "r",
    "y",
    "[",
    "]",
    "q",
    "ctrl-l",
    "ctrl-z",
    " ",
    "é",
    "-",
    "+",
    "8",
];

fn random_message(dice: &mut Dice, harness: &Harness) -> Msg {
    match dice.roll(20) {
        0 => {
            let kind = *dice.pick(&[
                MouseEventKind::ScrollDown,
                MouseEventKind::ScrollUp,
                MouseEventKind::Down(MouseButton::Left),
                MouseEventKind::Moved,
            ]);
            let (column, row) = (dice.roll(210) as u16, dice.roll(70) as u16);
            Msg::Mouse(MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE })
        }
        1 => Msg::Tick,
        2 => Msg::Wake,
        3 => Msg::Paste("ein\tHund \u{1F415} links".into()),
        4 => {
            let job = *dice.pick(&[
                Job::Calibration,
                Job::Evaluation,
                Job::Sample,
                Job::Save,
                Job::Export,
                Job::Site,
            ]);
            let event = match dice.roll(4) {
                0 => Event::Progress {
                    job,
                    done: dice.roll(5),
                    total: dice.roll(5),
                    eta_seconds: Some(f64::NAN),
                },
                1 => Event::Failed { job, message: "the file is gone".into() },
                2 => Event::Cancelled { job },
                _ => Event::Warning { message: "odd".into() },
            };
            Msg::Session(event)
        }
        5 => {
            // An answer to something that was never asked.
            let plan = harness.app.plan.current();
            let generation = dice.roll(400) as u64;
            let request = match dice.roll(4) {
                3 => {
                    let width = |sides: u8| Bits::new(2 + sides).unwrap();
                    let bits = MethodBits::new(width(dice.roll(7) as u8), width(dice.roll(7) as u8));
                    let method = dice.pick(&harness.model.methods).name.to_owned();
                    Request::Method { generation, method, bits }
                }
                0 => Request::Show { generation, plan, sample: dice.roll(6), text: None },
                1 => Request::Evaluate { generation, plan },
                _ => {
                    let layer = dice.pick(&harness.model.layers);
                    Request::Site { generation, site: dice.pick(&layer.sites).site.clone(), plan }
                }
            };
            let event = fake::respond(&harness.model, &request).pop();
            event.map_or(Msg::Tick, Msg::Session)
        }
        6 => Msg::Key(KeyEvent::new(KeyCode::Char((b' ' + dice.roll(95) as u8) as char), KeyModifiers::NONE)),
        _ => Msg::Key(key_event(KEYS[dice.roll(KEYS.len())])),
    }
}

fn check(harness: &Harness) {
    let app = &harness.app;
    let rows = app.layers.rows().len();
    assert!(app.layers.cursor < rows.max(1) && app.layers.offset < rows.max(1));
    assert!(app.layers.offset <= app.layers.cursor);
    assert!(app.sample < app.sample_count().max(1));
    assert!(app.choice < app.choices().len().max(1));
    assert!(app.overlays.len() <= 2, "a list and what was opened from it");
    assert!(app.choice_offset <= app.choice);
    let layers = harness.model.layers.len();
    assert!(app.layers.marked().iter().all(|layer| *layer < layers));
    // No rewrite twice.
    let plan = app.plan.current();
    let mut places: Vec<_> = plan.rewrites.iter().map(|place| (&place.rewrite, &place.layer)).collect();
    places.sort();
    places.dedup();
    assert_eq!(places.len(), plan.rewrites.len());
    assert!(app.notes.len() <= 200);
    if let (Some(detail), Some(site)) = (app.site_detail(), app.site_id()) {
        assert_eq!(detail.site, *site);
    }
    // What the plan says of a site is one of the widths offered.
    assert!(app.site_id().is_none() || bitloupe_views::view::bits_offered(app).contains(&app.bits()));
}

#[test]
fn ten_thousand_random_events() {
    for seed in [1, 0x9E37_79B9, 0xDEAD_BEEF, 42] {
        let mut dice = Dice(seed);
        let (depth, ascii) = *dice.pick(&[(ColorDepth::TrueColor, false), (ColorDepth::None, true)]);
        let mut harness = Harness::opening(depth, ascii);
        let sizes = [(80, 24), (200, 60), (40, 12), (120, 40), (0, 0), (79, 15), (100, 26)];
        let mut size = (80, 24);
        for step in 0..2500 {
            if step == 20 {
                harness.open();
            }
            let message = random_message(&mut dice, &harness);
            harness.update(message);
            match dice.roll(6) {
                0 | 1 => harness.settle(),
                2 => harness.sent.clear(),
                _ => {}
            }
            harness.effects.clear();
            if dice.roll(40) == 0 {
                size = *dice.pick(&sizes);
            }
            if dice.roll(3) == 0 {
                harness.frame(size.0, size.1);
            }
            harness.app.prepare(ratatui::layout::Rect::new(0, 0, size.0, size.1));
            check(&harness);
        }
    }
}
