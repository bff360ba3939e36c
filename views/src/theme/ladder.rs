//! The colour ladder: true colour, 256, 16, none; climbed down in one place.

use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier};

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ColorChoice {
    /// What the environment says.
    #[default]
    Auto,
    /// Colours even where the environment speaks against them.
    Always,
    /// No colours.
    Never,
    /// Exactly this depth.
    Exactly(ColorDepth),
}

impl std::str::FromStr for ColorChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "auto" => Self::Auto,
            "always" => Self::Always,
            "never" | "none" => Self::Never,
            "16" => Self::Exactly(ColorDepth::Ansi16),
            "256" => Self::Exactly(ColorDepth::Ansi256),
            "truecolor" | "24bit" => Self::Exactly(ColorDepth::TrueColor),
            _ => {
                return Err(format!(
                    "`{text}` is no colour choice; expected auto, always, never, 16, 256 or truecolor"
                ));
            }
        })
    }
}

/// What the terminal can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ColorDepth {
    /// No colours: weight, underline and reverse only.
    None,
    /// The sixteen colours of the user's own palette.
    Ansi16,
    /// The fixed palette of 256.
    Ansi256,
    /// 24 bits.
    TrueColor,
}

impl ColorDepth {
    /// The depth for a choice and an environment. 24 bits are only used where the terminal says that it has them.
    pub fn resolve(
        choice: ColorChoice,
        terminal: bool,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Self {
        let given = |name: &str| environment(name).filter(|value| !value.is_empty());
        let forced = match choice {
            ColorChoice::Never => return Self::None,
            ColorChoice::Exactly(depth) => return depth,
            ColorChoice::Always => true,
            ColorChoice::Auto => given("CLICOLOR_FORCE").is_some_and(|value| value != "0"),
        };
        let term = given("TERM").unwrap_or_default();
        if !forced && (given("NO_COLOR").is_some() || !terminal || term == "dumb") {
            return Self::None;
        }
        match given("COLORTERM").as_deref() {
            Some("truecolor" | "24bit") => Self::TrueColor,
            _ if term.contains("direct") => Self::TrueColor,
            _ if term.contains("256color") => Self::Ansi256,
            _ => Self::Ansi16,
        }
    }

    /// Whether the environment speaks UTF-8.
    pub fn is_utf8(environment: impl Fn(&str) -> Option<String>) -> bool {
        ["LC_ALL", "LC_CTYPE", "LANG"]
            .into_iter()
            .find_map(|name| environment(name).filter(|value| !value.is_empty()))
            .is_none_or(|value| {
                let value = value.to_ascii_lowercase();
                value.contains("utf-8") || value.contains("utf8")
            })
    }
}

/// Brings a painted frame down to what the terminal can show.
#[derive(Debug, Clone, Copy)]
pub struct Ladder {
    /// Colours it has.
    pub depth: ColorDepth,
    /// Whether it only has ASCII.
    pub ascii: bool,
}

impl Ladder {
    /// Replaces every colour and character of the frame that the terminal cannot show. Views draw ASCII
    /// themselves where they are told to; this catches names and sentences that come from files.
    pub fn apply(self, buffer: &mut Buffer) {
        if self.ascii {
            for cell in &mut buffer.content {
                if !cell.symbol().is_ascii() {
                    let ch = cell.symbol().chars().next().map_or(' ', plain);
                    cell.set_char(ch);
                }
            }
        }
        if self.depth == ColorDepth::TrueColor {
            return;
        }
        for cell in &mut buffer.content {
            if self.depth == ColorDepth::None && cell.bg != Color::Reset {
                cell.modifier.insert(Modifier::REVERSED);
            }
            cell.fg = self.color(cell.fg);
            cell.bg = self.color(cell.bg);
        }
    }

