//! Tells from the first bytes of a file whether it can be what its name says. Web servers answer with pages of their own, downloads break off,
//! and people copy the wrong file.

use std::ops::Range;

use super::plan::Content;
use crate::model::architecture::Architecture;

/// The bytes from the beginning of a file that are looked at.
pub const HEAD: usize = 8192;

/// Returns the reason why a file cannot have this content, or `None` if it can. `head` has its first [`HEAD`] bytes, or all of it, and
/// `length` is that of the whole file.
#[must_use]
pub fn implausible(content: Content, head: &[u8], length: u64) -> Option<String> {
    if length == 0 {
        return Some("it is empty".to_owned());
    }
    if is_markup(head) {
        return Some("it is a web page, as a server sends it instead of a file".to_owned());
    }
    match content {
        Content::Kernel(Architecture::Amd64) => x86_kernel(head, length),
        Content::Kernel(Architecture::Arm64) => arm64_kernel(head, length),
        Content::Initramfs => initramfs(head),
        Content::Uki(architecture) => match Image::read(head) {
            Ok(image) => image.fault(architecture, length).or_else(|| image.lacks_kernel()),
            Err(reason) => Some(reason.to_owned()),
        },
        Content::Stub(architecture) => match Image::read(head) {
            Ok(image) => image.fault(architecture, length),
            Err(reason) => Some(reason.to_owned()),
        },
        // Loaders of BIOSes have no common form.
        Content::Loader => head.starts_with(MZ).then(|| Image::read(head).ok()?.cut_off(length)).flatten(),
    }
}

fn is_markup(head: &[u8]) -> bool {
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let begins = |tag: &str| text.get(..tag.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(tag.as_bytes()));
    ["<!doctype", "<html", "<?xml", "<head", "<body", "<!--"].into_iter().any(begins)
}

const MZ: &[u8] = b"MZ";
const GZIP: &[u8] = b"\x1f\x8b";

/// A bzImage: the Linux/x86 boot protocol, "The Real-Mode Kernel Header".
fn x86_kernel(head: &[u8], length: u64) -> Option<String> {
    const SETUP_SECTORS: usize = 0x1f1;
    const SYSTEM_SIZE: Range<usize> = 0x1f4..0x1f8;
    const MAGIC: Range<usize> = 0x202..0x206;
    if head.get(MAGIC) != Some(b"HdrS") {
        return Some(match Image::read(head) {
            // UEFI starts it, if not a BIOS.
            Ok(image) => image.fault(Architecture::Amd64, length)?,
            Err(_) => "it is not a Linux kernel for x86-64".to_owned(),
        });
    }
    let setup_sectors = match head.get(SETUP_SECTORS) {
        None | Some(0) => 4,
        Some(&sectors) => u64::from(sectors),
    };
    let system = u64::from(u32_at(head, SYSTEM_SIZE.start).unwrap_or_default()) * 16;
    cut_off((setup_sectors + 1) * 512 + system, length)
}

/// An Image: "Booting AArch64 Linux", "Call the kernel image". iPXE and UEFI start compressed ones, too.
fn arm64_kernel(head: &[u8], length: u64) -> Option<String> {
    const MAGIC: Range<usize> = 56..60;
    if head.get(MAGIC) == Some(b"ARM\x64") || head.starts_with(GZIP) {
        return None;
    }
    match Image::read(head) {
        Ok(image) => image.fault(Architecture::Arm64, length),
        Err(_) => Some("it is not a Linux kernel for ARM64".to_owned()),
    }
}

/// The formats that Linux unpacks.
fn initramfs(head: &[u8]) -> Option<String> {
    let formats: [&[u8]; 11] = [
        b"\xfd7zXZ\0",
        b"\x28\xb5\x2f\xfd",
        GZIP,
        b"070701",
        b"070702",
        b"\xc7\x71",
        b"\x71\xc7",
        b"\x02\x21\x4c\x18",
        b"BZh",
        b"\x5d\0\0",
        b"\x89LZO",
    ];
    let is_known = formats.into_iter().any(|format| head.starts_with(format));
    (!is_known)
        .then(|| "it is not an initramfs: neither a cpio archive nor one that xz, zstd or gzip has packed".to_owned())
}

/// The length of a section header.
const SECTION: usize = 40;

/// The headers of an EFI program (PE32+).
struct Image<'h> {
    machine: u16,
    /// The end of the signatures, which follow the sections, or zero.
    signatures_end: u64,
    /// The section headers, as far as they are in the head.
    sections: &'h [u8],
}

