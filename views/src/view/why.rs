//! What the distribution means for a grid, and what would help.

use bitloupe_quant::session::explain::{Advice, NamedFault, Remedy};
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
    if app.layer().is_some_and(|layer| !layer.used) {
        let text =
            "Not used: no result of the model depends on this layer, so nothing done to it has an effect.";
        return vec![Line::styled(text, theme.warn()), Line::from(summary.sentence.as_str())];
    }
    let mut lines = faults(app);
    let wrong = !lines.is_empty();
    if wrong {
        lines.extend(advice(app));
    }
    lines.push(Line::from(summary.sentence.as_str()));
    lines.extend(levels(app));
    lines.extend(effect(app));
    if !wrong {
        lines.extend(remedy(app));
        lines.extend(rewrite_advice(app));
    }
    lines.extend(held_out(app));
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

/// What the plan's grid spends its levels on.
fn levels(app: &App) -> Option<Line<'static>> {
    let present = app.explanation()?.present.as_ref()?;
    let mut text = format!("{} of {} levels in use", present.levels_used.min(present.levels), present.levels);
    if let Some(crowded) = present.crowded_levels {
        text.push_str(&format!(", nine of ten values in {crowded}"));
    }
    Some(Line::from(text))
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

/// What is wrong with the site under the plan, the costliest first.
fn faults(app: &App) -> Vec<Line<'_>> {
    let theme = &app.theme;
    let line = |named: &'_ NamedFault| {
        let (name, rest) = named.sentence.split_once(':').unwrap_or(("", named.sentence.as_str()));
        Line::from(vec![
            Span::styled(format!("{} {name}:", theme.glyphs.warning), theme.bad()),
            Span::raw(rest.to_owned()),
        ])
    };
    app.explanation().map_or_else(Vec::new, |explanation| explanation.faults.iter().map(line).collect())
}

/// What mends the first fault, with its key.
fn advice(app: &App) -> Option<Line<'static>> {
    let theme = &app.theme;
    let first = app.explanation()?.remedies.first()?;
    let mut line = Line::from(Span::styled(first.sentence.trim_end_matches('.').to_owned(), theme.good()));
    let key = match &first.remedy {
        Remedy::Quantizer { scheme, bits: None } => {
            let place = app.choices().iter().position(|choice| choice.scheme == *scheme)?;
            if place >= 9 {
                line.push_span(format!(": line {} of the quantizers, then ", place + 1));
                line.push_span(Span::styled("Enter", theme.key()));
                return Some(line);
            }
            (place + 1).to_string()
        }
        Remedy::Quantizer { bits: Some(_), .. } => "b".to_owned(),
        Remedy::Rewrite { .. } | Remedy::WithoutRewrites { .. } | Remedy::RewritesAnew { .. } => {
            "W".to_owned()
        }
        Remedy::Exchange { .. } => {
            app.exchangeable().ok()?;
            "E".to_owned()
        }
        Remedy::Recalibrate => return Some(line),
    };
    line.push_span(": press ");
    line.push_span(Span::styled(key, theme.key()));
    Some(line)
}

/// A rewrite that would help a site with nothing wrong.
fn rewrite_advice(app: &App) -> Option<Line<'static>> {
    let theme = &app.theme;
    let wanted = |advice: &&Advice| matches!(advice.remedy, Remedy::Rewrite { .. });
    let found = app.explanation()?.remedies.iter().find(wanted)?;
    Some(Line::from(vec![
        Span::styled(found.sentence.trim_end_matches('.').to_owned(), theme.good()),
        Span::raw(": press "),
        Span::styled("W", theme.key()),
    ]))
}

/// Whether samples that were not calibrated on look alike.
fn held_out(app: &App) -> Option<Line<'static>> {
    let explanation = app.explanation()?;
    let held_out = explanation.held_out.as_ref()?;
    let now = explanation.present.as_ref()?.sqnr_db;
    let text = format!(
        "held out {} dB (calibration {}), {} clipped (calibration {})",
        text::decibels(held_out.sqnr_db),
        text::decibels(now),
        share(held_out.clipped_fraction),
        share(held_out.calibration_clipped_fraction)
    );
    Some(Line::styled(text, app.theme.dim()))
}

fn share(fraction: f64) -> String {
    format!("{} %", figure(fraction * 100.0))
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