    /// The nearest colour that the terminal can show.
    pub fn color(self, color: Color) -> Color {
        match (self.depth, color) {
            (ColorDepth::None, _) => Color::Reset,
            (ColorDepth::Ansi256, Color::Rgb(r, g, b)) => Color::Indexed(nearest_256(r, g, b)),
            (ColorDepth::Ansi16, Color::Rgb(r, g, b)) => nearest_16(r, g, b),
            _ => color,
        }
    }
}

/// What stands for a character in ASCII.
const fn plain(ch: char) -> char {
    match ch {
        '–' | '—' | '−' | '‑' => '-',
        '…' | '±' => '~',
        '“' | '”' | '„' => '"',
        '‘' | '’' => '\'',
        '×' => 'x',
        '√' => 'v',
        '·' | '•' => '.',
        _ => '?',
    }
}

/// The nearest of the 6 × 6 × 6 cube and the 24 greys.
fn nearest_256(r: u8, g: u8, b: u8) -> u8 {
    let level = |v: u8| -> u8 {
        match v {
            0..=47 => 0,
            48..=114 => 1,
            _ => (v - 35) / 40,
        }
    };
    let value = |l: u8| if l == 0 { 0i32 } else { 55 + 40 * i32::from(l) };
    let distance = |x: i32, y: i32, z: i32| {
        (x - i32::from(r)).pow(2) + (y - i32::from(g)).pow(2) + (z - i32::from(b)).pow(2)
    };
    let (lr, lg, lb) = (level(r), level(g), level(b));
    let cube = distance(value(lr), value(lg), value(lb));
    let mean = (u32::from(r) + u32::from(g) + u32::from(b)) / 3;
    let step = (mean.saturating_sub(3) / 10).min(23) as u8;
    let grey_value = 8 + 10 * i32::from(step);
    if distance(grey_value, grey_value, grey_value) < cube { 232 + step } else { 16 + 36 * lr + 6 * lg + lb }
}

/// A colour of the user's palette by hue; the palette's exact colours are not known.
fn nearest_16(r: u8, g: u8, b: u8) -> Color {
    let (most, least) = (r.max(g).max(b), r.min(g).min(b));
    if most - least < 40 {
        return match most {
            0..=63 => Color::Black,
            64..=127 => Color::DarkGray,
            128..=207 => Color::Gray,
            _ => Color::White,
        };
    }
    let middle = least + (most - least) / 2;
    match (r > middle, g > middle, b > middle) {
        (true, true, _) => Color::Yellow,
        (true, false, true) => Color::Magenta,
        (true, false, false) => Color::Red,
        (false, true, true) => Color::Cyan,
        (false, true, false) => Color::Green,
        (false, false, _) => Color::Blue,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn depth(choice: ColorChoice, variables: &[(&str, &str)]) -> ColorDepth {
        ColorDepth::resolve(choice, true, |name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_environment_decides_unless_the_user_does() {
        use ColorChoice::{Always, Auto, Exactly, Never};
        type Variables = &'static [(&'static str, &'static str)];
        let cases: &[(ColorChoice, Variables, ColorDepth)] = &[
            (Auto, &[("TERM", "xterm")], ColorDepth::Ansi16),
            (Auto, &[("TERM", "xterm-256color")], ColorDepth::Ansi256),
            (Auto, &[("TERM", "xterm-256color"), ("COLORTERM", "truecolor")], ColorDepth::TrueColor),
            (Auto, &[("TERM", "xterm"), ("NO_COLOR", "1")], ColorDepth::None),
            (Auto, &[("TERM", "xterm"), ("NO_COLOR", "")], ColorDepth::Ansi16),
            (Auto, &[("TERM", "dumb")], ColorDepth::None),
            (Auto, &[("TERM", "xterm"), ("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")], ColorDepth::Ansi16),
            (Always, &[("TERM", "xterm"), ("NO_COLOR", "1")], ColorDepth::Ansi16),
            (Never, &[("COLORTERM", "truecolor")], ColorDepth::None),
            (Exactly(ColorDepth::Ansi256), &[("NO_COLOR", "1")], ColorDepth::Ansi256),
        ];
        for (choice, variables, expected) in cases {
            assert_eq!(depth(*choice, variables), *expected, "{choice:?} {variables:?}");
        }
    }

    #[test]
    fn a_pipe_gets_no_colours() {
        assert_eq!(ColorDepth::resolve(ColorChoice::Auto, false, |_| None), ColorDepth::None);
    }

    #[test]
    fn rgb_goes_to_its_nearest_neighbours() {
        assert_eq!(nearest_256(255, 0, 0), 196);
        assert_eq!(nearest_256(255, 255, 255), 231);
        assert_eq!(nearest_256(128, 128, 128), 244);
        assert_eq!(nearest_16(250, 10, 10), Color::Red);
        assert_eq!(nearest_16(10, 10, 10), Color::Black);
    }

    #[test]
    fn without_colours_nothing_keeps_one() {
        for color in [Color::Red, Color::Rgb(1, 2, 3), Color::Indexed(7), Color::Reset] {
            let ladder = Ladder { depth: ColorDepth::None, ascii: false };
            assert_eq!(ladder.color(color), Color::Reset);
        }
    }
}
