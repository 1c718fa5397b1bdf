//! Tables and times as text.

use jiff::Timestamp;

use super::colour::{Colours, Tone};

/// A cell of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    pub(super) fn toned(tone: Tone, text: impl Into<String>) -> Self {
        Self { text: text.into(), tone }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(Tone::Plain, text)
    }
}

/// The widths of columns. They never shrink, so that rows that come later line up.
#[derive(Debug, Default)]
pub(super) struct Columns(Vec<usize>);

impl Columns {
    /// Formats rows. Columns are as wide as their widest cell so far and two spaces apart, without spaces at the ends of lines. An empty
    /// cell is a dash, unless nothing follows it.
    pub(super) fn format(&mut self, rows: &[Vec<Cell>], colours: Colours) -> String {
        let Self(widths) = self;
        for row in rows {
            widths.resize(widths.len().max(row.len()), 1);
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.chars().count());
            }
        }
        let mut text = String::new();
        for row in rows {
            let used = row.iter().rposition(|cell| !cell.text.is_empty()).map_or(0, |last| last + 1);
            for (column, (Cell { text: cell, tone }, width)) in row.iter().zip(&*widths).take(used).enumerate() {
                let cell = if cell.is_empty() { "-" } else { cell };
                text.push_str(&colours.paint(*tone, cell));
                if column + 1 < used {
                    text.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count()));
                }
            }
            text.push('\n');
        }
        text
    }
}

/// Formats a whole table.
pub(super) fn table(rows: &[Vec<Cell>], colours: Colours) -> String {
    Columns::default().format(rows, colours)
}

/// Returns the cells of a header.
pub(super) fn header<const COLUMNS: usize>(names: [&str; COLUMNS]) -> Vec<Cell> {
    names.into_iter().map(|name| Cell::toned(Tone::Heading, name)).collect()
}

/// Formats the time since then in its largest unit.
pub(super) fn elapsed(since: Timestamp, now: Timestamp) -> String {
    match now.as_second() - since.as_second() {
        seconds if seconds < 1 => "now".to_owned(),
        seconds @ ..120 => format!("{seconds}s"),
        seconds @ ..7_200 => format!("{}m", seconds / 60),
        seconds @ ..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_with_and_without_colours() {
        let rows = [
            header(["A", "LONG", "LAST"]),
            vec![Cell::toned(Tone::Bad, "xyz"), "".into(), "1".into()],
            vec!["q".into(), "ä".into(), "".into()],
        ];
        assert_eq!(table(&rows, Colours::Off), "A    LONG  LAST\nxyz  -     1\nq    ä\n");
        let coloured = table(&rows, Colours::On);
        assert_eq!(coloured.lines().nth(1), Some("\x1b[31mxyz\x1b[0m  -     1"));
        assert_eq!(table(&[], Colours::Off), "");
        let mut columns = Columns::default();
        columns.format(&rows, Colours::Off);
        assert_eq!(columns.format(&[vec!["1".into(), "2".into(), "3".into()]], Colours::Off), "1    2     3\n");
    }
}
