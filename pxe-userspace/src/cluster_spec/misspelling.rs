//! Finds the known name that a misspelt one probably means.

/// Returns the known name that is nearest to an unknown one, if it is near enough to be meant. Case and separators do not count.
pub(crate) fn nearest<'k>(unknown: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    /// No known name is longer, and a longer one is not compared: the work stays bounded, whatever a file contains.
    const LONGEST: usize = 64;
    if unknown.len() > LONGEST {
        return None;
    }
    let letters = letters_of(unknown);
    let distances = known.into_iter().filter_map(|name| {
        let wanted = letters_of(name);
        let tolerance = tolerance(letters.len().min(wanted.len()));
        if letters.len().abs_diff(wanted.len()) > tolerance {
            return None;
        }
        let distance = distance(&letters, &wanted);
        (distance <= tolerance).then_some((distance, name))
    });
    distances.min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

/// Sorts known names by their distance from an unknown one, the nearest first. Of a long name, the beginning counts.
pub(crate) fn by_distance<'k>(unknown: &str, known: impl IntoIterator<Item = &'k str>) -> Vec<&'k str> {
    const COMPARED: usize = 64;
    let beginning = |name: &str| letters_of(name).into_iter().take(COMPARED).collect::<Vec<_>>();
    let letters = beginning(unknown);
    let mut names: Vec<_> = known.into_iter().map(|name| (distance(&letters, &beginning(name)), name)).collect();
    names.sort_unstable();
    names.into_iter().map(|(_, name)| name).collect()
}

/// Returns the sentence that proposes a name; empty if there is none.
pub(crate) fn proposal(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("did you mean {name}? "))
}

/// Returns the number of mistakes that a word of this length may have. Short words of one letter's difference are often other words.
const fn tolerance(letters: usize) -> usize {
    match letters {
        0..4 => 0,
        4..6 => 1,
        6..12 => 2,
        _ => 3,
    }
}

fn letters_of(name: &str) -> Vec<char> {
    name.chars().filter(|letter| !matches!(letter, '-' | '_' | ' ')).flat_map(char::to_lowercase).collect()
}

/// Returns the number of letters to insert, remove, replace or swap with their neighbour (optimal string alignment).
fn distance(from: &[char], to: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (row, letter) in from.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, wanted) in to.iter().enumerate() {
            let replaced = last[column] + usize::from(letter != wanted);
            let mut least = replaced.min(last[column + 1] + 1).min(current[column] + 1);
            let swapped = row > 0 && column > 0 && from[row - 1] == *wanted && *letter == to[column - 1];
            if swapped {
                least = least.min(before_last[column - 1] + 1);
            }
            current.push(least);
        }
        (before_last, last) = (last, current);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_name_is_found_if_it_is_near() {
        const KNOWN: [&str; 6] = ["pxeClientSpec", "worker", "workerRef", "mode", "boot-policy", "kernelCmdlineArgs"];
        for (unknown, expected) in [
            ("pxeClientspec", Some("pxeClientSpec")),
            ("pxeclient_spec", Some("pxeClientSpec")),
            ("pxClinetSpec", Some("pxeClientSpec")),
            ("workers", Some("worker")),
            ("Worker", Some("worker")),
            ("workerref", Some("workerRef")),
            ("worekr", Some("worker")),
            ("boot-polcy", Some("boot-policy")),
            ("bootPolicy", Some("boot-policy")),
            ("kernelCmdLineArg", Some("kernelCmdlineArgs")),
            ("modes", Some("mode")),
            ("node", Some("mode")),
            ("rode", Some("mode")),
            ("mo", None),
            ("", None),
            ("walker2", None),
            ("clientSpec", None),
            ("replicas", None),
            ("é", None),
        ] {
            assert_eq!(nearest(unknown, KNOWN), expected, "{unknown}");
        }
        assert_eq!(nearest(&"x".repeat(1_000_000), KNOWN), None);
    }

    #[test]
    fn names_are_sorted_by_distance() {
        assert_eq!(by_distance("fialed", ["up", "failed", "booting"]), ["failed", "up", "booting"]);
        assert_eq!(by_distance("", ["b", "a"]), ["a", "b"]);
        assert_eq!(by_distance(&"x".repeat(1 << 16), ["b", "a"]).len(), 2);
    }

    #[test]
    fn distance_counts_letters() {
        let count = |a: &str, b: &str| distance(&letters_of(a), &letters_of(b));
        for (a, b, expected) in
            [("", "", 0), ("a", "", 1), ("ab", "ba", 1), ("abc", "abd", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!((count(a, b), count(b, a)), (expected, expected), "{a} {b}");
        }
    }
}
