//! Tabs, where not all panes have room.

use ratatui::buffer::Buffer;
use ratatui::text::Line;
use ratatui::widgets::Widget;

use crate::app::App;
use crate::layout::Screen;

pub(super) fn draw(app: &App, screen: &Screen, buffer: &mut Buffer) {
    for (pane, rect) in screen.tab_cells() {
        let shown = screen.rect(pane).is_some();
        let style = match (shown, app.focus == pane) {
            (true, true) => app.theme.selected(true),
            (true, false) => app.theme.strong().patch(app.theme.selected(false)),
            _ => app.theme.dim(),
        };
        let title: String = pane.title().chars().take(usize::from(rect.width).saturating_sub(2)).collect();
        Line::styled(format!(" {title} "), style).render(rect, buffer);
    }
}
