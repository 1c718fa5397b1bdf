//! The content of the state file: its text, and what can be saved of a damaged one. Pure.

use std::collections::BTreeMap;

use pxe_common::MacAddr;
use serde::{Deserialize, Serialize};

use super::policy::Cycle;

const FORMAT: u32 = 1;

/// A policy that a person set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Override {
    Auto,
    Always,
    Once,
    Hold,
}

/// The persistent state of a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Remembered {
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) cycle: Cycle,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) boots: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) booted: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) reached_disk: bool,
    #[serde(default, rename = "override", skip_serializing_if = "is_default")]
    pub(super) policy: Option<Override>,
    /// The last release by another node, by its mark in the API.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) release: Option<u64>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Machines by MAC, sorted so that `diff` can compare two files.
pub(super) type State = BTreeMap<String, Remembered>;

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    format: u32,
    machines: T,
}

/// Writes the state as the text of a state file.
///
/// # Errors
///
/// The writer's.
pub(super) fn write(state: &State, mut file: impl std::io::Write) -> std::io::Result<()> {
    serde_json::to_writer(&mut file, &Envelope { format: FORMAT, machines: state })?;
    file.write_all(b"\n")
}

/// Writes a machine as a line that [`entries`] reads.
///
/// # Errors
///
/// The writer's.
pub(super) fn write_entry(mac: &str, remembered: &Remembered, mut file: impl std::io::Write) -> std::io::Result<()> {
    write!(file, "\"{mac}\":")?;
    serde_json::to_writer(&mut file, remembered)?;
    file.write_all(b"\n")
}

/// The content of a state file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) state: State,
    /// The damage to the file, if it is not whole: then some machines may be missing.
    pub(super) damage: Option<String>,
}

/// Reads the text of a state file. Of a damaged one, or of one in another format, every entry is taken that is whole by itself.
pub(super) fn read(text: &[u8]) -> Read {
    // The format comes first, since a later one may differ in everything else.
    let damage = match serde_json::from_slice::<Envelope<serde::de::IgnoredAny>>(text) {
        Ok(Envelope { format: FORMAT, .. }) => match serde_json::from_slice::<Envelope<State>>(text) {
            Ok(Envelope { machines: state, .. }) => return Read { state, damage: None },
            Err(error) => error.to_string(),
        },
        Ok(Envelope { format, .. }) => format!("it has format {format}, and this pxed knows {FORMAT}"),
        Err(_) if text.is_empty() => "it is empty".to_owned(),
        Err(_) if text.iter().all(|&byte| byte == 0) => "it holds nothing but zeros".to_owned(),
        Err(error) => error.to_string(),
    };
    Read { state: entries(text).collect(), damage: Some(damage) }
}

/// Returns the entries in a text, wherever they stand: `"52:54:00:00:00:01":{…}`.
pub(super) fn entries(text: &[u8]) -> impl Iterator<Item = (String, Remembered)> {
    let quotes = text.iter().enumerate().filter(|(_, byte)| **byte == b'"').map(|(at, _)| at);
    quotes.filter_map(|at| {
        let (key, rest) = text.get(at + 1..)?.split_at_checked(MAC_LENGTH)?;
        let key = std::str::from_utf8(key).ok()?;
        key.parse::<MacAddr>().ok()?;
        let value = rest.strip_prefix(b"\"")?.trim_ascii_start().strip_prefix(b":")?;
        // An entry is an object; serde would take a sequence, too.
        let value = value.trim_ascii_start();
        let mut values = serde_json::Deserializer::from_slice(value).into_iter::<Remembered>();
        let remembered = value.starts_with(b"{").then(|| values.next())??.ok()?;
        Some((key.to_owned(), remembered))
    })
}

/// The length of a MAC address as it is written.
const MAC_LENGTH: usize = "00:00:00:00:00:00".len();

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in crate::journal) fn example() -> State {
        let held = Remembered { policy: Some(Override::Hold), ..Remembered::default() };
        let installed =
            Remembered { cycle: Cycle::Netbooted, boots: 3, booted: true, reached_disk: true, ..Remembered::default() };
        State::from([("52:54:00:00:00:01".to_owned(), held), ("52:54:00:00:00:02".to_owned(), installed)])
    }

    fn text(state: &State) -> Vec<u8> {
        let mut text = Vec::new();
        write(state, &mut text).unwrap();
        text
    }

    #[test]
    fn written_state_is_read() {
        assert_eq!(read(&text(&example())), Read { state: example(), damage: None });
        assert_eq!(read(&text(&State::new())), Read::default());
    }

    #[test]
    fn entries_are_taken_from_a_file_that_was_cut_off_anywhere() {
        let whole = text(&example());
        let ends: Vec<_> =
            whole.windows(2).enumerate().filter(|(_, pair)| *pair == b"},").map(|(at, _)| at + 1).collect();
        for length in 0..whole.len() - 2 {
            let Read { state, damage } = read(&whole[..length]);
            assert!(damage.is_some(), "{length}");
            let expected = ends.iter().filter(|&&end| end <= length).count() + usize::from(length >= whole.len() - 3);
            assert_eq!(state.len(), expected, "{length} of {}", whole.len());
            assert!(state.iter().all(|(mac, remembered)| example().get(mac) == Some(remembered)));
        }
    }

    #[test]
    fn entries_outside_zeros_are_kept_wherever_these_are() {
        let whole = text(&example());
        for at in 0..whole.len() {
            for length in [1, 2] {
                let mut zeroed = whole.clone();
                zeroed[at..(at + length).min(whole.len())].fill(0);
                let Read { state, damage } = read(&zeroed);
                assert!(damage.is_some() || zeroed == whole, "{at}");
                assert!(!state.is_empty(), "{length} zeros at {at}");
                assert!(state.iter().all(|(mac, remembered)| example().get(mac) == Some(remembered)), "{at}");
            }
        }
    }

    #[test]
    fn damage_is_named_and_the_rest_is_kept() {
        let one = "\"52:54:00:00:00:01\":{\"override\":\"hold\"}";
        for (content, machines, expected) in [
            (String::new(), 0, "empty"),
            ("\0\0\0\0".to_owned(), 0, "zeros"),
            ("garbage".to_owned(), 0, "expected value"),
            (format!("{{\"format\":2,\"machines\":{{{one}}}}}"), 1, "format 2"),
            ("{\"format\":2,\"machines\":[]}".to_owned(), 0, "format 2"),
            ("{\"format\":1}".to_owned(), 0, "machines"),
            (format!("{{\"format\":1,\"machines\":{{\"52:54:00:00:00:02\":{{\"boots\":-1}},{one}}}}}"), 1, "-1"),
            (format!("\0\0\0\0{one}\0\0"), 1, "expected value"),
            (format!("\u{fffd}{one} , \"52:54:00:00:00:03\" : {{ \"boots\" : 1 }}"), 2, "expected value"),
            (format!("{{\"format\":1,\"machines\":{{{one}}}}}{{\"format\":1"), 1, "trailing"),
        ] {
            let Read { state, damage } = read(content.as_bytes());
            let damage = damage.unwrap_or_default();
            assert!(damage.contains(expected), "{content}: {damage}");
            assert_eq!(state.len(), machines, "{content}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            read(&bytes);
        }

        #[test]
        fn entries_outside_a_damaged_part_are_kept(at in 0_usize..120, byte in any::<u8>()) {
            let mut damaged = text(&example());
            if let Some(place) = damaged.get_mut(at) {
                *place = byte;
            }
            prop_assert!(!read(&damaged).state.is_empty());
        }
    }
}
