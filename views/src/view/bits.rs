//! The list of widths.

use bitloupe_quant::terms::Bits;
use ratatui::text::{Line, Span};

use super::popup::List;
use super::text;
use crate::app::{App, decibels};

/// The widths a site can be given, narrowest first: those that were scored, or the usual ones until then.
pub fn bits_offered(app: &App) -> Vec<Bits> {
    let usual =
        || [2, 3, 4, 5, 6, 8, 16].into_iter().filter_map(|bits| Bits::new(bits).ok()).collect::<Vec<_>>();
    let mut offered: Vec<Bits> = match app.choices().first() {
        Some(choice) if !choice.sqnr_db.is_empty() => choice.sqnr_db.iter().map(|(bits, _)| *bits).collect(),
        _ => usual(),
    };
    offered.retain(|bits| !bits.is_float());
    // A plan from a file may hold a width that is not offered.
    offered.push(app.bits());
    offered.push(Bits::FLOAT);
    offered.sort();
    offered.dedup();
    offered
}

pub(super) fn list(app: &App, cursor: usize) -> List {
    let theme = &app.theme;
    let place = app.current_choice().or(app.best_choice().map(|(place, _)| place)).unwrap_or(0);
    let choice = app.choices().get(place);
    let lines: Vec<Line> = bits_offered(app)
        .into_iter()
        .map(|bits| {
            let key = match bits.get() {
                Some(16) => "1".to_owned(),
                Some(bits) => bits.to_string(),
                None => "f".to_owned(),
            };
            let name = bits.get().map_or("float".to_owned(), |bits| format!("{bits} bits"));
            let value = choice.and_then(|choice| decibels(choice, bits));
            let figure = value.map_or(String::new(), |value| format!("{:>6} dB", text::decibels(value)));
            let style = value.map_or(theme.dim(), |value| theme.decibels(value));
            let now = if bits == app.bits() { " current" } else { "" };
            Line::from(vec![
                Span::styled(format!(" {key}  "), theme.key()),
                Span::raw(format!("{name:<9}")),
                Span::styled(format!("{figure:>9}"), style),
                Span::styled(format!("{now:<9}"), theme.dim()),
            ])
        })
        .collect();
    let title = choice.map_or(String::new(), |choice| format!(" Bits: {} ", choice.label));
    List { title, lines, cursor, ..List::default() }
}
