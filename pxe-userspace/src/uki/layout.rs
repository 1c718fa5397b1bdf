//! The layout of an image: which bytes come from where.

use std::ops::Range;

use thiserror::Error;

use super::{
    command_line,
    pe::{Header, PeError, PeMachine, SECTION_HEADER_LENGTH, SECTION_LIMIT, Section, coff, optional, padded_name},
    pieces::{Piece, Pieces, SourceFile},
};

/// The subsystem of EFI applications.
const EFI_APPLICATION: u16 = 10;
/// The flags of a section with data that is read: `IMAGE_SCN_CNT_INITIALIZED_DATA` and `IMAGE_SCN_MEM_READ`.
const DATA: u32 = 0x4000_0040;
/// The flag of a section with data.
const INITIALIZED_DATA: u32 = 0x40;
/// The largest header. Those of stubs have 1 to 20 KiB.
const HEADERS_LIMIT: u32 = 64 * 1024;
/// The text by which systemd's stubs for kernels are known. Those for addons and systemd-boot say something else.
const STUB_MAGIC: &[u8] = b"LoaderInfo: systemd-stub ";

/// The sections of a unified kernel image that are data for the stub, and not the stub's own.
const PAYLOAD: [&str; 14] = [
    ".osrel", ".cmdline", ".uname", ".splash", ".linux", ".initrd", ".ucode", ".dtb", ".dtbauto", ".hwids", ".efifw",
    ".profile", ".pcrsig", ".pcrpkey",
];
/// The sections that are left out. `.cmdline` is replaced. With a new one, the signature of the expected PCR values is wrong. Only one
/// profile is left. With `.osrel` the stub copies the initramfs once more.
const LEFT_OUT: [&str; 4] = [".cmdline", ".profile", ".pcrsig", ".osrel"];
/// The sections of which a profile may have several.
const REPEATED: [&str; 2] = [".dtbauto", ".efifw"];

/// A reason why no image can be made of files.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UkiError {
    /// It is not a PE32+ file.
    #[error(transparent)]
    Pe(#[from] PeError),
    /// It is a PE file of another kind.
    #[error("it is not an EFI application: its subsystem is {0}")]
    NotAnApplication(u16),
    /// It is for another processor architecture.
    #[error("it is for {found}, and the machine is {wanted}")]
    WrongMachine {
        /// The architecture of the file.
        found: PeMachine,
        /// The architecture of the machine.
        wanted: PeMachine,
    },
    /// It is an EFI application, but not systemd's stub.
    #[error(
        "it is not systemd's EFI stub for kernels (linuxx64.efi.stub, linuxaa64.efi.stub; Debian's package systemd-boot-efi)"
    )]
    NotAStub,
    /// It has a kernel already.
    #[error("it is a unified kernel image and not a stub: it contains a kernel")]
    HasKernel,
    /// It is not a unified kernel image.
    #[error("it is not a unified kernel image: it has no section {0}")]
    NoSection(&'static str),
    /// Its alignments are not those of an EFI application.
    #[error(
        "its sections are aligned to {section} bytes in memory and {file} in the file: both have to be powers of two, \
         and that in the file 512 to 4096"
    )]
    Alignment {
        /// The alignment in memory, in bytes.
        section: u32,
        /// The alignment in the file, in bytes.
        file: u32,
    },
    /// Two sections overlap, or they are not in the order of their addresses.
    #[error("its sections {0} and {1} overlap in memory, or are not in order")]
    Overlap(String, String),
    /// A section is not in the file.
    #[error("its section {section} ends at byte {end}, and the file has {length}: it was cut off")]
    CutOff {
        /// The section.
        section: String,
        /// The end of the section in the file.
        end: u64,
        /// The length of the file.
        length: u64,
    },
    /// The header cannot take the sections that are added.
    #[error(
        "its headers have no room for {sections} sections: they need {needed} bytes, and its code begins at {room}"
    )]
    NoRoom {
        /// The number of sections.
        sections: usize,
        /// The bytes that the headers need.
        needed: u64,
        /// The bytes that are free.
        room: u64,
    },
    /// The stub refers to a section that is moved.
    #[error("the stub in it refers to its section {0}, which is behind the kernel: it cannot be taken apart")]
    Entangled(String),
    /// The kernel or the initramfs is empty.
    #[error("its section {0} would be empty")]
    Empty(&'static str),
    /// The image is too long for a PE file.
    #[error("the image would have {0} bytes, and an EFI application has less than 4 GiB")]
    TooLong(u64),
}

