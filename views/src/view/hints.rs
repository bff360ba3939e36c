//! The last line: what is typed, else the newest message, else running work, else keys from the command table.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;
use tui_input::Input;

use super::text;
use crate::app::jobs::{Running, duration, word};
use crate::app::overlay::Overlay;
use crate::app::snapshots::Naming;
use crate::app::{App, Level};
use crate::command::{COMMANDS, Command, Key};

pub(super) fn draw(app: &App, area: Rect, buffer: &mut Buffer) -> Option<(u16, u16)> {
    let first = Rect { height: area.height.min(1), ..area };
    match app.overlays.last() {
        Some(Overlay::Filter { input, .. }) => {
            let count =
                format!("{} of {}", app.layers.matches(), app.model.as_ref().map_or(0, |m| m.layers.len()));
            return Some(prompt(app, "/", input, &count, first, buffer));
        }
        Some(Overlay::Sentence(input)) => {
            return Some(prompt(
                app,
                "sentence: ",
                input,
                "Enter runs it, Esc keeps the old one",
                first,
                buffer,
            ));
        }
        Some(Overlay::Budget(input)) => {
            let note = "between those of the front; Enter solves it without new runs";
            return Some(prompt(app, "average bits: ", input, note, first, buffer));
        }
        Some(Overlay::Name { input, of }) => {
            let label = if *of == Naming::New { "keep the plan as: " } else { "new name: " };
            let note = "Enter keeps it, Esc does not";
            return Some(prompt(app, label, input, note, first, buffer));
        }
        _ => {}
    }
    if let Some(note) = app.notes.back().filter(|_| app.note_shown) {
        let (sign, style) = match note.level {
            Level::Info => (app.theme.glyphs.dot, app.theme.good()),
            Level::Warning => (app.theme.glyphs.warning, app.theme.warn()),
            Level::Error => (app.theme.glyphs.warning, app.theme.bad().patch(app.theme.strong())),
        };
        let more = "  M all";
        let room = usize::from(area.width).saturating_sub(text::width(more) + 3);
        let line = Line::from(vec![
            Span::styled(format!(" {sign} "), style),
            Span::styled(text::head(&note.text, room, app.theme.glyphs), style),
            Span::styled(more, app.theme.dim()),
        ]);
        line.render(first, buffer);
        return None;
    }
    let busy = app.jobs.foremost().map(|running| busy(app, running));
    let room = busy.as_ref().map_or(0, |line| line.width() as u16);
    let [mut hints, mut job] = [first; 2];
    hints.width = first.width.saturating_sub(room);
    job.x = first.x + hints.width;
    job.width = room.min(first.width);
    if let Some(line) = busy {
        line.render(job, buffer);
    }
    let mut shown = hint_line(app, hints, 0, buffer);
    for row in 1..area.height {
        let line = Rect { y: area.y + row, height: 1, ..area };
        shown = hint_line(app, line, shown, buffer);
    }
    None
}

/// Paints as many hints as fit from the n-th on; says where to go on.
fn hint_line(app: &App, area: Rect, from: usize, buffer: &mut Buffer) -> usize {
    let mut hints: Vec<(u8, &str, &Command)> = COMMANDS
        .iter()
        .filter_map(|command| command.hint.map(|(rank, word)| (rank, word, command)))
        .collect();
    hints.sort_by_key(|(rank, ..)| *rank);
    let mut line = Line::from(" ");
    let mut place = from;
    if from == 0 {
        let glyphs = app.theme.glyphs;
        let moves = [(glyphs.up_down, " layer  "), (glyphs.left_right, " bits  ")];
        for (key, word) in moves {
            line.push_span(Span::styled(key, app.theme.key()));
            line.push_span(word);
        }
    }
    for (_, word, command) in hints.iter().skip(from) {
        let key = hint_key(app, command);
        let needed = text::width(&key) + 1 + text::width(word);
        if line.width() + needed > usize::from(area.width) {
            break;
        }
        let enabled = (command.enabled)(app).is_ok();
        let (key_style, word_style) = if enabled {
            (app.theme.key(), ratatui::style::Style::new())
        } else {
            (app.theme.dim(), app.theme.dim())
        };
        line.push_span(Span::styled(key, key_style));
        line.push_span(Span::styled(format!(" {word}  "), word_style));
        place += 1;
    }
    line.render(area, buffer);
    place
}

fn hint_key(app: &App, command: &Command) -> String {
    match (command.keys.first(), command.keys.last()) {
        (Some(&"1"), Some(&"9")) => "1-9".to_owned(),
        (Some(key), _) => Key::parse(key).map(|key| key.label(app.theme.glyphs)).unwrap_or_default(),
        _ => String::new(),
    }
}

/// Length of a progress bar.
const CELLS: usize = 10;

fn busy(app: &App, running: Running) -> Line<'static> {
    let theme = &app.theme;
    let spinner = theme.glyphs.spinner;
    let frame = spinner.get(app.tick % spinner.len().max(1)).copied().unwrap_or("");
    let mut spans = vec![Span::styled(format!(" {frame} {} ", word(running.job)), theme.accent())];
    if let Some(filled) = running.done.saturating_mul(CELLS).checked_div(running.total) {
        let filled = filled.min(CELLS);
        let (full, empty) = theme.glyphs.progress;
        spans.push(Span::styled(full.repeat(filled), theme.accent()));
        spans.push(Span::styled(empty.repeat(CELLS - filled), theme.dim()));
        spans.push(Span::raw(format!(" {}/{}", running.done, running.total)));
    }
    if let Some(seconds) = running.eta_seconds {
        spans.push(Span::styled(format!(" {}", duration(seconds)), theme.dim()));
    }
    if app.jobs.cancellable() {
        spans.push(Span::styled("  x", theme.key()));
        spans.push(Span::raw(" cancel"));
    }
    spans.push(Span::raw(" "));
    Line::from(spans)
}

fn prompt(app: &App, label: &str, input: &Input, note: &str, area: Rect, buffer: &mut Buffer) -> (u16, u16) {
    let label_width = text::width(label) + 1;
    let room = usize::from(area.width).saturating_sub(label_width + 1);
    let scroll = input.visual_scroll(room);
    let visible: String = input.value().chars().skip(scroll).take(room).collect();
    let used = label_width + text::width(&visible);
    let mut line = Line::from(vec![Span::styled(format!(" {label}"), app.theme.key()), Span::raw(visible)]);
    if used + text::width(note) + 3 < usize::from(area.width) {
        line.push_span(Span::styled(format!("   {note}"), app.theme.dim()));
    }
    line.render(area, buffer);
    let x = label_width + input.visual_cursor().saturating_sub(scroll);
    (area.x.saturating_add(x as u16).min(area.right().saturating_sub(1)), area.y)
}
