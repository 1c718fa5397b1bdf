//! Unified kernel images, put together as systemd's and Talos' tools do.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, ensure};

use crate::{
    assets::{Architecture, Edition, installed, unpacked},
    initramfs,
};

/// Initialized data, readable.
const READ_ONLY_DATA: u32 = 0x4000_0040;

/// The length of a section's header.
const SECTION_HEADER: usize = 40;

/// The offsets of fields after the signature `PE\0\0`.
mod field {
    pub(super) const NUMBER_OF_SECTIONS: usize = 6;
    pub(super) const SYMBOLS: usize = 12;
    pub(super) const SIZE_OF_OPTIONAL_HEADER: usize = 20;
    pub(super) const OPTIONAL_HEADER: usize = 24;
    pub(super) const SIZE_OF_INITIALIZED_DATA: usize = OPTIONAL_HEADER + 8;
    pub(super) const SECTION_ALIGNMENT: usize = OPTIONAL_HEADER + 32;
    pub(super) const FILE_ALIGNMENT: usize = OPTIONAL_HEADER + 36;
    pub(super) const SIZE_OF_IMAGE: usize = OPTIONAL_HEADER + 56;
    pub(super) const SIZE_OF_HEADERS: usize = OPTIONAL_HEADER + 60;
    pub(super) const CHECKSUM: usize = OPTIONAL_HEADER + 64;
}

/// Returns the name of systemd's EFI stub for an architecture.
#[must_use]
pub fn stub_name(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Amd64 => "linuxx64.efi.stub",
        Architecture::Arm64 => "linuxaa64.efi.stub",
    }
}

/// Returns the path of systemd's EFI stub: version 252 installed, for x86-64 alone, and 257 newer.
///
/// # Errors
///
/// Fails with [`crate::requires::Skip`] if it is neither installed nor can be fetched.
pub fn stub(edition: Edition, architecture: Architecture) -> anyhow::Result<PathBuf> {
    let path = format!("usr/lib/systemd/boot/efi/{}", stub_name(architecture));
    Ok(match edition {
        Edition::Installed => installed("systemd-boot-efi", &format!("/{path}"))?,
        Edition::Newer => unpacked("systemd-boot-efi", architecture)?.join(path),
    })
}