/// The part of an image that all machines share, and the place of the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    machine: PeMachine,
    pieces: Vec<Piece>,
    shared_length: u64,
    certificate_length: u32,
    /// Bytes that the signature does not cover: the checksum, and the place of the signature.
    unsigned: [Range<u64>; 2],
}

impl Template {
    /// Makes a template of systemd's EFI stub, a kernel and an initramfs.
    ///
    /// # Errors
    ///
    /// `stub` is not such a stub for this architecture, a file is empty, or together they are too long.
    pub fn from_stub(
        stub: &[u8],
        kernel_length: u64,
        initramfs_length: u64,
        machine: PeMachine,
    ) -> Result<Self, UkiError> {
        let header = application(stub, machine)?;
        if header.section(".linux").is_some() {
            return Err(UkiError::HasKernel);
        }
        if !stub.windows(STUB_MAGIC.len()).any(|window| window == STUB_MAGIC) {
            return Err(UkiError::NotAStub);
        }
        let own = header.sections.iter().map(|section| {
            let content = content_of(section, section.raw_size, stub.len() as u64)?;
            // The range was checked against the length.
            let range = usize::try_from(content.start).ok().zip(usize::try_from(content.end).ok());
            let bytes = range.and_then(|(start, end)| stub.get(start..end)).unwrap_or_default();
            Ok(Planned { section: *section, content: Content::Bytes(bytes) })
        });
        let mut plan = Plan::new(&header, own.collect::<Result<_, UkiError>>()?)?;
        for (name, file, length) in
            [(".linux", SourceFile::Kernel, kernel_length), (".initrd", SourceFile::Initramfs, initramfs_length)]
        {
            plan.add(name, file, 0..length)?;
        }
        plan.finish(stub, machine)
    }

    /// Takes a unified kernel image apart, such as the Image Factory's: `head` is the file's first bytes ([`super::pe::HEAD_LENGTH`], or
    /// the whole file if it is shorter). The stub and the sections of the first profile stay, except for the command line, what is said
    /// about it, and the signature.
    ///
    /// # Errors
    ///
    /// The file is not a unified kernel image for this architecture, or it was cut off.
    pub fn from_uki(head: &[u8], length: u64, machine: PeMachine) -> Result<Self, UkiError> {
        let header = application(head, machine)?;
        let is_payload = |section: &Section| PAYLOAD.iter().any(|name| section.is(name));
        let own_count = header.sections.iter().position(is_payload).unwrap_or(header.sections.len());
        let (own, payload) = header.sections.split_at(own_count);
        if let Some(section) = payload.iter().find(|section| header.refers_to(section)) {
            return Err(UkiError::Entangled(section.display_name()));
        }
        let own = own.iter().map(|section| {
            let range = content_of(section, section.raw_size, length)?;
            Ok(Planned { section: *section, content: Content::File(SourceFile::Uki, range) })
        });
        let mut plan = Plan::new(&header, own.collect::<Result<_, UkiError>>()?)?;
        let payload = first_profile(payload);
        for name in [".linux", ".initrd"] {
            let section = payload.iter().find(|section| section.is(name)).ok_or(UkiError::NoSection(name))?;
            if section.raw_size == 0 {
                return Err(UkiError::Empty(name));
            }
        }
        for section in payload {
            plan.keep(section, length)?;
        }
        plan.finish(head, machine)
    }

