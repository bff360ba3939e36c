//! How things look: roles instead of colours, sixteen terminal colours instead of fixed ones.
//!
//! The root background is never painted and no meaning rests on colour alone, so the same theme is readable on
//! light, dark and colourless terminals. Everything that paints asks the theme; [`Ladder::apply`] then brings
//! the whole frame down to what the terminal can show.

mod glyphs;
mod ladder;

pub use glyphs::Glyphs;
pub use ladder::{ColorChoice, ColorDepth, Ladder};

use ratatui::style::{Color, Modifier, Style};

/// What a view asks when it paints.
#[derive(Debug, Clone, Copy)]
pub struct Theme {
    /// Colours the terminal shows.
    pub depth: ColorDepth,
    /// Characters the terminal shows.
    pub glyphs: &'static Glyphs,
}

impl Theme {
    /// The theme for a colour depth, in ASCII if asked for.
    pub const fn new(depth: ColorDepth, ascii: bool) -> Self {
        Self { depth, glyphs: if ascii { &glyphs::ASCII } else { &glyphs::UNICODE } }
    }

    /// Whether only ASCII may be written.
    pub const fn is_ascii(&self) -> bool {
        self.glyphs.ascii
    }

    /// Whether shades of arbitrary colour can be shown (else pictures become a ramp of characters).
    pub const fn has_shades(&self) -> bool {
        matches!(self.depth, ColorDepth::TrueColor | ColorDepth::Ansi256)
    }

    /// Secondary text.
    pub const fn dim(&self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// Emphasised text.
    pub const fn strong(&self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// The product's and the focus' colour.
    pub const fn accent(&self) -> Style {
        Style::new().fg(Color::Cyan)
    }

    /// A border; the focused pane's stands out by weight as well as by colour.
    pub const fn border(&self, focused: bool) -> Style {
        if focused { Style::new().fg(Color::Cyan).add_modifier(Modifier::BOLD) } else { self.dim() }
    }

    /// The line under the cursor; kept visible, weaker, when its pane has no focus.
    pub const fn selected(&self, focused: bool) -> Style {
        if focused {
            // One colour: reversed figures of many colours would be a patchwork.
            Style::new().fg(Color::Reset).bg(Color::Reset).add_modifier(Modifier::REVERSED)
        } else {
            Style::new().add_modifier(Modifier::BOLD).add_modifier(Modifier::UNDERLINED)
        }
    }

    /// A key in hints and help.
    pub const fn key(&self) -> Style {
        Style::new().fg(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    /// Good news.
    pub const fn good(&self) -> Style {
        Style::new().fg(Color::Green)
    }

    /// Something to look at.
    pub const fn warn(&self) -> Style {
        Style::new().fg(Color::Yellow)
    }

    /// Bad news.
    pub const fn bad(&self) -> Style {
        Style::new().fg(Color::Red)
    }

    /// Values in full precision.
    pub const fn float(&self) -> Style {
        Style::new().fg(Color::Cyan)
    }

    /// Values under the plan.
    pub const fn quantized(&self) -> Style {
        Style::new().fg(Color::Magenta)
    }

    /// Signal to noise: plenty, enough or too little.
    pub fn decibels(&self, value: f64) -> Style {
        if value >= 20.0 {
            self.good()
        } else if value >= 10.0 {
            self.warn()
        } else {
            self.bad().add_modifier(Modifier::BOLD)
        }
    }
}
