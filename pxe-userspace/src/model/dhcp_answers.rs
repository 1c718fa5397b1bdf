//! The frames in which a machine gets its DHCP answers.

use serde::Serialize;

/// The frames in which a machine gets its DHCP answers, from `pxed.dev/dhcp-answers`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DhcpAnswers {
    /// Frames to its own hardware address, which no other host gets. Only if it repeats its question, it gets a second answer in a frame to
    /// all hosts.
    #[default]
    Unicast,
    /// Frames to all hosts, for firmware that takes nothing else.
    Broadcast,
}

impl DhcpAnswers {
    /// All ways.
    pub const ALL: [Self; 2] = [Self::Unicast, Self::Broadcast];

    /// Returns the name in the spec.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unicast => "unicast",
            Self::Broadcast => "broadcast",
        }
    }
}