    /// Returns the template for signed images, whose signature has this length in bytes, padding included.
    ///
    /// # Errors
    ///
    /// The image gets too long.
    pub fn with_certificate(mut self, length: u32) -> Result<Self, UkiError> {
        self.certificate_length = length;
        if u32::try_from(self.length()).is_err() {
            return Err(UkiError::TooLong(self.length()));
        }
        let offset = self.certificate_offset();
        let [_, Range { start, .. }] = self.unsigned;
        if let (Some(Piece::Bytes(header)), Ok(start), Ok(offset)) =
            (self.pieces.first_mut(), usize::try_from(start), u32::try_from(offset))
        {
            let mut bytes = header.to_vec();
            put(&mut bytes, start, offset);
            put(&mut bytes, start + 4, length);
            *header = bytes.into();
        }
        Ok(self)
    }

    /// Returns the architecture of the machines.
    #[must_use]
    pub const fn machine(&self) -> PeMachine {
        self.machine
    }

    /// Returns the pieces that all machines share, in order. The command line follows
    /// ([`command_line::SECTION_LENGTH`] bytes), and then the signature.
    #[must_use]
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Returns the length of the shared part in bytes: the offset of the command line in the image.
    #[must_use]
    pub const fn shared_length(&self) -> u64 {
        self.shared_length
    }

    /// Returns the length of the signature in bytes; 0 if images are not signed.
    #[must_use]
    pub const fn certificate_length(&self) -> u32 {
        self.certificate_length
    }

    /// Returns the length of every machine's image in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.certificate_offset() + u64::from(self.certificate_length)
    }

    fn certificate_offset(&self) -> u64 {
        self.shared_length + command_line::SECTION_LENGTH as u64
    }

    /// Returns the ranges that a signature does not cover, in order.
    pub(super) fn unsigned(&self) -> &[Range<u64>; 2] {
        &self.unsigned
    }
}

/// Checks that a kernel can be started by a stub on this architecture. `head` is its first bytes.
///
/// # Errors
///
/// It is not an EFI application, or it is for another architecture.
pub fn check_kernel(head: &[u8], machine: PeMachine) -> Result<(), UkiError> {
    application(head, machine).map(drop)
}

/// Reads the header of an EFI application for this architecture.
fn application(head: &[u8], machine: PeMachine) -> Result<Header, UkiError> {
    let header = Header::read(head)?;
    if header.subsystem != EFI_APPLICATION {
        return Err(UkiError::NotAnApplication(header.subsystem));
    }
    if header.machine != machine {
        return Err(UkiError::WrongMachine { found: header.machine, wanted: machine });
    }
    Ok(header)
}

/// Returns the range of the first bytes of a section in a file of this length.
fn content_of(section: &Section, bytes: u32, length: u64) -> Result<Range<u64>, UkiError> {
    let start = u64::from(section.raw_offset);
    let end = start + u64::from(bytes);
    if bytes > 0 && end > length {
        return Err(UkiError::CutOff { section: section.display_name(), end, length });
    }
    Ok(start..end)
}

/// Returns the sections of the first profile that are kept. Sections before the first `.profile` belong to every profile, and a
/// profile's own take precedence. Of two with one name, stubs use the first.
fn first_profile(payload: &[Section]) -> Vec<&Section> {
    let mut parts = payload.split(|section| section.is(".profile"));
    let base = parts.next().unwrap_or_default();
    let profile = parts.next().unwrap_or_default();
    let mut kept = Vec::<&Section>::new();
    let overridden = |section: &&Section| !profile.iter().any(|other| other.name == section.name);
    for section in base.iter().filter(overridden).chain(profile) {
        let is = |names: &[&str]| names.iter().any(|name| section.is(name));
        if !is(&LEFT_OUT) && (is(&REPEATED) || !kept.iter().any(|other| other.name == section.name)) {
            kept.push(section);
        }
    }
    kept
}

