//! The ways by which frames reach us on an interface.

use super::xdp::AttachMode;

/// The way that frames are to reach us (`--datapath`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datapath {
    /// XDP in the driver, else generic XDP, else a packet socket.
    Auto,
    /// XDP in the driver, or fail.
    Xdp,
    /// Generic XDP, or fail.
    Generic,
    /// A packet socket.
    Socket,
}

/// The way that frames of a port reach us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// AF_XDP behind the program in the driver.
    Driver,
    /// AF_XDP behind the program in the network stack.
    Generic,
    /// A packet socket.
    Socket,
}

impl Datapath {
    /// Returns the paths to try on an interface, best first. An aggregate such as a bond has no driver path: XDP would run
    /// on its members.
    #[must_use]
    pub fn paths(self, aggregate: bool) -> &'static [Path] {
        match self {
            Self::Auto if aggregate => &[Path::Generic, Path::Socket],
            Self::Auto => &[Path::Driver, Path::Generic, Path::Socket],
            Self::Xdp => &[Path::Driver],
            Self::Generic => &[Path::Generic],
            Self::Socket => &[Path::Socket],
        }
    }
}

impl Path {
    /// Returns the name for logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Driver => "xdp-driver",
            Self::Generic => "xdp-generic",
            Self::Socket => "socket",
        }
    }

    /// Returns the place where the path's XDP program is attached, or `None` if the path has no program.
    #[must_use]
    pub const fn attach_mode(self) -> Option<AttachMode> {
        match self {
            Self::Driver => Some(AttachMode::Driver),
            Self::Generic => Some(AttachMode::Generic),
            Self::Socket => None,
        }
    }
}
