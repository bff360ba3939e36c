//! A prepared rectangle of cells.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style};
use ratatui::widgets::Widget;

/// One cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spot {
    /// The character.
    pub ch: char,
    /// How it is drawn.
    pub style: Style,
}

impl Spot {
    /// An empty cell.
    pub const BLANK: Self = Self { ch: ' ', style: Style::new() };

    /// A character in a style.
    pub const fn new(ch: char, style: Style) -> Self {
        Self { ch, style }
    }

    /// An upper and a lower half in two colours.
    pub const fn halves(upper: Color, lower: Color) -> Self {
        Self { ch: '▀', style: Style::new().fg(upper).bg(lower) }
    }
}

/// Cells of a rectangle, rows from the top.
#[derive(Debug, Clone, PartialEq)]
pub struct Raster {
    width: u16,
    height: u16,
    spots: Vec<Spot>,
}

impl Raster {
    /// An empty rectangle.
    pub fn new(width: u16, height: u16) -> Self {
        Self { width, height, spots: vec![Spot::BLANK; usize::from(width) * usize::from(height)] }
    }

    /// Cells a row.
    pub const fn width(&self) -> u16 {
        self.width
    }

    /// Rows.
    pub const fn height(&self) -> u16 {
        self.height
    }

    /// Sets a cell; outside it does nothing.
    pub fn set(&mut self, x: u16, y: u16, spot: Spot) {
        if x < self.width
            && let Some(cell) = self.spots.get_mut(usize::from(y) * usize::from(self.width) + usize::from(x))
        {
            *cell = spot;
        }
    }

    /// A cell, if it is inside.
    pub fn get(&self, x: u16, y: u16) -> Option<&Spot> {
        if x >= self.width {
            return None;
        }
        self.spots.get(usize::from(y) * usize::from(self.width) + usize::from(x))
    }

    /// Writes text from a cell on, cut at the right border.
    pub fn text(&mut self, x: u16, y: u16, text: &str, style: Style) {
        for (offset, ch) in text.chars().enumerate() {
            let Ok(offset) = u16::try_from(offset) else { return };
            self.set(x.saturating_add(offset), y, Spot::new(ch, style));
        }
    }

    /// Writes text that ends at a cell (exclusive), cut at the left border.
    pub fn text_right(&mut self, end: u16, y: u16, text: &str, style: Style) {
        let length = text.chars().count() as u16;
        self.text(end.saturating_sub(length), y, text, style);
    }
}

impl Widget for &Raster {
    fn render(self, area: Rect, buffer: &mut Buffer) {
        let area = area.intersection(buffer.area);
        for y in 0..area.height.min(self.height) {
            for x in 0..area.width.min(self.width) {
                if let (Some(spot), Some(cell)) = (self.get(x, y), buffer.cell_mut((area.x + x, area.y + y)))
                {
                    cell.set_char(spot.ch).set_style(spot.style);
                }
            }
        }
    }
}
