//! The first line: model, plan, bits, size, accuracy. What does not fit is dropped from the least important on.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;

use super::{figures, text};
use crate::app::App;
use crate::app::compare::Side;

/// One fact of the line; the lowest rank stays longest.
struct Fact {
    rank: u8,
    spans: Vec<Span<'static>>,
}

pub(super) fn draw(app: &App, area: Rect, buffer: &mut Buffer) {
    let mut facts = facts(app);
    let gap = 3;
    let width = |facts: &[Fact]| -> usize {
        facts
            .iter()
            .map(|fact| fact.spans.iter().map(|span| text::width(&span.content)).sum::<usize>() + gap)
            .sum()
    };
    while width(&facts) > usize::from(area.width) + gap - 1 && facts.len() > 1 {
        let Some(least) = facts.iter().enumerate().max_by_key(|(_, fact)| fact.rank).map(|(place, _)| place)
        else {
            break;
        };
        facts.remove(least);
    }
    let mut line = Line::from(" ");
    for (place, fact) in facts.into_iter().enumerate() {
        if place > 0 {
            line.push_span("   ");
        }
        line.spans.extend(fact.spans);
    }
    line.render(area, buffer);
}

fn facts(app: &App) -> Vec<Fact> {
    let theme = &app.theme;
    let glyphs = theme.glyphs;
    let mut facts = Vec::new();
    let Some(model) = &app.model else {
        let frames = glyphs.spinner;
        let spinner = match frames.get(app.tick % frames.len().max(1)) {
            Some(frame) if !app.ended => format!("{frame} "),
            _ => String::new(),
        };
        let doing = if app.ended { "not open:" } else { "opening" };
        let name = Span::styled("bitloupe", theme.accent().patch(theme.strong()));
        facts.push(Fact {
            rank: 0,
            spans: vec![name, Span::raw(format!("  {spinner}{doing} {}", app.setup.opening))],
        });
        return facts;
    };
    facts.push(Fact { rank: 8, spans: vec![Span::styled("bitloupe", theme.accent().patch(theme.strong()))] });
    let mut spans = vec![Span::styled(model.name.clone(), theme.strong())];
    if let Some(label) = &model.label {
        spans.push(Span::styled(format!(" [{label}]"), theme.warn()));
    }
    facts.push(Fact { rank: 1, spans });
    let calibrated = if app.calibration.complete || app.calibration.samples == 0 {
        format!("{} calib", model.calibration_samples)
    } else {
        format!("{}/{} calib", app.calibration.samples, model.calibration_samples)
    };
    let counts = format!("{calibrated} {} {} samples", glyphs.dot, model.samples.len());
    facts.push(Fact { rank: 7, spans: vec![Span::styled(counts, theme.dim())] });
    let mut spans = vec![Span::styled("plan ", theme.dim())];
    spans.extend(sides(app));
    spans.push(Span::raw(app.plan_name.clone()));
    if app.plan.is_dirty() {
        spans.push(Span::styled(format!(" {}", glyphs.dirty), theme.warn()));
    }
    facts.push(Fact { rank: 3, spans });
    if let Some(fitted) = &app.fitted {
        let stale = if app.plan_is_fitted() { Style::new() } else { theme.dim() };
        let bits = format!("W {:.1} A {:.1} bits", fitted.weight_bits, fitted.activation_bits);
        facts.push(Fact { rank: 4, spans: vec![Span::styled(bits, stale)] });
        let saved = 1.0 - fitted.weight_bytes as f64 / model.float_bytes.max(1) as f64;
        let size = format!("{} ({}{:.0} %)", text::bytes(fitted.weight_bytes), glyphs.minus, saved * 100.0);
        facts.push(Fact { rank: 5, spans: vec![Span::styled(size, stale)] });
    }
    if let Some((used, cap)) = app.set.as_ref().map(|set| set.cache).filter(|(_, cap)| *cap > 0) {
        let text = format!("cache {} of {}", text::bytes(used as u64), text::bytes(cap as u64));
        facts.push(Fact { rank: 9, spans: vec![Span::styled(text, theme.dim())] });
    }
    if let Some(spans) = accuracy(app) {
        facts.push(Fact { rank: 2, spans });
    }
    facts
}

/// Which of two compared plans is shown: `A [B] `.
fn sides(app: &App) -> Vec<Span<'static>> {
    let Some(shown) = app.side() else { return Vec::new() };
    let theme = &app.theme;
    let letter = |side: Side| {
        if side == shown {
            Span::styled(format!("[{}]", side.letter()), theme.accent().patch(theme.strong()))
        } else {
            Span::styled(format!(" {} ", side.letter()), theme.dim())
        }
    };
    vec![letter(Side::A), letter(Side::B), Span::raw(" ")]
}

/// mIoU of the set and the loss against full precision; faint while it is of an older plan.
fn accuracy(app: &App) -> Option<Vec<Span<'static>>> {
    let set = app.set.as_ref()?;
    let theme = &app.theme;
    let current = app.set_is_current();
    let stale = if current { Style::new() } else { theme.dim() };
    let partial =
        if set.complete { String::new() } else { format!(" ({}/{})", set.samples, app.sample_count()) };
    let Some(quantized) = set.quantized else {
        let text = format!("{} with fp {}{partial}", set.metric.name(), text::share(set.agreement));
        return Some(vec![Span::styled(text, stale)]);
    };
    let mut spans = vec![Span::styled(
        format!("{} {}", set.metric.name(), text::share(quantized)),
        stale.patch(theme.strong()),
    )];
    if let Some(float) = set.full_precision {
        let loss = figures::loss(app, float - quantized);
        spans.push(if current { loss } else { loss.style(theme.dim()) });
    }
    spans.push(Span::styled(partial, theme.dim()));
    if !current && set.complete {
        spans.push(Span::styled(" old", theme.dim()));
    }
    Some(spans)
}
