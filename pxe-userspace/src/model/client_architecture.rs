//! The processor architectures that firmware names itself by.

use super::loader::LoaderFile;

/// Option 93 of a Raspberry Pi's own boot ROM, as IANA assigned it. Most of them send 0 instead.
pub const RASPBERRY_PI: u16 = 41;

/// One row of IANA's registry "Processor Architecture Types" (RFC 4578 option 93). One number says two things: which
/// program the firmware can start, and whether it fetches that program by TFTP or HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientArchitecture {
    /// The name for messages.
    pub name: &'static str,
    /// The network boot program, or `None` if iPXE does not exist for the architecture (Itanium, PowerPC, …).
    pub loader: Option<LoaderFile>,
    /// The firmware fetches its program by HTTP.
    pub by_http: bool,
}

impl ClientArchitecture {
    /// Returns the row of a number. An unknown number has no loader, and does not fetch by HTTP.
    ///
    /// ```
    /// use pxe_userspace::model::client_architecture::ClientArchitecture;
    ///
    /// let firmware = ClientArchitecture::of(16);
    /// assert_eq!(firmware.name, "x86-64 UEFI, HTTP boot");
    /// assert_eq!(firmware.loader.map(|loader| loader.name()), Some("ipxe-efi-x86_64.efi"));
    /// assert!(firmware.by_http);
    /// ```
    #[must_use]
    pub const fn of(number: u16) -> Self {
        use LoaderFile::{EfiArm32, EfiArm64, EfiIa32, EfiRiscv32, EfiRiscv64, EfiX64, Undionly};
        let (name, loader, by_http) = match number {
            0 => ("x86 BIOS", Some(Undionly), false),
            1 => ("NEC PC-98", None, false),
            2 => ("Itanium", None, false),
            3 => ("DEC Alpha", None, false),
            4 => ("Arc x86", None, false),
            5 => ("Intel Lean Client", None, false),
            6 => ("32-bit x86 UEFI", Some(EfiIa32), false),
            // 9 and 17 are EFI byte code by IANA's list; in the field, x64 firmware says 9 as often as 7.
            7 | 9 => ("x86-64 UEFI", Some(EfiX64), false),
            8 => ("XScale UEFI", None, false),
            10 => ("32-bit ARM UEFI", Some(EfiArm32), false),
            11 => ("ARM64 UEFI", Some(EfiArm64), false),
            12 => ("PowerPC Open Firmware", None, false),
            13 => ("PowerPC ePAPR", None, false),
            14 => ("POWER OPAL", None, false),
            15 => ("32-bit x86 UEFI, HTTP boot", Some(EfiIa32), true),
            16 => ("x86-64 UEFI, HTTP boot", Some(EfiX64), true),
            17 => ("EBC, HTTP boot", Some(EfiX64), true),
            18 => ("32-bit ARM UEFI, HTTP boot", Some(EfiArm32), true),
            19 => ("ARM64 UEFI, HTTP boot", Some(EfiArm64), true),
            20 => ("x86 BIOS, HTTP boot", Some(Undionly), true),
            21 => ("32-bit ARM U-Boot", Some(EfiArm32), false),
            22 => ("ARM64 U-Boot", Some(EfiArm64), false),
            23 => ("32-bit ARM U-Boot, HTTP boot", Some(EfiArm32), true),
            24 => ("ARM64 U-Boot, HTTP boot", Some(EfiArm64), true),
            25 => ("32-bit RISC-V UEFI", Some(EfiRiscv32), false),
            26 => ("32-bit RISC-V UEFI, HTTP boot", Some(EfiRiscv32), true),
            27 => ("RISC-V 64 UEFI", Some(EfiRiscv64), false),
            28 => ("RISC-V 64 UEFI, HTTP boot", Some(EfiRiscv64), true),
            29 => ("RISC-V 128 UEFI", None, false),
            30 => ("RISC-V 128 UEFI, HTTP boot", None, true),
            31 | 32 => ("s390", None, false),
            33 | 34 => ("MIPS UEFI", None, false),
            35 | 36 => ("Sunway UEFI", None, false),
            37 | 39 => ("LoongArch UEFI", None, false),
            38 | 40 => ("LoongArch UEFI, HTTP boot", None, true),
            RASPBERRY_PI => ("Raspberry Pi", Some(EfiArm64), false),
            _ => ("unknown architecture", None, false),
        };
        Self { name, loader, by_http }
    }

    /// Returns whether the firmware is a PC's BIOS, for which ProxyDHCP is one offer without a second question on port
    /// 4011.
    #[must_use]
    pub fn is_bios(self) -> bool {
        self.loader == Some(LoaderFile::Undionly)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_class_has_its_loader_and_transport() {
        for (number, loader, http) in [
            (0, Some("undionly.kpxe"), false),
            (2, None, false),
            (6, Some("ipxe-efi-i386.efi"), false),
            (7, Some("ipxe-efi-x86_64.efi"), false),
            (9, Some("ipxe-efi-x86_64.efi"), false),
            (10, Some("ipxe-efi-arm32.efi"), false),
            (11, Some("ipxe-efi-arm64.efi"), false),
            (14, None, false),
            (15, Some("ipxe-efi-i386.efi"), true),
            (16, Some("ipxe-efi-x86_64.efi"), true),
            (17, Some("ipxe-efi-x86_64.efi"), true),
            (18, Some("ipxe-efi-arm32.efi"), true),
            (19, Some("ipxe-efi-arm64.efi"), true),
            (20, Some("undionly.kpxe"), true),
            (21, Some("ipxe-efi-arm32.efi"), false),
            (22, Some("ipxe-efi-arm64.efi"), false),
            (23, Some("ipxe-efi-arm32.efi"), true),
            (24, Some("ipxe-efi-arm64.efi"), true),
            (25, Some("ipxe-efi-riscv32.efi"), false),
            (26, Some("ipxe-efi-riscv32.efi"), true),
            (27, Some("ipxe-efi-riscv64.efi"), false),
            (28, Some("ipxe-efi-riscv64.efi"), true),
            (29, None, false),
            (30, None, true),
            (41, Some("ipxe-efi-arm64.efi"), false),
            (0xffff, None, false),
        ] {
            assert_eq!(ClientArchitecture::of(number).loader.map(LoaderFile::name), loader, "architecture {number}");
            assert_eq!(ClientArchitecture::of(number).by_http, http, "architecture {number}");
        }
    }
}
