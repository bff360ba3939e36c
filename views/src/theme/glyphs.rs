//! The characters drawn, once for terminals that know Unicode and once in ASCII.

use ratatui::symbols::border;

/// Every character beyond letters that a view draws.
#[derive(Debug)]
pub struct Glyphs {
    /// Whether this set is the ASCII one.
    pub ascii: bool,
    /// Lines around panes.
    pub border: border::Set<'static>,
    /// Lines around the focused pane.
    pub border_focused: border::Set<'static>,
    /// Bars of zero to eight eighths.
    pub bars: [char; 9],
    /// Shades from nothing to full.
    pub shades: [char; 5],
    /// A folded group.
    pub folded: &'static str,
    /// An open group.
    pub open: &'static str,
    /// The cursor in a list.
    pub cursor: &'static str,
    /// Text that was cut.
    pub ellipsis: &'static str,
    /// Between facts on one line.
    pub dot: &'static str,
    /// No value.
    pub none: &'static str,
    /// A plan that was changed.
    pub dirty: &'static str,
    /// Less than before.
    pub down: &'static str,
    /// More than before.
    pub up: &'static str,
    /// A tick under an axis, a level on it, a clip border.
    pub axis: char,
    /// A quantization level.
    pub level: char,
    /// More than one quantization level in a column.
    pub levels: char,
    /// Values left of this are clipped.
    pub clip_left: char,
    /// Values right of this are clipped.
    pub clip_right: char,
    /// A de-quantized level's bar.
    pub stem: char,
    /// The top of a de-quantized level's bar.
    pub stem_top: char,
    /// A pixel the plan lost.
    pub lost: char,
    /// A pixel the plan added.
    pub added: char,
    /// A pixel both masks have.
    pub kept: char,
    /// A channel far beyond the others.
    pub outlier: char,
    /// Minus sign of figures.
    pub minus: &'static str,
    /// A change.
    pub delta: &'static str,
    /// Plus or minus.
    pub plus_minus: &'static str,
    /// An arrow from one thing to another.
    pub arrow: &'static str,
    /// Frames of the busy sign.
    pub spinner: &'static [&'static str],
    /// Filled and empty part of a progress bar.
    pub progress: (&'static str, &'static str),
    /// Keys of the hint line: up and down, left and right.
    pub up_down: &'static str,
    /// Left and right arrow.
    pub left_right: &'static str,
    /// Before a warning.
    pub warning: &'static str,
    /// A layer that a rewrite changes.
    pub rewritten: &'static str,
    /// A marked layer, or a group of nothing else.
    pub marked: &'static str,
    /// A group of which some layers are marked.
    pub some_marked: &'static str,
    /// Between size figures.
    pub times: &'static str,
}

/// For terminals with Unicode.
pub static UNICODE: Glyphs = Glyphs {
    ascii: false,
    border: border::PLAIN,
    border_focused: border::THICK,
    bars: [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'],
    shades: [' ', '░', '▒', '▓', '█'],
    folded: "▸",
    open: "▾",
    cursor: "›",
    ellipsis: "…",
    dot: "·",
    none: "–",
    dirty: "●",
    down: "▼",
    up: "▲",
    axis: '─',
    level: '┴',
    levels: '┻',
    clip_left: '▐',
    clip_right: '▌',
    stem: '│',
    stem_top: '╷',
    lost: '−',
    added: '+',
    kept: '·',
    outlier: '◂',
    minus: "−",
    delta: "Δ",
    plus_minus: "±",
    arrow: "→",
    spinner: &["⠋", "⠙", "⠸", "⠴", "⠦", "⠇"],
    progress: ("█", "░"),
    up_down: "↑↓",
    left_right: "←→",
    warning: "⚠",
    rewritten: "↻",
    marked: "◆",
    some_marked: "◇",
    times: "×",
};

/// For terminals without.
pub static ASCII: Glyphs = Glyphs {
    ascii: true,
    border: border::Set {
        top_left: "+",
        top_right: "+",
        bottom_left: "+",
        bottom_right: "+",
        vertical_left: "|",
        vertical_right: "|",
        horizontal_top: "-",
        horizontal_bottom: "-",
    },
    border_focused: border::Set {
        top_left: "#",
        top_right: "#",
        bottom_left: "#",
        bottom_right: "#",
        vertical_left: "|",
        vertical_right: "|",
        horizontal_top: "=",
        horizontal_bottom: "=",
    },
    bars: [' ', '.', '.', '-', '-', '=', '=', '#', '#'],
    shades: [' ', '.', ':', '+', '#'],
    folded: ">",
    open: "v",
    cursor: ">",
    ellipsis: "~",
    dot: "-",
    none: "-",
    dirty: "*",
    down: "v",
    up: "^",
    axis: '-',
    level: '+',
    levels: '#',
    clip_left: '[',
    clip_right: ']',
    stem: '|',
    stem_top: '|',
    lost: '-',
    added: '+',
    kept: '.',
    outlier: '<',
    minus: "-",
    delta: "d",
    plus_minus: "+/-",
    arrow: "->",
    spinner: &["|", "/", "-", "\\"],
    progress: ("#", "."),
    up_down: "up/dn",
    left_right: "lf/rt",
    warning: "!",
    rewritten: "~",
    marked: "*",
    some_marked: ".",
    times: "x",
};
