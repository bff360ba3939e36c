//! What the distribution means for a grid, and what would help.

use bitloupe_quant::session::messages::RewriteView;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Widget, Wrap};

use super::rewrites::why_left_out;
use super::{frame, text};
use crate::app::rewrites::{Standing, about};
use crate::app::{App, Pane, decibels};
use crate::widget::axis::figure;

/// A remedy is named from this gain on.
const WORTH: f64 = 1.0;

pub(super) fn draw(app: &App, area: Rect, buffer: &mut Buffer) {
    let theme = &app.theme;
    let mut title = Line::styled(" Why ", theme.strong());
    if let Some(summary) = app.summary() {
        title.push_span(Span::styled(format!("{} ", summary.class), theme.accent()));
    }
    let block = frame(app, Pane::Why).title(title);
    let inner = block.inner(area);
    block.render(area, buffer);
    let inner = Rect { x: inner.x.saturating_add(1), width: inner.width.saturating_sub(2), ..inner };
    let mut lines = lines(app);
    let told = explanation(app);
    // Half an explanation helps nobody; in the focused pane the rest of it is a key away.
    let all =
        || lines.iter().chain(&told).map(|line| text::lines(&line.to_string(), usize::from(inner.width)));
    if app.focus == Pane::Why || all().sum::<usize>() <= usize::from(inner.height) {
        lines.extend(told);
    }
    Paragraph::new(lines).wrap(Wrap { trim: true }).scroll((app.why_scroll, 0)).render(inner, buffer);
}

fn lines(app: &App) -> Vec<Line<'_>> {
    let theme = &app.theme;
    let Some(summary) = app.summary() else {
        let text = if app.site_id().is_some() { "not calibrated yet" } else { "" };
        return vec![Line::styled(text, theme.dim())];
    };
    let mut lines = vec![Line::from(summary.sentence.as_str())];
    lines.extend(effect(app));
    lines.extend(remedy(app));
    lines.extend(rewrites(app));
    let facts: Vec<String> = summary.evidence.iter().map(|(name, value)| format!("{name} {value}")).collect();
    if !facts.is_empty() {
        lines.push(Line::styled(facts.join(&format!("  {}  ", theme.glyphs.dot)), theme.dim()));
    }
    let zeros = summary.zeros as f64 / summary.count.max(1) as f64 * 100.0;
    let counts = format!("{} values, {} % zeros", text::count(summary.count), figure(zeros));
    lines.push(Line::styled(counts, theme.dim()));
    if summary.nan + summary.inf > 0 {
        let text = format!("{} {} NaN, {} infinite values", theme.glyphs.warning, summary.nan, summary.inf);
        lines.push(Line::styled(text, theme.bad()));
    }
    lines
}

/// What was measured of this site.
fn effect(app: &App) -> Option<Line<'static>> {
    let theme = &app.theme;
    let effect = app.effect(app.site_id()?)?;
    let db = |value: Option<f64>| value.map_or_else(|| "?".to_owned(), text::decibels);
    let style = if effect.delta <= -0.01 { theme.bad() } else { theme.strong() };
    let change = format!("{} {}", app.effects.metric.name(), text::change(effect.delta, theme.glyphs));
    Some(Line::from(vec![
        Span::styled(change, style),
        Span::raw(format!(
            " when only it is quantized ({} samples); the layer's output {} dB, under the whole plan {} dB",
            effect.samples,
            db(effect.isolated_sqnr_db),
            db(effect.cumulative_sqnr_db)
        )),
    ]))
}

/// The rewrites that the plan's values of this site go through.
fn rewrites(app: &App) -> Vec<Line<'static>> {
    let theme = &app.theme;
    let Some(site) = app.site_id() else { return Vec::new() };
    let line = |(place, standing): (&RewriteView, Standing)| {
        let word = &place.rewrite.rewrite;
        let (style, says) = match standing {
            Standing::LeftOut => (theme.dim(), format!("left out, {}", why_left_out(word))),
            _ => (theme.quantized(), about(word).to_owned()),
        };
        Line::from(vec![Span::styled(format!("{} {word}: ", theme.glyphs.rewritten), style), Span::raw(says)])
    };
    app.rewrites_of(site).into_iter().map(line).collect()
}

/// What the choice under the cursor does to values, or the plan's while nobody moves that cursor; last, as it is the
/// same for all sites.
fn explanation(app: &App) -> Vec<Line<'static>> {
    let theme = &app.theme;
    let chosen = app.choices().get(app.choice).map(|choice| (choice.scheme.family, choice.label.clone()));
    let planned = || Some(app.plan.scheme(app.site_id()?)?).map(|scheme| (scheme.family, scheme.to_string()));
    // A method's scheme need not be in the list.
    let unlisted =
        app.focus != Pane::Quantizers && app.current_choice().is_none() && !app.choices().is_empty();
    let Some((family, label)) = planned().filter(|_| unlisted).or(chosen) else { return Vec::new() };
    let [grid, fit] = family.explanation();
    vec![
        Line::from(vec![Span::styled(format!("{label}: "), theme.strong()), Span::raw(grid)]),
        Line::styled(fit, theme.dim()),
    ]
}

/// The better choice, if it is worth a key.
fn remedy(app: &App) -> Option<Line<'static>> {
    let theme = &app.theme;
    if app.bits().is_float() {
        return None;
    }
    let (place, best) = app.best_choice()?;
    let current = app.current_choice()?;
    let now = decibels(app.choices().get(current)?, app.compared_bits())?;
    if place == current || best < now + WORTH {
        return None;
    }
    let label = app.choices().get(place)?.label.clone();
    let mut line = Line::from(vec![Span::styled(
        format!("{label} would give {} dB more", text::decibels(best - now)),
        theme.good(),
    )]);
    if place < 9 {
        line.push_span(": press ");
        line.push_span(Span::styled((place + 1).to_string(), theme.key()));
    } else {
        line.push_span(format!(": line {} of the quantizers, then ", place + 1));
        line.push_span(Span::styled("Enter", theme.key()));
    }
    Some(line)
}
