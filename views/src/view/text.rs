//! Text brought to the width of its place.

use unicode_width::UnicodeWidthStr;

use crate::theme::Glyphs;

/// Cells that text takes.
pub fn width(text: &str) -> usize {
    UnicodeWidthStr::width(text)
}

/// The head of text in at most some cells, with a sign where it was cut.
pub fn head(text: &str, cells: usize, glyphs: &Glyphs) -> String {
    if width(text) <= cells {
        return text.to_owned();
    }
    let room = cells.saturating_sub(1);
    let mut used = 0;
    let mut cut = String::new();
    for ch in text.chars() {
        let next = unicode_width::UnicodeWidthChar::width(ch).unwrap_or(0);
        if used + next > room {
            break;
        }
        used += next;
        cut.push(ch);
    }
    if cells > 0 {
        cut.push_str(glyphs.ellipsis);
    }
    cut
}

/// The tail of text in at most some cells: the end of a module path says more than its beginning.
pub fn tail(text: &str, cells: usize, glyphs: &Glyphs) -> String {
    if width(text) <= cells {
        return text.to_owned();
    }
    let room = cells.saturating_sub(1);
    let mut used = 0;
    let mut cut: Vec<char> = Vec::new();
    for ch in text.chars().rev() {
        let next = unicode_width::UnicodeWidthChar::width(ch).unwrap_or(0);
        if used + next > room {
            break;
        }
        used += next;
        cut.push(ch);
    }
    let tail: String = cut.into_iter().rev().collect();
    if cells > 0 { format!("{}{tail}", glyphs.ellipsis) } else { tail }
}

/// Lines that text takes when it is broken between words.
pub fn lines(text: &str, cells: usize) -> usize {
    let cells = cells.max(1);
    let (mut lines, mut used) = (1, 0);
    for word in text.split_whitespace().map(width) {
        let needed = if used == 0 { word } else { used + 1 + word };
        if needed <= cells {
            used = needed;
            continue;
        }
        // A word longer than a line goes on over several.
        lines += usize::from(used > 0) + word.saturating_sub(1) / cells;
        used = (word.max(1) - 1) % cells + 1;
    }
    lines
}

/// Bytes as people read them.
pub fn bytes(count: u64) -> String {
    let count = count as f64;
    match count {
        1e9.. => format!("{:.2} GB", count / 1e9),
        1e6.. => format!("{:.1} MB", count / 1e6),
        1e3.. => format!("{:.0} kB", count / 1e3),
        _ => format!("{count:.0} B"),
    }
}

/// Numbers as people read them: `1.2 M`.
pub fn count(number: u64) -> String {
    let value = number as f64;
    match value {
        1e12.. => format!("{:.1} T", value / 1e12),
        1e9.. => format!("{:.1} G", value / 1e9),
        1e6.. => format!("{:.1} M", value / 1e6),
        1e4.. => format!("{:.0} k", value / 1e3),
        _ => number.to_string(),
    }
}

/// A change of a share, without the zero before the point: `−.031`, `+.004`, ` .000`.
pub fn change(value: f64, glyphs: &Glyphs) -> String {
    let text = share(value.abs());
    let zero = text.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    let sign = match value {
        _ if zero => " ",
        value if value < 0.0 => glyphs.minus,
        _ => "+",
    };
    format!("{sign}{text}")
}

/// A share as `.742`.
pub fn share(value: f64) -> String {
    let text = format!("{value:.3}");
    text.strip_prefix('0').map(str::to_owned).unwrap_or(text)
}

/// Decibels with one digit; a noiseless signal has none.
pub fn decibels(value: f64) -> String {
    if value.is_finite() && value < 199.0 { format!("{value:.1}") } else { "exact".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::theme::{ColorDepth, Theme};

    #[test]
    fn cut_text_fits_its_place() {
        let glyphs = Theme::new(ColorDepth::None, false).glyphs;
        for text in ["", "a", "layers.2.blocks.0.attn.qkv", "ある犬の絵"] {
            for cells in 0..12 {
                assert!(width(&head(text, cells, glyphs)) <= cells);
                assert!(width(&tail(text, cells, glyphs)) <= cells);
            }
        }
        assert_eq!(tail("layers.2.attn", 6, glyphs), "….attn");
    }

    #[test]
    fn lines_break_between_words() {
        for (text, cells, count) in [
            ("", 4, 1),
            ("one two", 7, 1),
            ("one two", 6, 2),
            ("abcdefgh i", 3, 4),
            ("a abcdef", 3, 3),
            ("x", 0, 1),
        ] {
            assert_eq!(lines(text, cells), count, "{text} in {cells}");
        }
    }

    #[test]
    fn figures_have_units() {
        assert_eq!(bytes(1_100_000), "1.1 MB");
        assert_eq!(count(2_340_000), "2.3 M");
        assert_eq!(share(0.742), ".742");
        assert_eq!(share(1.0), "1.000");
        assert_eq!(decibels(f64::INFINITY), "exact");
    }
}
