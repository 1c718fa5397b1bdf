//! Styles of the live view.

use ratatui::style::{Color, Modifier, Style};

use super::view::View;
use crate::cli::status::colour::Tone;

/// Returns the style of titles.
pub(super) fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

/// Returns the style of a tone. Without colours, what is bad is bold.
pub(super) fn style(view: &View, tone: Tone) -> Style {
    let style = Style::new();
    match (view.has_colours, tone) {
        (_, Tone::Plain) => style,
        (_, Tone::Heading) => bold(),
        (true, Tone::Good) => style.fg(Color::Green),
        (true, Tone::Busy) => style.fg(Color::Cyan),
        (true, Tone::Warning) => style.fg(Color::Yellow),
        (true, Tone::Bad) => style.fg(Color::Red),
        (true, Tone::Faint) => style.add_modifier(Modifier::DIM),
        (false, Tone::Bad | Tone::Warning) => bold(),
        (false, _) => style,
    }
}
