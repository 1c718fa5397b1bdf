//! The purpose of a file that a machine fetches.

use crate::{
    report::Step,
    script::{self, Image},
};

/// The purpose of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// The size of the loader, which UEFI HTTP boot asks for first.
    LoaderSize,
    /// The loader.
    Loader,
    /// The script that iPXE looks for next to its binary.
    Autoexec,
    /// The boot file that DHCP named to iPXE, usually a script.
    BootFile,
    /// A file that a script asks for.
    Image(Image),
}

impl Want {
    /// Returns the number of bytes of the file that are read.
    pub(super) const fn keeps(self) -> usize {
        match self {
            Self::Autoexec | Self::BootFile | Self::Image(Image::Script) => script::MAX_SCRIPT,
            Self::LoaderSize | Self::Loader | Self::Image(_) => 0,
        }
    }

    /// Returns the step that the file is timed as.
    pub(super) const fn step(self) -> Step {
        match self {
            Self::LoaderSize | Self::Loader => Step::Loader,
            Self::Autoexec => Step::Autoexec,
            Self::BootFile | Self::Image(Image::Script | Image::Other) => Step::Script,
            Self::Image(Image::Kernel) => Step::Kernel,
            Self::Image(Image::Initramfs) => Step::Initramfs,
        }
    }
}
