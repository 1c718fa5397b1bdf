//! The files that the machines need, below the table of machines.

use std::fmt::Write as _;

use serde::Deserialize;

use crate::cli::shown::Shown;

/// The fields of `GET /api/v1/images` that are shown.
#[derive(Debug, Deserialize)]
pub(super) struct Images {
    previous: usize,
    files: Vec<File>,
}

#[derive(Debug, Deserialize)]
struct File {
    path: Shown,
    state: Shown,
    text: Shown,
    machines: usize,
    only_for: Option<Shown>,
    #[serde(default)]
    remedy: Vec<Shown>,
}

/// Formats one line for all files that are there, and some for each other one.
pub(super) fn render(images: &Images) -> String {
    let Images { previous, files } = images;
    if files.is_empty() {
        return String::new();
    }
    let count = |state: &str| files.iter().filter(|file| *file.state == *state).count();
    let kinds = [
        (count("verified"), "verified"),
        (count("packaged"), "from packages of this host"),
        (count("by-hand"), "put there by hand"),
    ];
    let (all, there) = (files.len(), kinds.iter().map(|(count, _)| count).sum::<usize>());
    let present: Vec<_> = kinds.into_iter().filter(|(count, _)| *count > 0).collect();
    let there = match &present[..] {
        _ if there < all => format!("{there} of {all} files are there"),
        [(_, kind)] => format!("all {all} files are there, {kind}"),
        kinds => {
            let kinds: Vec<_> = kinds.iter().map(|(count, kind)| format!("{count} {kind}")).collect();
            format!("all {all} files are there: {}", kinds.join(", "))
        }
    };
    let mut text = format!("files: {there}\n");
    for File { path, state, text: words, machines, only_for, remedy } in files {
        if matches!(&**state, "verified" | "packaged" | "by-hand") {
            continue;
        }
        let machines = match machines {
            1 => "1 machine".to_owned(),
            machines => format!("{machines} machines"),
        };
        let condition = only_for.as_ref().map(|condition| format!(", {condition}")).unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {path} {words} (needed by {machines}{condition})");
        if matches!(&**state, "missing" | "refused")
            && let Some(command) = remedy.first()
        {
            let _ = writeln!(text, "    {command}");
        }
    }
    if *previous > 0 {
        let machines = if *previous == 1 { "1 machine boots its" } else { "machines boot their" };
        let number = if *previous == 1 { String::new() } else { format!("{previous} ") };
        let _ = writeln!(text, "  {number}{machines} previous version until the files of the new one are there");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, state: &str, more: &str) -> String {
        format!(r#"{{"path":"{path}","state":"{state}","text":"is {state}","machines":1{more}}}"#)
    }

    fn rendered(previous: usize, files: &[String]) -> String {
        render(&serde_json::from_str(&format!(r#"{{"previous":{previous},"files":[{}]}}"#, files.join(","))).unwrap())
    }

    #[test]
    fn complete_set_is_one_line() {
        assert_eq!(rendered(0, &[]), "");
        let verified = file("a", "verified", "");
        assert_eq!(rendered(0, &[verified.clone(), verified.clone()]), "files: all 2 files are there, verified\n");
        let expected = "files: all 2 files are there: 1 verified, 1 put there by hand\n";
        assert_eq!(rendered(0, &[verified.clone(), file("b", "by-hand", "")]), expected);
        let expected = "files: all 2 files are there: 1 verified, 1 from packages of this host\n";
        assert_eq!(rendered(0, &[file("b", "packaged", ""), verified]), expected);
    }

    #[test]
    fn file_that_is_not_there_is_named_with_what_to_type() {
        let files = [
            file("a", "verified", ""),
            file("b", "fetching", r#","remedy":["pxed fetch"]"#),
            file("c", "missing", r#","only_for":"if their firmware is BIOS","remedy":["pxed fetch","curl"]"#),
            file("d", "refused", ""),
        ];
        let expected = "files: 1 of 4 files are there\n  b is fetching (needed by 1 machine)\n  \
                        c is missing (needed by 1 machine, if their firmware is BIOS)\n    pxed fetch\n  \
                        d is refused (needed by 1 machine)\n  \
                        2 machines boot their previous version until the files of the new one are there\n";
        assert_eq!(rendered(2, &files), expected);
    }
}
