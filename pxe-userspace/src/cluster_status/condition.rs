//! A condition as Kubernetes has it: status, reason, message and times.

use std::{fmt, time::SystemTime};

use crate::model::api_object::ApiCondition;

/// The condition of a machine.
pub const BOOTED: &str = "PxeBooted";
/// The condition of a cluster.
pub const READY: &str = "PxeReady";

/// The longest message that the API takes, in characters.
const MESSAGE_LIMIT: usize = 32_768;

/// The status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Nothing is known.
    Unknown,
}

impl Status {
    /// Returns the name in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// The statement of a condition: everything but its times and its writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assessment {
    /// The status.
    pub status: Status,
    /// The reason, in `CamelCase`.
    pub reason: &'static str,
    /// The part that distinguishes it from others with the same status and reason, such as the error. Times and counts are no part of it, since
    /// they change all the time.
    pub detail: String,
}

impl Assessment {
    /// Makes an assessment without a detail.
    #[must_use]
    pub const fn new(status: Status, reason: &'static str) -> Self {
        Self { status, reason, detail: String::new() }
    }

    /// Returns whether a condition in the API has the same status and reason.
    #[must_use]
    pub fn is_said_by(&self, condition: &ApiCondition) -> bool {
        condition.status == self.status.name() && condition.reason == self.reason
    }
}

/// The writer of a condition, and the time. It stands at the end of each message, since its other times are relative to it.
#[derive(Clone, Copy, Debug)]
pub struct Author<'a> {
    /// The name of the node.
    pub node: &'a str,
    /// The time.
    pub now: SystemTime,
}

/// Shows `[node-1, 2026-01-01T00:00:00Z]`.
impl fmt::Display for Author<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {}]", self.node, rfc3339(self.now))
    }
}

/// Returns the name of the node that wrote a message.
#[must_use]
pub fn author_of(message: &str) -> Option<&str> {
    let (node, time) = message.strip_suffix(']')?.rsplit_once(" [")?.1.rsplit_once(", ")?;
    time.ends_with('Z').then_some(node)
}

/// Returns a time as Kubernetes writes it, to the second.
#[must_use]
pub fn rfc3339(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(|_| String::new(), |time| format!("{time:.0}"))
}

/// Returns a sentence with its author, no longer than the API takes.
#[must_use]
pub fn message(sentence: &str, author: Author<'_>) -> String {
    let end = format!(" {author}");
    let room = MESSAGE_LIMIT.saturating_sub(end.chars().count());
    let sentence = match sentence.char_indices().nth(room) {
        None => sentence.to_owned(),
        Some(_) => sentence.chars().take(room.saturating_sub(1)).chain(['…']).collect(),
    };
    sentence + &end
}

/// Returns the condition to write: what is said now, after what the API has. The time of the last transition stays while the status does.
#[must_use]
pub fn written(
    kind: &str,
    assessment: &Assessment,
    sentence: &str,
    author: Author<'_>,
    before: Option<&ApiCondition>,
    generation: Option<i64>,
) -> ApiCondition {
    let status = assessment.status.name();
    let stays = before.filter(|before| before.status == status && !before.last_transition_time.is_empty());
    ApiCondition {
        kind: kind.to_owned(),
        status: status.to_owned(),
        reason: assessment.reason.to_owned(),
        message: message(sentence, author),
        last_transition_time: stays.map_or_else(|| rfc3339(author.now), |before| before.last_transition_time.clone()),
        observed_generation: generation,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;

    pub(crate) fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600 + seconds)
    }

    pub(crate) fn author(seconds: u64) -> Author<'static> {
        Author { node: "node-1", now: at(seconds) }
    }

    /// `^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$`, of 1,024 characters at most.
    pub(crate) fn is_reason(reason: &str) -> bool {
        let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ',' | ':');
        let is_last = |c: char| c.is_ascii_alphanumeric() || c == '_';
        reason.starts_with(|c: char| c.is_ascii_alphabetic())
            && reason.chars().all(inner)
            && reason.ends_with(is_last)
            && reason.len() <= 1_024
    }

    #[test]
    fn message_ends_with_its_author_and_fits() {
        let text = message("It failed.", author(5));
        assert_eq!(text, "It failed. [node-1, 2026-01-01T00:00:05Z]");
        assert_eq!(author_of(&text), Some("node-1"));
        let end = " [node-1, 2026-01-01T00:00:05Z]".len();
        for length in [40_000, MESSAGE_LIMIT - end - 1, MESSAGE_LIMIT - end, MESSAGE_LIMIT - end + 1] {
            let text = message(&"ä".repeat(length), author(5));
            assert!(text.chars().count() <= MESSAGE_LIMIT, "{}", text.chars().count());
            assert_eq!(author_of(&text), Some("node-1"));
            assert_eq!(text.contains('…'), length + end > MESSAGE_LIMIT, "{length}");
        }
    }

    #[test]
    fn author_of_foreign_text_is_nobody() {
        for text in ["", "]", "[]", "a [b]", "a [b, c]", "All is well.", " [, ]", "x [node, 2026-01-01T00:00:05Z] y"] {
            assert_eq!(author_of(text), None, "{text}");
        }
    }

    #[test]
    fn last_transition_is_that_of_the_status() {
        let booted = Assessment::new(Status::True, "Booted");
        let first = written(BOOTED, &booted, "It booted.", author(1), None, Some(3));
        assert_eq!((&*first.last_transition_time, first.observed_generation), ("2026-01-01T00:00:01Z", Some(3)));
        let running = Assessment::new(Status::True, "Running");
        let second = written(BOOTED, &running, "It runs.", author(2), Some(&first), Some(4));
        assert_eq!((&*second.last_transition_time, &*second.reason), ("2026-01-01T00:00:01Z", "Running"));
        assert!(second.message.ends_with("00:00:02Z]"), "{}", second.message);
        let failed = Assessment::new(Status::False, "Failed");
        let third = written(BOOTED, &failed, "It failed.", author(3), Some(&second), None);
        assert_eq!((&*third.last_transition_time, third.observed_generation), ("2026-01-01T00:00:03Z", None));
        // The API refuses an empty time, which another writer may have left.
        let empty = ApiCondition { last_transition_time: String::new(), ..third };
        assert_eq!(written(BOOTED, &failed, "", author(4), Some(&empty), None).last_transition_time, rfc3339(at(4)));
    }
}
