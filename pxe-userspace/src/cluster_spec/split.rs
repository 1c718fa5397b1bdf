//! Cuts a file into its documents before they are parsed. So each is parsed on its own: in parallel, again only when it changed, and
//! without one syntax error hiding the next document.
//!
//! This is safe to do by lines: a line that begins with `---` or `...` ends a document in any context, including block scalars and
//! quotes (YAML 1.2.2 §9.1.2, `c-forbidden`).

/// A part of a file that holds one document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    /// The number of lines of the file before it.
    pub(crate) lines_before: u32,
    pub(crate) text: &'a str,
}

/// Cuts a file into its documents. The pieces together are the text, up to trailing comments.
pub(crate) fn split(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut begin = 0;
    let mut lines_before = 0_u32;
    let mut cut = |end: usize| {
        // Directives (`%YAML`) and comments belong to the document that they precede.
        let Some(piece) = text.get(begin..end).filter(|piece| has_content(piece)) else { return };
        pieces.push(Piece { lines_before, text: piece });
        lines_before = lines_before.saturating_add(lines_in(piece));
        begin = end;
    };
    let mut line = 0;
    while let Some(rest) = text.get(line..) {
        if is_marker(rest, "---") {
            cut(line);
        }
        let next = rest.find('\n').map_or(text.len(), |length| line + length + 1);
        if is_marker(rest, "...") {
            cut(next);
        }
        // Only lines that can be a marker are looked at.
        line = match text.get(next.saturating_sub(1)..).and_then(next_candidate) {
            Some(distance) => next.saturating_sub(1) + distance,
            None => break,
        };
    }
    cut(text.len());
    pieces
}

/// Returns the distance from a line break to the next line that could be a marker.
fn next_candidate(rest: &str) -> Option<usize> {
    let dash = rest.find("\n---");
    // The search for the rarer marker ends at the other one.
    let dots = rest.get(..dash.unwrap_or(rest.len())).and_then(|rest| rest.find("\n..."));
    dots.or(dash).map(|newline| newline + 1)
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker)
        .is_some_and(|rest| matches!(rest.bytes().next(), None | Some(b' ' | b'\t' | b'\r' | b'\n')))
}

/// Returns `true` if a piece has more than directives, comments and blank lines. A marker alone is content.
fn has_content(piece: &str) -> bool {
    piece.lines().any(|line| {
        let line = line.trim_start();
        !(line.is_empty() || line.starts_with('#') || line.starts_with('%'))
    })
}

fn lines_in(text: &str) -> u32 {
    u32::try_from(text.bytes().filter(|&byte| byte == b'\n').count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pieces(text: &str) -> Vec<(u32, &str)> {
        split(text).into_iter().map(|piece| (piece.lines_before, piece.text)).collect()
    }

    #[test]
    fn documents_are_cut_at_their_markers() {
        assert_eq!(pieces("a: 1\n---\nb: 2\n"), [(0, "a: 1\n"), (1, "---\nb: 2\n")]);
        assert_eq!(pieces("---\na: 1\n--- \nb: 2"), [(0, "---\na: 1\n"), (2, "--- \nb: 2")]);
        assert_eq!(pieces("---\r\na: 1\r\n---\r\nb: 2"), [(0, "---\r\na: 1\r\n"), (2, "---\r\nb: 2")]);
        assert_eq!(pieces("a: 1\n...\n---\nb: 2\n"), [(0, "a: 1\n...\n"), (2, "---\nb: 2\n")]);
    }

    #[test]
    fn text_that_resembles_a_marker_is_not_one() {
        for text in ["a: |\n  ---\n  x\n", "---a: 1\n", "a: 1 ---\n", "a:\n ---\n", "a: '....'\n"] {
            assert_eq!(pieces(text), [(0, text)]);
        }
    }

    #[test]
    fn directives_and_comments_stay_with_the_document_that_follows() {
        assert_eq!(pieces("%YAML 1.2\n---\na: 1\n"), [(0, "%YAML 1.2\n---\na: 1\n")]);
        assert_eq!(pieces("# licence\n\n---\na: 1\n"), [(0, "# licence\n\n---\na: 1\n")]);
        assert_eq!(pieces("# nothing\n"), []);
    }

    proptest! {
        #[test]
        fn pieces_are_the_whole_text_and_lines_are_counted(text in "([a.%# -]|---|\\.\\.\\.|\r?\n){0,60}") {
            let mut joined = String::new();
            for piece in split(&text) {
                prop_assert_eq!(piece.lines_before as usize, joined.matches('\n').count());
                joined.push_str(piece.text);
            }
            prop_assert!(text.starts_with(&joined));
            prop_assert!(!has_content(&text[joined.len()..]));
        }
    }
}
