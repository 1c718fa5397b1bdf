//! The datapaths by which frames reach pxed.

use std::fmt;

/// A value of `--datapath`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datapath {
    /// An XDP program in the driver.
    Xdp,
    /// The same program behind the driver.
    Generic,
    /// A packet socket, without a program.
    Socket,
}

impl Datapath {
    /// All datapaths.
    pub const ALL: [Self; 3] = [Self::Xdp, Self::Generic, Self::Socket];
    /// The datapaths with an XDP program, which takes frames away from the host's own stack.
    pub const WITH_PROGRAM: [Self; 2] = [Self::Xdp, Self::Generic];

    /// Returns the option's value.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::Generic => "generic",
            Self::Socket => "socket",
        }
    }

    /// Returns the option with its value.
    #[must_use]
    pub fn arguments(self) -> [&'static str; 2] {
        ["--datapath", self.name()]
    }

    /// Returns `true` if the datapath has an XDP program on the interface.
    #[must_use]
    pub fn has_program(self) -> bool {
        self != Self::Socket
    }
}

impl fmt::Display for Datapath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
