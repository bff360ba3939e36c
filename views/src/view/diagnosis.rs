//! Where the accuracy of the whole model goes, in the sentences of `bitloupe explain`, and its worst sites.

use bitloupe_quant::session::explain::SiteExplanation;
use bitloupe_quant::session::messages::Job;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Widget, Wrap};

use super::{popup, text};
use crate::app::App;

/// The worst sites that are listed, as many as `bitloupe explain` prints.
const SITES: usize = 12;

pub(super) fn draw(app: &App, scroll: u16, area: Rect, buffer: &mut Buffer) {
    let theme = &app.theme;
    let size = (area.width.min(110), area.height.saturating_sub(4).clamp(8, 40));
    let inner = popup::open(app, " The whole model ", size, area, buffer);
    let (body, foot) = (
        Rect { height: inner.height.saturating_sub(1), ..inner },
        Rect { y: inner.bottom().saturating_sub(1), height: inner.height.min(1), ..inner },
    );
    let lines = lines(app);
    // The last line stays on the screen.
    let width = usize::from(body.width.max(1));
    let all: usize = lines.iter().map(|line| text::lines(&line.to_string(), width)).sum();
    let most = u16::try_from(all.saturating_sub(usize::from(body.height))).unwrap_or(u16::MAX);
    Paragraph::new(lines).wrap(Wrap { trim: false }).scroll((scroll.min(most), 0)).render(body, buffer);
    let arrows = if theme.is_ascii() { "Up/Down" } else { "\u{2191}\u{2193}" };
    popup::keys(app, &[(arrows, "scrolls"), ("Esc", "closes")]).render(foot, buffer);
}

fn lines(app: &App) -> Vec<Line<'static>> {
    let theme = &app.theme;
    let mut lines = Vec::new();
    if app.jobs.runs(Job::Diagnosis) {
        let text = " looking at every site, on held-out samples, and with swapped sentences; x stops";
        lines.push(Line::styled(text, theme.accent()));
    } else if app.diagnosis.is_none() {
        lines.push(Line::styled(" nothing was said yet", theme.dim()));
    } else if !app.diagnosis_is_current() {
        lines.push(Line::styled(" said of an earlier plan; i says it of this one", theme.warn()));
    }
    let Some((_, found)) = &app.diagnosis else { return lines };
    lines.extend(found.sentences.iter().map(|sentence| Line::from(format!(" {sentence}"))));
    lines.push(Line::default());
    lines.extend(found.sites.iter().take(SITES).filter_map(|site| worst(app, site)));
    lines
}

/// One of the worst sites: what it has, what is wrong, what would help.
fn worst(app: &App, site: &SiteExplanation) -> Option<Line<'static>> {
    let theme = &app.theme;
    let present = site.present.as_ref()?;
    let mut line = Line::from(vec![
        Span::styled(format!(" {}", site.site), theme.strong()),
        Span::raw(format!("  {} at {} bits ", present.quantizer, present.bits)),
        Span::styled(format!("{} dB", text::decibels(present.sqnr_db)), theme.decibels(present.sqnr_db)),
    ]);
    if let Some(fault) = site.faults.first() {
        line.push_span(Span::styled(format!("  {}", fault.fault.word()), theme.bad()));
    }
    if let Some(first) = site.remedies.first() {
        line.push_span(Span::styled(format!("  {}", first.sentence.trim_end_matches('.')), theme.good()));
    }
    Some(line)
}
