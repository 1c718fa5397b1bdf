//! iPXE's shim, which Microsoft has signed for Secure Boot, and the build of iPXE that it starts.

use super::{architecture::Architecture, image_source::ImageSource, loader::file_name};

/// iPXE's shim under one of its names. It drops `-shim`, with the architecture, from its own name, and starts the program of the
/// remaining name in the same directory: `ipxe-shimx64.efi` starts `ipxe.efi`, and `snponly-shimx64.efi` starts `snponly.efi`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpxeShim {
    /// The processor that it runs on.
    pub architecture: Architecture,
    /// The path of the program that it starts, relative to the artifacts directory.
    pub second_stage: String,
    build: &'static str,
}

impl IpxeShim {
    /// Returns the shim that a loader is, by its path in the artifacts directory, or `None` if it is another program. A name without an
    /// architecture, as in iPXE's own archive (`ipxe-shim.efi`), is that of the machine.
    #[must_use]
    pub fn of(path: &str, machine: Architecture) -> Option<Self> {
        let name = file_name(path);
        let directory = path.strip_suffix(name)?;
        let (build, rest) =
            ["ipxe", "snponly"].into_iter().find_map(|build| Some((build, name.strip_prefix(build)?)))?;
        let architecture = match rest {
            "-shimx64.efi" => Architecture::Amd64,
            "-shimaa64.efi" => Architecture::Arm64,
            "-shim.efi" => machine,
            _ => return None,
        };
        Some(Self { architecture, second_stage: format!("{directory}{build}.efi"), build })
    }

    /// Returns the source of the shim, which is the same program under each of its names.
    #[must_use]
    pub fn source(&self) -> ImageSource {
        let file = match self.architecture {
            Architecture::Amd64 => "ipxe-shimx64.efi",
            Architecture::Arm64 => "ipxe-shimaa64.efi",
        };
        ImageSource::IpxeShim { file: file.into() }
    }

    /// Returns the source of the program that it starts. It has to be signed for the shim, as only the builds of iPXE's releases are.
    #[must_use]
    pub fn second_stage_source(&self) -> ImageSource {
        let directory = match self.architecture {
            Architecture::Amd64 => "x86_64-sb",
            Architecture::Arm64 => "arm64-sb",
        };
        ImageSource::IpxeSigned { member: format!("ipxeboot/{directory}/{}.efi", self.build).into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::image_source::Upstreams;

    #[test]
    fn shim_is_known_by_its_name_in_any_directory() {
        use Architecture::{Amd64, Arm64};
        for (path, machine, second_stage, file, member) in [
            ("ipxe-shimx64.efi", Amd64, "ipxe.efi", "ipxe-shimx64.efi", "x86_64-sb/ipxe.efi"),
            ("x64/ipxe-shimx64.efi", Amd64, "x64/ipxe.efi", "ipxe-shimx64.efi", "x86_64-sb/ipxe.efi"),
            ("a/b/snponly-shimx64.efi", Amd64, "a/b/snponly.efi", "ipxe-shimx64.efi", "x86_64-sb/snponly.efi"),
            ("arm/ipxe-shimaa64.efi", Arm64, "arm/ipxe.efi", "ipxe-shimaa64.efi", "arm64-sb/ipxe.efi"),
            ("snponly-shimaa64.efi", Arm64, "snponly.efi", "ipxe-shimaa64.efi", "arm64-sb/snponly.efi"),
            ("arm64-sb/snponly-shim.efi", Arm64, "arm64-sb/snponly.efi", "ipxe-shimaa64.efi", "arm64-sb/snponly.efi"),
            ("ipxe-shim.efi", Amd64, "ipxe.efi", "ipxe-shimx64.efi", "x86_64-sb/ipxe.efi"),
            // The name tells more than the machine.
            ("ipxe-shimaa64.efi", Amd64, "ipxe.efi", "ipxe-shimaa64.efi", "arm64-sb/ipxe.efi"),
        ] {
            let shim = IpxeShim::of(path, machine).unwrap();
            assert_eq!(shim.second_stage, second_stage, "{path}");
            assert_eq!(shim.source(), ImageSource::IpxeShim { file: file.into() }, "{path}");
            let member = format!("ipxeboot/{member}");
            assert_eq!(shim.second_stage_source(), ImageSource::IpxeSigned { member: member.into() }, "{path}");
        }
    }

    #[test]
    fn other_program_is_no_shim_of_ipxe() {
        for path in [
            "shimx64.efi",
            "debian/shimx64.efi",
            "my-ipxe-shimx64.efi",
            "ipxe-shimia32.efi",
            "ipxe-shimx64.efi/ipxe.efi",
            "ipxe-shimx64.efi.old",
            "ipxe.efi",
            "snponly.efi",
            "ipxe-efi-x86_64.efi",
            "",
        ] {
            assert_eq!(IpxeShim::of(path, Architecture::Amd64), None, "{path}");
        }
    }

    #[test]
    fn releases_may_be_a_mirror() {
        let shim = IpxeShim::of("ipxe-shimx64.efi", Architecture::Amd64).unwrap();
        let urls = |upstreams| [shim.source().url(&upstreams), shim.second_stage_source().url(&upstreams)];
        for (upstreams, base) in [
            (Upstreams::default(), "https://github.com/ipxe"),
            (
                Upstreams { ipxe_releases: "http://mirror:8080/ipxe/".into(), ..Upstreams::default() },
                "http://mirror:8080/ipxe",
            ),
        ] {
            let expected =
                ["shim/releases/latest/download/ipxe-shimx64.efi", "ipxe/releases/latest/download/ipxeboot.tar.gz"];
            assert_eq!(urls(upstreams), expected.map(|path| format!("{base}/{path}")));
        }
    }
}