impl<'h> Image<'h> {
    fn read(head: &'h [u8]) -> Result<Self, &'static str> {
        const NO_PROGRAM: &str = "it is not an EFI program: it has no PE header";
        const PE32_PLUS: u16 = 0x20b;
        let signature = head.starts_with(MZ).then(|| u32_at(head, 0x3c)).flatten().ok_or(NO_PROGRAM)?;
        let pe = head.get(usize::try_from(signature).unwrap_or(usize::MAX)..).unwrap_or_default();
        let coff = pe.strip_prefix(b"PE\0\0").ok_or(NO_PROGRAM)?;
        let number = |at| u16_at(coff, at).ok_or(NO_PROGRAM);
        let (machine, count, optional) = (number(0)?, number(2)?, number(16)?);
        if number(20)? != PE32_PLUS {
            return Err("it is an EFI program for 32-bit processors");
        }
        let optional = usize::from(optional);
        let signatures_end = signatures_end(coff.get(20..).unwrap_or_default(), optional);
        let sections = coff.get(20 + optional..).unwrap_or_default();
        let end = sections.len().min(usize::from(count) * SECTION);
        Ok(Self { machine, signatures_end, sections: &sections[..end] })
    }

    fn fault(&self, architecture: Architecture, length: u64) -> Option<String> {
        let (wanted, name) = match architecture {
            Architecture::Amd64 => (0x8664, "x86-64"),
            Architecture::Arm64 => (0xaa64, "ARM64"),
        };
        if self.machine != wanted {
            return Some(format!("it is an EFI program for another processor than {name}"));
        }
        self.cut_off(length)
    }

    fn cut_off(&self, length: u64) -> Option<String> {
        let end = |section: &[u8]| {
            let (size, at) = (u32_at(section, 16)?, u32_at(section, 20)?);
            Some(u64::from(size) + u64::from(at))
        };
        let needed = self.sections.as_chunks::<SECTION>().0.iter().filter_map(|section| end(section)).max();
        cut_off(needed.unwrap_or_default().max(self.signatures_end), length)
    }

    fn lacks_kernel(&self) -> Option<String> {
        let mut sections = self.sections.as_chunks::<SECTION>().0.iter();
        let has_kernel = sections.any(|section| section.starts_with(b".linux\0"));
        (!has_kernel)
            .then(|| "it is an EFI program, but not a unified kernel image: it has no section .linux".to_owned())
    }
}

/// Returns the end of the certificate table, which has an offset in the file, or zero if there is none.
fn signatures_end(optional: &[u8], length: usize) -> u64 {
    const COUNT: usize = 108;
    const TABLE: Range<usize> = 144..152;
    if length < TABLE.end || u32_at(optional, COUNT).is_none_or(|count| count < 5) {
        return 0;
    }
    match (u32_at(optional, TABLE.start), u32_at(optional, TABLE.start + 4)) {
        (Some(at), Some(size)) if size > 0 => u64::from(at) + u64::from(size),
        _ => 0,
    }
}

fn cut_off(needed: u64, length: u64) -> Option<String> {
    (length < needed).then(|| format!("it is cut off: its headers speak of {needed} bytes, and it has {length}"))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KERNEL: Content = Content::Kernel(Architecture::Amd64);
    const ARM_KERNEL: Content = Content::Kernel(Architecture::Arm64);
    const UKI: Content = Content::Uki(Architecture::Amd64);
    const ALL: [Content; 8] = [
        KERNEL,
        ARM_KERNEL,
        Content::Initramfs,
        UKI,
        Content::Uki(Architecture::Arm64),
        Content::Loader,
        Content::Stub(Architecture::Amd64),
        Content::Stub(Architecture::Arm64),
    ];

    fn at(offset: usize, bytes: &[u8]) -> Vec<u8> {
        let mut head = vec![0; 1024];
        head[offset..offset + bytes.len()].copy_from_slice(bytes);
        head
    }

    /// An EFI program with sections of these names, each of 512 bytes from 1024 on.
    fn program(machine: u16, magic: u16, sections: &[&str]) -> Vec<u8> {
        let mut bytes = at(0, b"MZ");
        bytes[0x3c] = 0x80;
        bytes[0x80..0x84].copy_from_slice(b"PE\0\0");
        bytes[0x84..0x86].copy_from_slice(&machine.to_le_bytes());
        bytes[0x86] = sections.len() as u8;
        bytes[0x94] = 0xf0;
        bytes[0x98..0x9a].copy_from_slice(&magic.to_le_bytes());
        for (index, name) in sections.iter().enumerate() {
            let header = &mut bytes[0x188 + 40 * index..][..40];
            header[..name.len()].copy_from_slice(name.as_bytes());
            header[16..20].copy_from_slice(&512_u32.to_le_bytes());
            header[20..24].copy_from_slice(&(1024 + 512 * index as u32).to_le_bytes());
        }
        bytes
    }

    #[test]
    fn content_is_recognised() {
        let mut bzimage = at(0x202, b"HdrS");
        (bzimage[0x1f1], bzimage[0x1f4]) = (27, 100);
        let bzimage_length = 28 * 512 + 1600;
        let zboot = program(0xaa64, 0x20b, &[".text"]);
        let uki = program(0x8664, 0x20b, &[".text", ".linux"]);
        let cases: &[(Content, &[u8], u64)] = &[
            (KERNEL, &bzimage, bzimage_length),
            (KERNEL, &program(0x8664, 0x20b, &[".text"]), 1536),
            (ARM_KERNEL, &at(56, b"ARM\x64"), 1024),
            (ARM_KERNEL, b"\x1f\x8b\x08", 1024),
            (ARM_KERNEL, &zboot, 1536),
            (Content::Initramfs, b"\xfd7zXZ\0\0", 1024),
            (Content::Initramfs, b"\x28\xb5\x2f\xfd", 1024),
            (Content::Initramfs, b"\x1f\x8b\x08", 1024),
            (Content::Initramfs, b"070701", 1024),
            (UKI, &uki, 2048),
            (Content::Stub(Architecture::Arm64), &zboot, 1536),
            (Content::Loader, &zboot, 1536),
            (Content::Loader, b"\xea\x05\0\xc0\x07", 70_000),
        ];
        for (content, head, length) in cases {
            assert_eq!(implausible(*content, head, *length), None, "{content:?} {}", head.escape_ascii());
        }
    }

    #[test]
    fn anything_else_is_told_from_it() {
        let mut bzimage = at(0x202, b"HdrS");
        (bzimage[0x1f1], bzimage[0x1f4]) = (0, 100);
        let (x64, arm64) = (program(0x8664, 0x20b, &[".text"]), program(0xaa64, 0x20b, &[".text", ".linux"]));
        let cases: &[(Content, &[u8], u64, &str)] = &[
            (KERNEL, b"", 0, "empty"),
            (KERNEL, b"\x7fELF", 1024, "not a Linux kernel for x86-64"),
            (KERNEL, b"MZ", 1024, "not a Linux kernel for x86-64"),
            (KERNEL, &at(56, b"ARM\x64"), 1024, "not a Linux kernel for x86-64"),
            (KERNEL, &arm64, 4096, "another processor than x86-64"),
            (KERNEL, &bzimage, 5 * 512 + 1599, "cut off: its headers speak of 4160 bytes, and it has 4159"),
            (ARM_KERNEL, &bzimage, 9999, "not a Linux kernel for ARM64"),
            (ARM_KERNEL, &x64, 9999, "another processor than ARM64"),
            (Content::Initramfs, b"", 0, "empty"),
            (Content::Initramfs, b"{\"error\": 404}", 14, "not an initramfs"),
            (Content::Initramfs, &bzimage, 9999, "not an initramfs"),
            (UKI, b"", 0, "empty"),
            (UKI, &bzimage, 9999, "no PE header"),
            (UKI, &x64, 9999, "no section .linux"),
            (UKI, &arm64, 9999, "another processor than x86-64"),
            (Content::Uki(Architecture::Arm64), &arm64, 2047, "cut off"),
            (UKI, &program(0x14c, 0x10b, &[".linux"]), 9999, "32-bit"),
            (Content::Loader, &x64, 1535, "cut off"),
            (Content::Loader, b"", 0, "empty"),
        ];
        for (content, head, length, reason) in cases {
            let found = implausible(*content, head, *length).unwrap_or_default();
            assert!(found.contains(reason), "{content:?} {length}: {found:?} lacks {reason:?}");
        }
        for page in ["<!DOCTYPE html>", "\u{feff}\r\n <HTML lang=en>", "<?xml version='1.0'?>", "<html>"] {
            for content in ALL {
                let found = implausible(content, page.as_bytes(), 900).unwrap_or_default();
                assert!(found.contains("web page"), "{content:?}: {found}");
            }
        }
    }

    #[test]
    fn program_without_the_end_of_its_signatures_is_cut_off() {
        let mut signed = program(0x8664, 0x20b, &[".text", ".linux"]);
        let optional = 0x98;
        signed[optional + 108] = 16;
        signed[optional + 144..optional + 148].copy_from_slice(&2048_u32.to_le_bytes());
        signed[optional + 148..optional + 152].copy_from_slice(&1400_u32.to_le_bytes());
        for content in [UKI, KERNEL, Content::Loader, Content::Stub(Architecture::Amd64)] {
            assert_eq!(implausible(content, &signed, 3448), None, "{content:?}");
            let found = implausible(content, &signed, 3447).unwrap_or_default();
            assert!(found.contains("cut off: its headers speak of 3448 bytes"), "{content:?}: {found:?}");
        }
        // Without that entry, the bytes are something else.
        signed[optional + 108] = 4;
        assert_eq!(implausible(UKI, &signed, 2048), None);
    }

    proptest! {
        #[test]
        fn any_head_of_a_program_is_survived(
            damage in prop::collection::vec((0..600_usize, any::<u8>()), 0..20), cut in 0..1024_usize, length in any::<u64>(),
        ) {
            let mut head = program(0x8664, 0x20b, &[".text", ".linux"]);
            damage.iter().for_each(|&(at, byte)| head[at] = byte);
            head.truncate(cut);
            ALL.into_iter().for_each(|content| drop(implausible(content, &head, length)));
        }
    }
}