impl Header {
    /// Returns whether the code refers to the section by an address.
    fn refers_to(&self, section: &Section) -> bool {
        let start = u64::from(section.virtual_address);
        let range = start..start + u64::from(section.virtual_size.max(section.raw_size));
        range.contains(&u64::from(self.entry))
            || self.directories_in_memory().any(|directory| range.contains(&u64::from(directory.address)))
    }
}

/// The contents of a section.
enum Content<'a> {
    Bytes(&'a [u8]),
    File(SourceFile, Range<u64>),
}

impl Content<'_> {
    fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(_, range) => range.end - range.start,
        }
    }
}

/// A section of the new image. Its place in the file is not set yet.
struct Planned<'a> {
    section: Section,
    content: Content<'a>,
}

/// The sections of an image, while they are put together.
struct Plan<'a> {
    header: &'a Header,
    sections: Vec<Planned<'a>>,
}

impl<'a> Plan<'a> {
    /// Begins with the stub's own sections, which stay where they are in memory.
    fn new(header: &'a Header, mut own: Vec<Planned<'a>>) -> Result<Self, UkiError> {
        let Header { section_alignment: section, file_alignment: file, .. } = *header;
        if !section.is_power_of_two() || !file.is_power_of_two() || !(512..=4096).contains(&file) || section > 1 << 20 {
            return Err(UkiError::Alignment { section, file });
        }
        let mut end = 0;
        let mut before = None;
        for Planned { section, .. } in &mut own {
            let start = u64::from(section.virtual_address);
            if start < end {
                let before = before.map_or_else(String::new, |before: Section| before.display_name());
                return Err(UkiError::Overlap(before, section.display_name()));
            }
            // Without a length in memory, loaders take that in the file, which is rounded up here.
            if section.virtual_size == 0 {
                section.virtual_size = section.raw_size;
            }
            end = start + u64::from(section.virtual_size);
            before = Some(*section);
        }
        Ok(Self { header, sections: own })
    }

    /// Returns the next free address in memory. A section without contents keeps its address to itself.
    fn next_address(&self) -> Result<u32, UkiError> {
        let end = self.sections.last().map_or(0, |Planned { section, .. }| {
            u64::from(section.virtual_address) + u64::from(section.virtual_size.max(1))
        });
        let address = end.next_multiple_of(u64::from(self.header.section_alignment));
        u32::try_from(address).map_err(|_| UkiError::TooLong(address))
    }

    fn push(&mut self, name: [u8; 8], virtual_size: u64, content: Content<'a>) -> Result<(), UkiError> {
        let virtual_address = self.next_address()?;
        let end = u64::from(virtual_address) + virtual_size;
        let size = u32::try_from(virtual_size).map_err(|_| UkiError::TooLong(end))?;
        let section =
            Section { name, virtual_size: size, virtual_address, raw_size: 0, raw_offset: 0, characteristics: DATA };
        self.sections.push(Planned { section, content });
        Ok(())
    }

    /// Adds a section with a range of a file.
    fn add(&mut self, name: &'static str, file: SourceFile, range: Range<u64>) -> Result<(), UkiError> {
        let length = range.end - range.start;
        if length == 0 {
            return Err(UkiError::Empty(name));
        }
        self.push(padded_name(name), length, Content::File(file, range))
    }

    /// Adds a section of the image that is taken apart.
    fn keep(&mut self, section: &Section, file_length: u64) -> Result<(), UkiError> {
        let Section { name, virtual_size, raw_size, .. } = *section;
        let virtual_size = if virtual_size == 0 { raw_size } else { virtual_size };
        let range = content_of(section, raw_size.min(virtual_size), file_length)?;
        self.push(name, virtual_size.into(), Content::File(SourceFile::Uki, range))
    }

