//! A box over the panes.

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Widget};

use super::text;
use crate::app::App;

/// A list with a cursor, as wide as its lines.
#[derive(Debug, Default)]
pub struct List {
    /// In the frame.
    pub title: String,
    /// Lines above the list that stay where they are.
    pub head: Vec<Line<'static>>,
    /// The list.
    pub lines: Vec<Line<'static>>,
    /// Below the list, e.g. the keys.
    pub foot: Option<Line<'static>>,
    /// Where the cursor is.
    pub cursor: usize,
}

impl List {
    /// The box in a screen.
    fn rect(&self, area: Rect) -> Rect {
        let all = self.head.iter().chain(&self.lines).chain(&self.foot);
        let widest = all.map(Line::width).max().unwrap_or(0).max(text::width(&self.title));
        let height = self.head.len() + self.lines.len().max(1) + usize::from(self.foot.is_some());
        place((widest as u16).saturating_add(4), height as u16 + 2, area)
    }

    /// Where the lines of the list are.
    fn body(&self, area: Rect) -> Rect {
        let rect = self.rect(area);
        let (above, below) = (1 + self.head.len() as u16, 1 + u16::from(self.foot.is_some()));
        Rect {
            x: rect.x + 1,
            y: rect.y.saturating_add(above),
            width: rect.width.saturating_sub(2),
            height: rect.height.saturating_sub(above + below),
        }
    }

    fn first(&self, page: usize) -> usize {
        (self.cursor + 1).saturating_sub(page)
    }

    /// The line of the list at a place of the screen, or nothing for one beside it.
    pub fn line_at(&self, area: Rect, at: Position) -> Option<usize> {
        let body = self.body(area);
        let line = self.first(usize::from(body.height)) + usize::from(at.y.saturating_sub(body.y));
        (body.contains(at) && line < self.lines.len()).then_some(line)
    }

    /// Whether a place of the screen is in the box.
    pub fn holds(&self, area: Rect, at: Position) -> bool {
        self.rect(area).contains(at)
    }

    /// Paints it.
    pub fn draw(&self, app: &App, area: Rect, buffer: &mut Buffer) {
        let inner = frame(app, &self.title, self.rect(area), buffer);
        for (row, line) in self.head.iter().enumerate() {
            let rect = Rect { y: inner.y + row as u16, height: 1, ..inner };
            line.render(rect.intersection(inner), buffer);
        }
        let body = self.body(area).intersection(inner);
        let page = usize::from(body.height);
        for (row, (place, line)) in
            self.lines.iter().enumerate().skip(self.first(page)).take(page).enumerate()
        {
            let rect = Rect { y: body.y + row as u16, height: 1, ..body };
            line.render(rect, buffer);
            if place == self.cursor {
                buffer.set_style(rect, app.theme.selected(true));
            }
        }
        if let Some(foot) = &self.foot {
            let last = Rect { y: inner.bottom().saturating_sub(1), height: inner.height.min(1), ..inner };
            foot.render(last, buffer);
        }
    }
}

/// A line of keys with what they do.
pub fn keys(app: &App, pairs: &[(&'static str, &'static str)]) -> Line<'static> {
    let mut line = Line::from(" ");
    for (key, word) in pairs {
        line.push_span(Span::styled(*key, app.theme.key()));
        line.push_span(format!(" {word}  "));
    }
    line
}

fn place(width: u16, height: u16, area: Rect) -> Rect {
    let width = width.min(area.width.saturating_sub(2));
    let height = height.min(area.height.saturating_sub(2));
    Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height }
}

/// Clears a box in the middle and draws its frame; gives the inside.
pub fn open(app: &App, title: &str, size: (u16, u16), area: Rect, buffer: &mut Buffer) -> Rect {
    frame(app, title, place(size.0, size.1, area), buffer)
}

fn frame(app: &App, title: &str, rect: Rect, buffer: &mut Buffer) -> Rect {
    Clear.render(rect, buffer);
    let title = text::head(title, usize::from(rect.width.saturating_sub(4)), app.theme.glyphs);
    let block = Block::bordered()
        .border_set(app.theme.glyphs.border_focused)
        .border_style(app.theme.border(true))
        .title(Line::styled(title, app.theme.strong()));
    let inner = block.inner(rect);
    block.render(rect, buffer);
    inner
}