/// Returns an image like those of the Image Factory, of the tiny test system: all of Talos' sections, and a second profile with arguments of
/// its own. `policy` is the content of `.pcrsig`.
///
/// # Errors
///
/// Fails with [`crate::requires::Skip`] if its parts cannot be fetched.
pub fn like_the_factorys(architecture: Architecture, cmdline: &str) -> anyhow::Result<Vec<u8>> {
    let kernel = fs::read(initramfs::kernel(architecture)?)?;
    let initramfs = initramfs::content(architecture)?;
    let stub = fs::read(stub(Edition::Newer, architecture)?)?;
    let os_release = "NAME=\"Talos\"\nID=talos\nVERSION_ID=v1.13.0\nPRETTY_NAME=\"Talos (v1.13.0)\"\n";
    build(
        &stub,
        &[
            (".osrel", os_release.as_bytes()),
            (".cmdline", cmdline.as_bytes()),
            (".uname", b"6.18.1-talos"),
            (".splash", &SPLASH),
            (".pcrpkey", b"-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n"),
            (".linux", &kernel),
            (".initrd", &initramfs),
            (".profile", b"ID=main\n"),
            (".pcrsig", br#"{"sha256":[{"pcrs":[11],"pkfp":"00","pol":"00","sig":"AA=="}]}"#),
            (".profile", b"ID=reset\nTITLE=Reset\n"),
            (".cmdline", b"talos.experimental.wipe=system"),
            (".pcrsig", br#"{"sha256":[]}"#),
        ],
    )
}

/// A bitmap of one black pixel.
const SPLASH: [u8; 58] = {
    let mut bitmap = [0; 58];
    (bitmap[0], bitmap[1], bitmap[2], bitmap[10]) = (b'B', b'M', 58, 54);
    (bitmap[14], bitmap[18], bitmap[22], bitmap[26], bitmap[28]) = (40, 1, 1, 1, 24);
    bitmap
};

/// Adds sections to a stub, in this order.
///
/// # Errors
///
/// Fails if the stub is not a PE file, or has no room for that many section headers.
pub fn build(stub: &[u8], sections: &[(&str, &[u8])]) -> anyhow::Result<Vec<u8>> {
    ensure!(stub.starts_with(b"MZ"), "the stub is not a PE file");
    let pe = usize::try_from(get32(stub, 0x3c)?)?;
    ensure!(stub.get(pe..pe + 4) == Some(b"PE\0\0"), "the stub is not a PE file");
    let count = usize::from(get16(stub, pe + field::NUMBER_OF_SECTIONS)?);
    let table = pe + field::OPTIONAL_HEADER + usize::from(get16(stub, pe + field::SIZE_OF_OPTIONAL_HEADER)?);
    let headers = usize::try_from(get32(stub, pe + field::SIZE_OF_HEADERS)?)?;
    ensure!(table + SECTION_HEADER * (count + sections.len()) <= headers, "the stub has no room for the sections");
    let section_alignment = get32(stub, pe + field::SECTION_ALIGNMENT)?;
    let file_alignment = usize::try_from(get32(stub, pe + field::FILE_ALIGNMENT)?)?;

    let (mut address, mut end) = (0, 0);
    for header in (0..count).map(|number| table + SECTION_HEADER * number) {
        address = address.max(get32(stub, header + 12)? + get32(stub, header + 8)?);
        end = end.max(get32(stub, header + 20)? + get32(stub, header + 16)?);
    }
    // A symbol table follows the sections.
    let mut image = stub.get(..usize::try_from(end)?).context("the stub is cut off")?.to_vec();
    put(&mut image, pe + field::SYMBOLS, 0);
    put(&mut image, pe + field::SYMBOLS + 4, 0);
    put(&mut image, pe + field::CHECKSUM, 0);
    let mut data = get32(stub, pe + field::SIZE_OF_INITIALIZED_DATA)?;
    for (number, (name, content)) in sections.iter().enumerate() {
        image.resize(image.len().next_multiple_of(file_alignment), 0);
        address = address.next_multiple_of(section_alignment);
        let (start, length) = (image.len(), u32::try_from(content.len())?);
        image.extend_from_slice(content);
        image.resize(image.len().next_multiple_of(file_alignment), 0);
        let raw = u32::try_from(image.len() - start)?;
        let header = table + SECTION_HEADER * (count + number);
        let mut padded = [0; 8];
        padded.get_mut(..name.len()).context("a section's name is too long")?.copy_from_slice(name.as_bytes());
        image[header..header + 8].copy_from_slice(&padded);
        for (offset, value) in [
            (8, length),
            (12, address),
            (16, raw),
            (20, u32::try_from(start)?),
            (24, 0),
            (28, 0),
            (32, 0),
            (36, READ_ONLY_DATA),
        ] {
            put(&mut image, header + offset, value);
        }
        address += length;
        data += raw;
    }
    let count = u16::try_from(count + sections.len())?;
    image[pe + field::NUMBER_OF_SECTIONS..pe + field::NUMBER_OF_SECTIONS + 2].copy_from_slice(&count.to_le_bytes());
    put(&mut image, pe + field::SIZE_OF_IMAGE, address.next_multiple_of(section_alignment));
    put(&mut image, pe + field::SIZE_OF_INITIALIZED_DATA, data);
    Ok(image)
}

fn get16(bytes: &[u8], at: usize) -> anyhow::Result<u16> {
    let bytes = bytes.get(at..at + 2).context("the stub is cut off")?;
    Ok(u16::from_le_bytes(bytes.try_into()?))
}

fn get32(bytes: &[u8], at: usize) -> anyhow::Result<u32> {
    let bytes = bytes.get(at..at + 4).context("the stub is cut off")?;
    Ok(u32::from_le_bytes(bytes.try_into()?))
}

fn put(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a PE file with one section, and room for another.
    fn stub() -> Vec<u8> {
        let mut stub = vec![0; 0x400];
        stub[..2].copy_from_slice(b"MZ");
        put(&mut stub, 0x3c, 0x40);
        stub[0x40..0x44].copy_from_slice(b"PE\0\0");
        stub[0x40 + field::NUMBER_OF_SECTIONS] = 1;
        stub[0x40 + field::SIZE_OF_OPTIONAL_HEADER] = 240;
        for (field, value) in [
            (field::SECTION_ALIGNMENT, 0x1000),
            (field::FILE_ALIGNMENT, 0x200),
            (field::SIZE_OF_IMAGE, 0x2000),
            (field::SIZE_OF_HEADERS, 0x40 + 24 + 240 + 2 * 40),
            (field::SIZE_OF_INITIALIZED_DATA, 0x200),
        ] {
            put(&mut stub, 0x40 + field, value);
        }
        let header = 0x40 + 24 + 240;
        for (offset, value) in [(8, 0x80), (12, 0x1000), (16, 0x200), (20, 0x200)] {
            put(&mut stub, header + offset, value);
        }
        stub.extend(b"symbols");
        stub
    }

    #[test]
    fn section_is_added_behind_the_stubs_own() {
        let image = build(&stub(), &[(".cmdline", b"quiet")]).unwrap();
        assert_eq!(image.len(), 0x600);
        assert!(image[0x400..].starts_with(b"quiet\0"));
        let header = &image[0x40 + 24 + 240 + 40..][..40];
        assert!(header.starts_with(b".cmdline"));
        let fields: Vec<_> = [8, 12, 16, 20].map(|at| get32(header, at).unwrap()).into();
        assert_eq!(fields, [5, 0x2000, 0x200, 0x400]);
        assert_eq!(get32(&image, 0x40 + field::SIZE_OF_IMAGE).unwrap(), 0x3000);
        assert_eq!(image[0x40 + field::NUMBER_OF_SECTIONS], 2);
    }

    #[test]
    fn stub_without_room_is_refused() {
        assert!(build(&stub(), &[(".a", b""), (".b", b"")]).is_err());
        assert!(build(&stub(), &[(".a-long-name", b"")]).is_err());
        assert!(build(b"#!/bin/sh", &[]).is_err());
        assert!(build(&stub()[..0x300], &[(".a", b"")]).is_err());
    }
}
