//! The header of a PE32+ file, the format of EFI applications.
//!
//! Reads from the first bytes of a file, which may be anything.

use std::fmt;

use thiserror::Error;

/// Bytes at the start of a file that are enough to read the header of an EFI stub, a kernel or a unified kernel image.
pub const HEAD_LENGTH: usize = 64 * 1024;

/// Offset in the DOS header: where the PE header begins.
const PE_OFFSET: usize = 0x3c;
/// Length of the PE signature and the COFF header behind it.
const COFF_LENGTH: usize = 24;
/// The magic number of a PE32+ optional header.
const PE32_PLUS: u16 = 0x20b;
/// Length of an optional header without data directories.
const OPTIONAL_LENGTH: usize = 112;
/// Length of an entry of the section table.
pub(super) const SECTION_HEADER_LENGTH: usize = 40;
/// The largest number of sections that Windows and EFI loaders accept.
pub(super) const SECTION_LIMIT: usize = 96;
/// The number of data directories that are defined.
const DIRECTORY_LIMIT: usize = 16;
/// The index of the data directory that says where the signatures are.
const SECURITY: usize = 4;

/// Offsets in the COFF header, from the PE signature.
pub(super) mod coff {
    pub(crate) const MACHINE: usize = 4;
    pub(crate) const NUMBER_OF_SECTIONS: usize = 6;
    pub(crate) const POINTER_TO_SYMBOL_TABLE: usize = 12;
    pub(crate) const NUMBER_OF_SYMBOLS: usize = 16;
    pub(crate) const SIZE_OF_OPTIONAL_HEADER: usize = 20;
}

/// Offsets in the optional header.
pub(super) mod optional {
    pub(crate) const SIZE_OF_INITIALIZED_DATA: usize = 8;
    pub(crate) const ENTRY: usize = 16;
    pub(crate) const SECTION_ALIGNMENT: usize = 32;
    pub(crate) const FILE_ALIGNMENT: usize = 36;
    pub(crate) const SIZE_OF_IMAGE: usize = 56;
    pub(crate) const SIZE_OF_HEADERS: usize = 60;
    pub(crate) const CHECKSUM: usize = 64;
    pub(crate) const SUBSYSTEM: usize = 68;
    pub(crate) const NUMBER_OF_DIRECTORIES: usize = 108;
    pub(crate) const SECURITY_DIRECTORY: usize = super::OPTIONAL_LENGTH + super::SECURITY * 8;
}

/// The processor architecture of a PE file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeMachine(pub u16);

impl PeMachine {
    /// x86-64.
    pub const AMD64: Self = Self(0x8664);
    /// AArch64.
    pub const ARM64: Self = Self(0xaa64);
}

impl fmt::Display for PeMachine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0x8664 => f.write_str("amd64"),
            0xaa64 => f.write_str("arm64"),
            0x014c => f.write_str("i386"),
            0x01c0 | 0x01c2 | 0x01c4 => f.write_str("arm"),
            0x5064 => f.write_str("riscv64"),
            0x6264 => f.write_str("loongarch64"),
            number => write!(f, "machine 0x{number:04x}"),
        }
    }
}

/// A reason why a file is not a PE32+ file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PeError {
    /// It does not begin with `MZ`.
    #[error("it is not an EFI application: it does not begin with MZ")]
    NotPe,
    /// It begins with `MZ`, but there is no PE header.
    #[error("it is not an EFI application: it has no PE header")]
    NoHeader,
    /// It is for 32-bit processors or for something else.
    #[error("it is not a 64-bit EFI application")]
    NotPe32Plus,
    /// It has no section, or more sections than EFI loaders accept.
    #[error("its header names {0} sections, and a PE file has 1 to {SECTION_LIMIT}")]
    Sections(usize),
    /// It ends within its header.
    #[error("it ends within its header: it was cut off")]
    CutOff,
}

/// The header of a PE32+ file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The processor architecture.
    pub machine: PeMachine,
    /// The subsystem. An EFI application has 10.
    pub subsystem: u16,
    /// The address of the entry point, relative to the image's base.
    pub entry: u32,
    /// The alignment of sections in memory, in bytes.
    pub section_alignment: u32,
    /// The alignment of sections in the file, in bytes.
    pub file_alignment: u32,
    /// The length of the image in memory, in bytes.
    pub size_of_image: u32,
    /// The length of all headers in the file, in bytes.
    pub size_of_headers: u32,
    /// The data directories. Only that of the signatures has an offset in the file.
    pub directories: Vec<Directory>,
    /// The sections, in the order of the section table.
    pub sections: Vec<Section>,
    /// The offset of the PE signature in the file.
    pub(super) pe: usize,
    /// The offset of the optional header in the file.
    pub(super) optional: usize,
    /// The offset of the section table in the file.
    pub(super) section_table: usize,
}

/// A data directory of a PE file: the place of relocations, debug information and the like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    /// The address in memory, relative to the image's base. Of the signatures, it is the offset in the file.
    pub address: u32,
    /// The length in bytes; 0 if there is none.
    pub size: u32,
}

/// A section of a PE file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// The name, padded with NUL.
    pub name: [u8; 8],
    /// The length in memory, in bytes.
    pub virtual_size: u32,
    /// The address in memory, relative to the image's base.
    pub virtual_address: u32,
    /// The length in the file, in bytes.
    pub raw_size: u32,
    /// The offset in the file.
    pub raw_offset: u32,
    /// The flags.
    pub characteristics: u32,
}

