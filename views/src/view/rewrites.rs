//! The rewrites that touch the layer, each on or off.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Widget, Wrap};

use super::{popup, text};
use crate::app::App;
use crate::app::rewrites::{Reach, Standing, about};

/// Lines of one entry: what it is, what it does (two), what became of it.
const ENTRY: u16 = 4;

pub(super) fn draw(app: &App, cursor: usize, area: Rect, buffer: &mut Buffer) {
    let found = app.rewrites_in_reach();
    let theme = &app.theme;
    let size = (area.width.saturating_sub(4).min(90), found.len() as u16 * ENTRY + 3);
    let inner = popup::open(app, &title(app), size, area, buffer);
    let list = Rect { height: inner.height.saturating_sub(1), ..inner };
    let page = usize::from((list.height / ENTRY).max(1));
    let names = found.iter().map(|reach| reach.rewrite.len()).max().unwrap_or(0);
    let first = (cursor + 1).saturating_sub(page);
    for (row, (place, reach)) in found.iter().enumerate().skip(first).take(page).enumerate() {
        let rect = Rect { y: list.y + row as u16 * ENTRY, height: ENTRY, ..list }.intersection(list);
        let head = Rect { height: rect.height.min(1), ..rect };
        entry(app, place, reach, names, usize::from(rect.width)).render(head, buffer);
        if place == cursor {
            buffer.set_style(head, theme.selected(true));
        }
        let below = Rect {
            x: rect.x + 7,
            y: rect.y + 1,
            width: rect.width.saturating_sub(8),
            height: rect.height.saturating_sub(1),
        };
        let mut lines = vec![Line::styled(about(&reach.rewrite), theme.dim())];
        lines.extend(outcome(app, reach));
        Paragraph::new(lines).wrap(Wrap { trim: true }).render(below.intersection(list), buffer);
    }
    let key = |key: &'static str| Span::styled(key, theme.key());
    let hints = Line::from(vec![
        Span::raw(" "),
        key("Space"),
        Span::raw(" switches  "),
        key("u"),
        Span::raw(" takes an edit back  "),
        key("Esc"),
        Span::raw(" closes"),
    ]);
    let last = Rect { y: inner.bottom().saturating_sub(1), height: inner.height.min(1), ..inner };
    hints.render(last, buffer);
}

fn title(app: &App) -> String {
    let layers = app.edited_layers();
    let only = || app.model.as_ref()?.layers.get(*layers.first()?);
    let what = match only() {
        Some(layer) if layers.len() == 1 => layer.name.clone(),
        _ if !app.layers.marked().is_empty() => format!("{} marked layers", layers.len()),
        _ => format!("{} layers", layers.len()),
    };
    format!(" Rewrites of {what} ")
}

fn entry(app: &App, place: usize, reach: &Reach, names: usize, width: usize) -> Line<'static> {
    let theme = &app.theme;
    let (on, all) = (count_on(app, reach), reach.places.len());
    let state = match on {
        0 => "off".to_owned(),
        on if on == all => "on".to_owned(),
        on => format!("{on} of {all} on"),
    };
    let sign = match on {
        0 => "[ ]",
        on if on == all => "[x]",
        _ => "[-]",
    };
    let anchor = match (reach.places.as_slice(), &app.model) {
        ([place], Some(model)) => model.rewrites.get(*place).map(|view| view.rewrite.layer.clone()),
        _ => Some(format!("{all} places")),
    };
    let number = if place < 9 { (place + 1).to_string() } else { " ".to_owned() };
    // In a narrow box the title says where.
    let fixed = 7 + names + " at ".len() + state.len() + 2;
    let room = width.saturating_sub(fixed);
    let anchor = text::tail(&anchor.unwrap_or_default(), room, theme.glyphs);
    let pad = room.saturating_sub(text::width(&anchor)) + 1;
    let at = if room > 4 { format!(" at {anchor}{}", " ".repeat(pad)) } else { " ".to_owned() };
    Line::from(vec![
        Span::styled(format!(" {number} "), theme.key()),
        Span::styled(format!("{sign} "), if on > 0 { theme.good() } else { theme.dim() }),
        Span::styled(format!("{:<names$}", reach.rewrite), theme.strong()),
        Span::styled(at, theme.dim()),
        Span::raw(state),
    ])
}

fn standings(app: &App, reach: &Reach) -> Vec<Standing> {
    let Some(model) = &app.model else { return Vec::new() };
    reach
        .places
        .iter()
        .filter_map(|place| model.rewrites.get(*place))
        .map(|view| app.standing(view))
        .collect()
}

fn count_on(app: &App, reach: &Reach) -> usize {
    standings(app, reach).iter().filter(|standing| **standing != Standing::Off).count()
}

/// What the fit left out, and why that may be.
fn outcome(app: &App, reach: &Reach) -> Option<Line<'static>> {
    let left_out = standings(app, reach).iter().filter(|standing| **standing == Standing::LeftOut).count();
    if left_out == 0 {
        return None;
    }
    let where_ = if reach.places.len() == 1 { "here".to_owned() } else { format!("at {left_out} places") };
    let text =
        format!("{} changes nothing {where_}: {}", app.theme.glyphs.warning, why_left_out(&reach.rewrite));
    Some(Line::styled(text, app.theme.warn()))
}

/// When the fit leaves a rewrite out.
pub(super) fn why_left_out(rewrite: &str) -> &'static str {
    if rewrite == "sign-folding" { "the keys have no two peaks" } else { "its sites are in full precision" }
}
