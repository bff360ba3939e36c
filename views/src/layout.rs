//! Where the panes are.
//!
//! ```text
//! wide (100 × 26 and more)          two panes (80 × 16 and more)      one pane (40 × 12 and more)
//! ┌ header ─────────────────┐       ┌ header ────────────┐            ┌ header ──────┐
//! │ Layers     │ Histogram  │       │ Layers │ tabs      │            │ tabs         │
//! │            │ Quantizers │       │        │ one pane  │            │ one pane     │
//! │ Samples    │ Why        │       │        │           │            │              │
//! └ hints ──────────────────┘       └ hints ─────────────┘            └ hints ───────┘
//! ```

use ratatui::layout::{Constraint, Layout, Position, Rect};

use crate::app::Pane;

/// The smallest terminal that is drawn on.
pub const SMALLEST: (u16, u16) = (40, 12);

/// The rectangles of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Screen {
    /// The first line.
    pub header: Rect,
    /// The last line.
    pub hints: Rect,
    /// The tabs, where not all panes have room.
    pub tabs: Option<(Rect, &'static [Pane])>,
    /// The panes that are seen.
    pub panes: Vec<(Pane, Rect)>,
}

/// Tabs beside the layers.
const BESIDE: &[Pane] = &[Pane::Histogram, Pane::Quantizers, Pane::Why, Pane::Samples];

impl Screen {
    /// Cuts a terminal up; nothing if it is too small. If `zoomed`, the pane with the focus has all the room.
    pub fn of(area: Rect, focus: Pane, tab: Pane, zoomed: bool) -> Self {
        if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
            return Self { header: Rect::ZERO, hints: Rect::ZERO, tabs: None, panes: Vec::new() };
        }
        let hint_lines = if area.height >= 40 && area.width < 160 { 2 } else { 1 };
        let [header, body, hints] =
            Layout::vertical([Constraint::Length(1), Constraint::Min(0), Constraint::Length(hint_lines)])
                .areas(area);
        if !zoomed && area.width >= 100 && area.height >= 26 {
            return Self { header, hints, tabs: None, panes: wide(body) };
        }
        if !zoomed && area.width >= 80 && area.height >= 16 {
            let [left, right] =
                Layout::horizontal([Constraint::Percentage(48), Constraint::Min(0)]).areas(body);
            let [tabs, pane] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(right);
            return Self {
                header,
                hints,
                tabs: Some((tabs, BESIDE)),
                panes: vec![(Pane::Layers, left), (tab, pane)],
            };
        }
        let [tabs, pane] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(body);
        Self { header, hints, tabs: Some((tabs, &Pane::ALL)), panes: vec![(focus, pane)] }
    }

    /// The rectangle of a pane, if it is seen.
    pub fn rect(&self, pane: Pane) -> Option<Rect> {
        self.panes.iter().find(|(other, _)| *other == pane).map(|(_, rect)| *rect)
    }

    /// The pane at a cell.
    pub fn pane_at(&self, at: Position) -> Option<(Pane, Rect)> {
        self.panes.iter().copied().find(|(_, rect)| rect.contains(at))
    }

    /// The tabs with their cells.
    pub fn tab_cells(&self) -> Vec<(Pane, Rect)> {
        let Some((rect, tabs)) = self.tabs else { return Vec::new() };
        // Full titles where they fit, else their first three letters.
        let full: u16 = tabs.iter().map(|tab| tab.title().len() as u16 + 2).sum();
        let mut x = rect.x;
        tabs.iter()
            .map(|tab| {
                let length = if full <= rect.width { tab.title().len() as u16 + 2 } else { 6 };
                let cell = Rect { x, y: rect.y, width: length, height: 1 }.intersection(rect);
                x = x.saturating_add(length);
                (*tab, cell)
            })
            .collect()
    }

    /// The tab at a cell.
    pub fn tab_at(&self, at: Position) -> Option<Pane> {
        self.tab_cells().into_iter().find(|(_, rect)| rect.contains(at)).map(|(pane, _)| pane)
    }
}

fn wide(body: Rect) -> Vec<(Pane, Rect)> {
    let [left, right] = Layout::horizontal([Constraint::Percentage(50), Constraint::Min(0)]).areas(body);
    // Pictures of 4 to 3 beside each other, a line of figures, captions and the frame.
    let pictures = if left.width >= 70 { 4 } else { 3 };
    let samples = (left.width / pictures * 3 / 8 + 5).clamp(10, body.height * 45 / 100);
    let [layers, samples] = Layout::vertical([Constraint::Min(6), Constraint::Length(samples)]).areas(left);
    let quantizers = (body.height / 4).clamp(9, 19);
    let why = (body.height / 5).clamp(5, 12);
    let [histogram, quantizers, why] =
        Layout::vertical([Constraint::Min(8), Constraint::Length(quantizers), Constraint::Length(why)])
            .areas(right);
    vec![
        (Pane::Layers, layers),
        (Pane::Samples, samples),
        (Pane::Histogram, histogram),
        (Pane::Quantizers, quantizers),
        (Pane::Why, why),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panes_never_overlap_nor_leave_the_terminal() {
        for width in 0..220 {
            for height in 0..70 {
                let area = Rect::new(0, 0, width, height);
                let screen = Screen::of(area, Pane::Why, Pane::Samples, (width + height) % 3 == 0);
                let mut rects: Vec<Rect> = screen.panes.iter().map(|(_, rect)| *rect).collect();
                rects.extend([screen.header, screen.hints]);
                for (index, rect) in rects.iter().enumerate() {
                    assert_eq!(rect.intersection(area).area(), rect.area());
                    for other in rects.iter().skip(index + 1) {
                        assert!(rect.intersection(*other).is_empty(), "{width}x{height} {rect:?} {other:?}");
                    }
                }
            }
        }
    }
}
