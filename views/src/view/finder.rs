//! Help and palette: both the command table, searched by what is typed and run by Enter.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;

use super::{popup, text};
use crate::app::App;
use crate::app::overlay::Finder;
use crate::command::{COMMANDS, Command, Group, Key};

/// A line of the list.
enum Entry {
    Heading(Group),
    Command(usize),
}

pub(super) fn help(app: &App, finder: &Finder, area: Rect, buffer: &mut Buffer) -> (u16, u16) {
    let size = (area.width.saturating_sub(4).min(104), area.height.saturating_sub(2));
    // Searched, the best hit comes first; else the table is read by its headings.
    let headings = finder.input.value().trim().is_empty();
    draw(app, finder, " Help: type to search, Enter runs ", size, headings, area, buffer)
}

pub(super) fn palette(app: &App, finder: &Finder, area: Rect, buffer: &mut Buffer) -> (u16, u16) {
    draw(app, finder, " Commands ", (area.width.saturating_sub(4).min(84), 18), false, area, buffer)
}

fn draw(
    app: &App,
    finder: &Finder,
    title: &str,
    size: (u16, u16),
    headings: bool,
    area: Rect,
    buffer: &mut Buffer,
) -> (u16, u16) {
    let theme = &app.theme;
    let inner = popup::open(app, title, size, area, buffer);
    let prompt = Rect { height: inner.height.min(1), ..inner };
    let room = usize::from(inner.width).saturating_sub(4);
    let scroll = finder.input.visual_scroll(room);
    let typed: String = finder.input.value().chars().skip(scroll).take(room).collect();
    Line::from(vec![Span::styled(" / ", theme.key()), Span::raw(typed)]).render(prompt, buffer);
    let mut entries = Vec::new();
    let mut cursor_line = 0;
    let mut group = None;
    for (place, found) in finder.found.iter().enumerate() {
        let Some(command) = COMMANDS.get(*found) else { continue };
        if headings && group != Some(command.group) {
            group = Some(command.group);
            entries.push(Entry::Heading(command.group));
        }
        if place == finder.cursor {
            cursor_line = entries.len();
        }
        entries.push(Entry::Command(*found));
    }
    let page = usize::from(inner.height.saturating_sub(1));
    let first = (cursor_line + 2).saturating_sub(page);
    for (row, (line, entry)) in entries.iter().enumerate().skip(first).take(page).enumerate() {
        let rect = Rect { y: inner.y + 1 + row as u16, height: 1, ..inner };
        match entry {
            Entry::Heading(group) => {
                Line::styled(format!(" {}", group.title()), theme.strong()).render(rect, buffer);
            }
            Entry::Command(place) => {
                if let Some(command) = COMMANDS.get(*place) {
                    command_line(app, command, usize::from(rect.width)).render(rect, buffer);
                }
            }
        }
        if line == cursor_line {
            buffer.set_style(rect, theme.selected(true));
        }
    }
    if finder.found.is_empty() && inner.height > 1 {
        let rect = Rect { y: inner.y + 1, height: 1, ..inner };
        Line::styled(" no command is like this", theme.dim()).render(rect, buffer);
    }
    let x = inner.x as usize + 3 + finder.input.visual_cursor().saturating_sub(scroll);
    ((x as u16).min(inner.right().saturating_sub(1)), inner.y)
}

fn command_line(app: &App, command: &Command, width: usize) -> Line<'static> {
    let theme = &app.theme;
    let reason = (command.enabled)(app).err();
    let keys = keys(app, command);
    let (name_style, text_style) =
        if reason.is_some() { (theme.dim(), theme.dim()) } else { (Style::new(), theme.dim()) };
    let about = reason.map_or_else(|| command.about.to_owned(), |reason| format!("({reason})"));
    let room = width.saturating_sub(14 + 19);
    Line::from(vec![
        Span::styled(format!(" {keys:<13}"), if reason.is_some() { theme.dim() } else { theme.key() }),
        Span::styled(format!("{:<18} ", command.name), name_style),
        Span::styled(text::head(&about, room, theme.glyphs), text_style),
    ])
}

fn keys(app: &App, command: &Command) -> String {
    if let (Some(&"1"), Some(&"9")) = (command.keys.first(), command.keys.last()) {
        return "1-9".to_owned();
    }
    let labels: Vec<String> = command
        .keys
        .iter()
        .take(2)
        .filter_map(|key| Key::parse(key))
        .map(|key| key.label(app.theme.glyphs))
        .collect();
    labels.join(" ")
}
