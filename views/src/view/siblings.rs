//! To which sites the shown one's quantizer and bits can be copied, and how many each choice would change.

use ratatui::text::{Line, Span};

use super::popup::{List, keys};
use super::text;
use crate::app::App;

pub(super) fn list(app: &App, cursor: usize) -> List {
    let theme = &app.theme;
    let groups = app.siblings();
    // The frame, the number, the kind; then the counts.
    let room = usize::from(app.area.width).saturating_sub(25);
    let labels = groups.iter().map(|group| text::width(&group.label)).max().unwrap_or(0);
    let labels = labels.min(room.saturating_sub(34)).max(10);
    let lines = groups
        .iter()
        .enumerate()
        .map(|(place, group)| {
            let label = text::tail(&group.label, labels, theme.glyphs);
            let pad = labels.saturating_sub(text::width(&label)) + 2;
            let sites = if group.sites.len() == 1 { "site, " } else { "sites," };
            let change = match group.changing {
                0 => "none would change".to_owned(),
                1 => "1 would change".to_owned(),
                changing => format!("{changing} would change"),
            };
            Line::from(vec![
                Span::styled(format!(" {}  ", place + 1), theme.key()),
                Span::raw(format!("{:<14}", group.kind)),
                Span::raw(label),
                Span::raw(" ".repeat(pad)),
                Span::styled(format!("{:>3} {sites} ", group.sites.len()), theme.dim()),
                Span::styled(
                    format!("{change} "),
                    if group.changing > 0 { theme.strong() } else { theme.dim() },
                ),
            ])
        })
        .collect();
    let what = app.site_id().map(|site| app.plan.in_words(site)).unwrap_or_default();
    List {
        title: format!(" Copy {what} to "),
        lines,
        foot: Some(keys(app, &[("Enter", "copies"), ("Esc", "closes")])),
        cursor,
        ..List::default()
    }
}