    /// Adds the command line, and lays everything out in the file. `head` has the headers of the stub.
    fn finish(mut self, head: &[u8], machine: PeMachine) -> Result<Template, UkiError> {
        let command_line = command_line::SECTION_LENGTH as u64;
        self.push(padded_name(".cmdline"), command_line, Content::Bytes(&[]))?;
        let Header { file_alignment, pe, optional, section_table, .. } = *self.header;
        let headers_length = self.headers_length()?;
        let size_of_image = self.next_address()?;

        let alignment = u64::from(file_alignment);
        let mut offset = headers_length;
        let mut initialized = 0;
        let last = self.sections.len() - 1;
        for (index, Planned { section, content }) in self.sections.iter_mut().enumerate() {
            let length = if index == last { command_line } else { content.len() }.next_multiple_of(alignment);
            let fits = |number: u64| u32::try_from(number).map_err(|_| UkiError::TooLong(number));
            section.raw_size = fits(length)?;
            section.raw_offset = if length == 0 { 0 } else { fits(offset)? };
            offset += length;
            if section.characteristics & INITIALIZED_DATA != 0 {
                initialized += length;
            }
        }
        let (Ok(size_of_initialized_data), Ok(size_of_headers), Ok(_)) =
            (u32::try_from(initialized), u32::try_from(headers_length), u32::try_from(offset))
        else {
            return Err(UkiError::TooLong(offset));
        };

        // The table of sections was read from `head`, so it has at least everything before.
        let mut headers = head.get(..section_table).unwrap_or_default().to_vec();
        let count = u16::try_from(self.sections.len()).unwrap_or(u16::MAX);
        headers[pe + coff::NUMBER_OF_SECTIONS..][..2].copy_from_slice(&count.to_le_bytes());
        for (at, number) in [
            // The stub of systemd 252 has symbols behind its sections, which are left out.
            (pe + coff::POINTER_TO_SYMBOL_TABLE, 0),
            (pe + coff::NUMBER_OF_SYMBOLS, 0),
            (optional + optional::SIZE_OF_INITIALIZED_DATA, size_of_initialized_data),
            (optional + optional::SIZE_OF_IMAGE, size_of_image),
            (optional + optional::SIZE_OF_HEADERS, size_of_headers),
            (optional + optional::CHECKSUM, 0),
            (optional + optional::SECURITY_DIRECTORY, 0),
            (optional + optional::SECURITY_DIRECTORY + 4, 0),
        ] {
            put(&mut headers, at, number);
        }
        for Planned { section, .. } in &self.sections {
            headers.extend(section.to_bytes());
        }
        let mut pieces = Pieces::default();
        pieces.bytes(&headers);
        pieces.pad(headers_length);
        for Planned { content, .. } in &self.sections {
            match content {
                Content::Bytes(bytes) => pieces.bytes(bytes),
                Content::File(file, range) => pieces.file(*file, range),
            }
            pieces.pad(pieces.length.next_multiple_of(alignment));
        }
        let shared_length = pieces.length;
        let unsigned = [(optional::CHECKSUM, 4), (optional::SECURITY_DIRECTORY, 8)].map(|(at, length)| {
            let start = (optional + at) as u64;
            start..start + length
        });
        Ok(Template { machine, pieces: pieces.finish(), shared_length, certificate_length: 0, unsigned })
    }

    /// Returns the length of the headers in the file. It stays as it is if it has room for all sections.
    fn headers_length(&self) -> Result<u64, UkiError> {
        let Header { size_of_headers, file_alignment, section_table, .. } = *self.header;
        let sections = self.sections.len();
        let table = (section_table + sections * SECTION_HEADER_LENGTH) as u64;
        let needed = table.max(size_of_headers.into()).next_multiple_of(file_alignment.into());
        let code = self.sections.iter().map(|planned| planned.section.virtual_address).min().unwrap_or(0);
        let room = u64::from(code.min(HEADERS_LIMIT));
        if needed > room || sections > SECTION_LIMIT {
            return Err(UkiError::NoRoom { sections, needed, room });
        }
        Ok(needed)
    }
}

fn put(bytes: &mut [u8], at: usize, number: u32) {
    bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
}

#[cfg(test)]
mod tests;
