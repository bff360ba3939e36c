//! Figures of a plan as lists show them.

use bitloupe_quant::plan::{Accuracy, Cost};
use ratatui::text::Span;

use super::text;
use crate::app::App;

/// `W 4.0 A 8.0 bits`.
pub(super) fn bits(cost: &Cost) -> String {
    format!("W {:.1} A {:.1} bits", cost.weight_bits, cost.activation_bits)
}

/// The standing figure and what is lost against full precision; the sign says the same as the colour.
pub(super) fn accuracy(app: &App, found: &Accuracy) -> Vec<Span<'static>> {
    let theme = &app.theme;
    let Some(quantized) = found.quantized else {
        return vec![Span::raw(format!("{} with fp {}", found.metric, text::share(found.agreement)))];
    };
    let mut spans =
        vec![Span::styled(format!("{} {}", found.metric, text::share(quantized)), theme.strong())];
    if let Some(float) = found.full_precision {
        spans.push(loss(app, float - quantized));
    }
    spans
}

/// What is lost, with a sign.
pub(super) fn loss(app: &App, loss: f64) -> Span<'static> {
    let theme = &app.theme;
    let (sign, style) = match loss {
        0.02.. => (theme.glyphs.down, theme.bad()),
        0.0005.. => (theme.glyphs.down, theme.warn()),
        -0.0005.. => ("=", theme.good()),
        _ => (theme.glyphs.up, theme.good()),
    };
    Span::styled(format!(" {sign} {}", text::share(loss.abs())), style)
}