impl Section {
    /// Returns whether the section has this name.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.name == padded_name(name)
    }

    /// Returns the name for a person.
    #[must_use]
    pub fn display_name(&self) -> String {
        let end = self.name.iter().position(|&byte| byte == 0).unwrap_or(self.name.len());
        self.name[..end].escape_ascii().to_string()
    }

    fn read(bytes: &[u8; SECTION_HEADER_LENGTH]) -> Self {
        let (name, rest) = bytes.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
        let number = |at| u32_at(rest, at).unwrap_or_default();
        Self {
            name: *name,
            virtual_size: number(0),
            virtual_address: number(4),
            raw_size: number(8),
            raw_offset: number(12),
            characteristics: number(28),
        }
    }

    /// Returns the section's entry of the section table. It has neither relocations nor line numbers, which an image does not use.
    pub(super) fn to_bytes(self) -> [u8; SECTION_HEADER_LENGTH] {
        let Self { name, virtual_size, virtual_address, raw_size, raw_offset, characteristics } = self;
        let mut bytes = [0; SECTION_HEADER_LENGTH];
        bytes[..8].copy_from_slice(&name);
        for (at, number) in
            [(8, virtual_size), (12, virtual_address), (16, raw_size), (20, raw_offset), (36, characteristics)]
        {
            bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }
}

/// Returns the name of a section as the section table has it. What is beyond eight bytes is cut off.
pub(super) const fn padded_name(name: &str) -> [u8; 8] {
    let mut padded = [0; 8];
    let bytes = name.as_bytes();
    let mut at = 0;
    while at < bytes.len() && at < padded.len() {
        padded[at] = bytes[at];
        at += 1;
    }
    padded
}

impl Header {
    /// Reads the header from the first bytes of a file; [`HEAD_LENGTH`] are enough.
    ///
    /// # Errors
    ///
    /// The file is not a PE32+ file, or `head` ends within its header.
    pub fn read(head: &[u8]) -> Result<Self, PeError> {
        if !head.starts_with(b"MZ") {
            return Err(PeError::NotPe);
        }
        let pe = u32_at(head, PE_OFFSET).ok_or(PeError::CutOff)?;
        let pe = usize::try_from(pe).unwrap_or(usize::MAX);
        // A header beyond the first bytes is not one that a linker writes.
        if pe > HEAD_LENGTH {
            return Err(PeError::NoHeader);
        }
        let header = head.get(pe..).ok_or(PeError::CutOff)?;
        if !header.starts_with(&b"PE\0\0"[..header.len().min(4)]) {
            return Err(PeError::NoHeader);
        }
        let coff = |at| u16_at(header, at).ok_or(PeError::CutOff);
        let machine = PeMachine(coff(coff::MACHINE)?);
        let count = usize::from(coff(coff::NUMBER_OF_SECTIONS)?);
        let optional_length = usize::from(coff(coff::SIZE_OF_OPTIONAL_HEADER)?);
        let optional = pe + COFF_LENGTH;
        let fields = head.get(optional..).ok_or(PeError::CutOff)?;
        if u16_at(fields, 0).ok_or(PeError::CutOff)? != PE32_PLUS {
            return Err(PeError::NotPe32Plus);
        }
        let field = |at| u32_at(fields, at).ok_or(PeError::CutOff);
        let count_of_directories = usize::try_from(field(optional::NUMBER_OF_DIRECTORIES)?).unwrap_or(usize::MAX);
        // Without the directory of signatures nobody could sign it.
        if count_of_directories <= SECURITY || optional_length < OPTIONAL_LENGTH + (SECURITY + 1) * 8 {
            return Err(PeError::NotPe32Plus);
        }
        if !(1..=SECTION_LIMIT).contains(&count) {
            return Err(PeError::Sections(count));
        }
        let section_table = optional + optional_length;
        let table = head.get(section_table..).unwrap_or_default();
        let sections: Vec<_> = table.as_chunks().0.iter().take(count).map(Section::read).collect();
        if sections.len() < count {
            return Err(PeError::CutOff);
        }
        Ok(Self {
            machine,
            subsystem: u16_at(fields, optional::SUBSYSTEM).ok_or(PeError::CutOff)?,
            entry: field(optional::ENTRY)?,
            section_alignment: field(optional::SECTION_ALIGNMENT)?,
            file_alignment: field(optional::FILE_ALIGNMENT)?,
            size_of_image: field(optional::SIZE_OF_IMAGE)?,
            size_of_headers: field(optional::SIZE_OF_HEADERS)?,
            directories: Directory::read(fields.get(..optional_length).unwrap_or_default(), count_of_directories),
            sections,
            pe,
            optional,
            section_table,
        })
    }

    /// Returns the place of the signatures. Its address is an offset in the file.
    #[must_use]
    pub fn security(&self) -> Directory {
        self.directories.get(SECURITY).copied().unwrap_or_default()
    }

    /// Returns the directories that name addresses in memory.
    pub(super) fn directories_in_memory(&self) -> impl Iterator<Item = Directory> {
        let in_memory = self.directories.iter().enumerate().filter(|(index, _)| *index != SECURITY);
        in_memory.map(|(_, directory)| *directory).filter(|directory| directory.size > 0)
    }

    /// Returns the first section of this name.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.is(name))
    }
}

impl Directory {
    /// Reads the directories at the end of an optional header.
    fn read(optional_header: &[u8], count: usize) -> Vec<Self> {
        let entries = optional_header.get(OPTIONAL_LENGTH..).unwrap_or_default().as_chunks::<8>().0;
        let entry = |entry: &[u8; 8]| Self {
            address: u32_at(entry, 0).unwrap_or_default(),
            size: u32_at(entry, 4).unwrap_or_default(),
        };
        entries.iter().take(count.min(DIRECTORY_LIMIT)).map(entry).collect()
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}
