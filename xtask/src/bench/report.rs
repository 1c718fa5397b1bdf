//! Figures for people: medians with their ranges, tables, goals, Markdown.

use std::fmt::{self, Write as _};

/// The samples of one figure over several rounds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
        self.0.sort_by(f64::total_cmp);
    }

    /// Returns the middle value, or the mean of the two middle ones if the count is even; `None` without samples.
    pub(crate) fn median(&self) -> Option<f64> {
        let (half, values) = (self.0.len() / 2, &self.0);
        match values.len() {
            0 => None,
            length if length.is_multiple_of(2) => Some((values[half - 1] + values[half]) / 2.0),
            _ => Some(values[half]),
        }
    }

    /// Returns `median (least–most)`, or the only value, or a dash without samples.
    pub(crate) fn show(&self) -> String {
        let Some(median) = self.median() else { return "–".to_owned() };
        match (self.0.first(), self.0.last()) {
            (Some(&least), Some(&most)) if least < most => {
                format!("{} ({}–{})", number(median), number(least), number(most))
            }
            _ => number(median),
        }
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut samples = Self::default();
        values.into_iter().for_each(|value| samples.push(value));
        samples
    }
}

/// Formats a number with three significant digits and thousands separators.
pub(crate) fn number(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude >= 1_000.0 {
        let digits = format!("{magnitude:.0}");
        let mut text = String::new();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        if value < 0.0 { format!("-{text}") } else { text }
    } else if magnitude >= 100.0 || magnitude == 0.0 {
        format!("{value:.0}")
    } else if magnitude >= 10.0 {
        format!("{value:.1}")
    } else if magnitude >= 1.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.3}")
    }
}

/// A table of text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<const N: usize>(columns: [&str; N]) -> Self {
        Self { columns: columns.map(str::to_owned).into(), rows: Vec::new() }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |f: &mut fmt::Formatter<'_>, cells: &[String]| writeln!(f, "| {} |", cells.join(" | "));
        line(f, &self.columns)?;
        writeln!(f, "|{}", "---|".repeat(self.columns.len()))?;
        self.rows.iter().try_for_each(|row| line(f, row))
    }
}

/// A goal and the figure measured for it.
#[derive(Clone, Debug)]
pub(crate) struct Goal {
    /// The figures that are compared.
    pub(crate) what: String,
    /// The limit, as a person would write it.
    pub(crate) wanted: String,
    /// The measured figure.
    pub(crate) reached: String,
    pub(crate) met: bool,
}

impl Goal {
    /// Returns a goal for a ratio with a lower limit. It is not met if nothing was measured.
    pub(crate) fn at_least(what: impl Into<String>, wanted: f64, reached: Option<f64>) -> Self {
        let met = reached.is_some_and(|reached| reached >= wanted);
        let reached = reached.map_or_else(|| "not measured".to_owned(), |reached| format!("{}×", number(reached)));
        Self { what: what.into(), wanted: format!("{}×", number(wanted)), reached, met }
    }

    /// Marks a goal of time as met because the peer never finished.
    pub(crate) fn beyond(self, why: &str) -> Self {
        Self { reached: format!("{}; {why}", self.reached), met: true, ..self }
    }

    /// Returns a goal for a value with a unit and an upper limit.
    pub(crate) fn at_most(what: impl Into<String>, wanted: f64, unit: &str, reached: Option<f64>) -> Self {
        let met = reached.is_some_and(|reached| reached <= wanted);
        let reached =
            reached.map_or_else(|| "not measured".to_owned(), |reached| format!("{} {unit}", number(reached)));
        Self { what: what.into(), wanted: format!("at most {} {unit}", number(wanted)), reached, met }
    }
}

/// Returns how many times larger the first value is.
pub(crate) fn ratio(larger: Option<f64>, smaller: Option<f64>) -> Option<f64> {
    let (larger, smaller) = (larger?, smaller?);
    (smaller > 0.0).then(|| larger / smaller)
}

/// One section of the report.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chapter {
    pub(crate) title: String,
    /// The method, and remarks on how to read the figures.
    pub(crate) text: String,
    /// The tables, each with its caption.
    pub(crate) tables: Vec<(String, Table)>,
    pub(crate) goals: Vec<Goal>,
}

impl Chapter {
    /// Returns the goals as a table, or `None` if there are none.
    fn goals(&self) -> Option<Table> {
        let mut table = Table::new(["goal", "wanted", "measured", ""]);
        for Goal { what, wanted, reached, met } in &self.goals {
            let mark = if *met { "reached" } else { "**not reached**" };
            table.row([what.clone(), wanted.clone(), reached.clone(), mark.to_owned()]);
        }
        (!table.rows.is_empty()).then_some(table)
    }
}

impl fmt::Display for Chapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "## {}\n\n{}\n", self.title, self.text.trim())?;
        if let Some(goals) = self.goals() {
            writeln!(f, "{goals}")?;
        }
        for (caption, table) in &self.tables {
            writeln!(f, "{caption}\n\n{table}")?;
        }
        Ok(())
    }
}

/// Returns the whole report.
pub(crate) fn document(head: &str, chapters: &[Chapter]) -> String {
    let mut text = head.to_owned();
    for chapter in chapters {
        let _ = write!(text, "\n{chapter}");
    }
    // A table ends with an empty line, but the file must end with exactly one line break.
    format!("{}\n", text.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_show_their_median_and_range() {
        assert_eq!(Samples::default().show(), "–");
        assert_eq!(Samples::from_iter([2.0]).show(), "2.00");
        assert_eq!(Samples::from_iter([30.0, 10.0, 20.0]).show(), "20.0 (10.0–30.0)");
        assert_eq!(Samples::from_iter([1.0, 4.0]).median(), Some(2.5));
    }

    #[test]
    fn numbers_keep_three_significant_digits() {
        let shown = [0.0, 0.1234, 1.234, 12.34, 123.4, 1234.5, 1_234_567.0].map(number);
        assert_eq!(shown, ["0", "0.123", "1.23", "12.3", "123", "1,234", "1,234,567"]);
    }

    #[test]
    fn unmeasured_goal_is_not_reached() {
        assert!(!Goal::at_least("a", 2.0, None).met);
        assert!(Goal::at_least("a", 2.0, ratio(Some(4.0), Some(2.0))).met);
        assert!(!Goal::at_most("a", 2.0, "ms", Some(2.1)).met);
        assert_eq!(ratio(Some(1.0), Some(0.0)), None);
    }

    #[test]
    fn chapter_is_markdown() {
        let mut table = Table::new(["a", "b"]);
        table.row(["1".to_owned(), "2".to_owned()]);
        let chapter = Chapter {
            title: "T".to_owned(),
            text: "How.\n".to_owned(),
            tables: vec![("C:".to_owned(), table)],
            goals: Vec::new(),
        };
        assert_eq!(document("# B\n", &[chapter]), "# B\n\n## T\n\nHow.\n\nC:\n\n| a | b |\n|---|---|\n| 1 | 2 |\n");
    }
}
