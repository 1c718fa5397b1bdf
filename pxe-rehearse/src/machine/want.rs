//! Why a machine fetches a file.

use crate::{
    report::Step,
    script::{self, Image},
};

/// Why a file is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// UEFI HTTP boot asks for the size first.
    LoaderSize,
    Loader,
    /// iPXE looks for a script beside its own binary.
    Autoexec,
    /// What DHCP named to iPXE: a script, as a rule.
    BootFile,
    /// What a script asks for.
    Image(Image),
}

impl Want {
    /// How many bytes of the file somebody will read.
    pub(super) const fn keeps(self) -> usize {
        match self {
            Self::Autoexec | Self::BootFile | Self::Image(Image::Script) => script::MAX_SCRIPT,
            Self::LoaderSize | Self::Loader | Self::Image(_) => 0,
        }
    }

    pub(super) const fn step(self) -> Step {
        match self {
            Self::LoaderSize | Self::Loader => Step::Loader,
            Self::Autoexec => Step::Autoexec,
            Self::BootFile | Self::Image(Image::Script) => Step::Script,
            Self::Image(Image::Kernel) => Step::Kernel,
            Self::Image(Image::Initramfs) => Step::Initramfs,
        }
    }
}
