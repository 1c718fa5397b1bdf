//! PE files, by a writer that shares no code with the reader and the layout. The test of the fuzz targets' corpus includes this file.

/// A PE32+ file to write.
#[derive(Clone, Debug)]
pub(crate) struct PeFile {
    pub(crate) machine: u16,
    pub(crate) subsystem: u16,
    pub(crate) section_alignment: u32,
    pub(crate) file_alignment: u32,
    /// The address of the first section.
    pub(crate) first_address: u32,
    /// The offset of the PE header.
    pub(crate) pe_offset: usize,
    /// The number of data directories, which the length of the optional header follows.
    pub(crate) directories: usize,
    pub(crate) sections: Vec<PeSection>,
    /// Symbols behind the sections.
    pub(crate) symbols: Vec<u8>,
    /// A signature at the end.
    pub(crate) signature: Vec<u8>,
}

/// A section to write.
#[derive(Clone, Debug)]
pub(crate) struct PeSection {
    pub(crate) name: &'static str,
    pub(crate) contents: Vec<u8>,
    pub(crate) characteristics: u32,
}

/// Returns a section of data.
pub(crate) fn section(name: &'static str, contents: &[u8]) -> PeSection {
    PeSection { name, contents: contents.to_vec(), characteristics: 0x4000_0040 }
}

/// Returns a file that is laid out like systemd's stub 257.
pub(crate) fn stub() -> PeFile {
    let text = PeSection { name: ".text", contents: vec![0x90; 5000], characteristics: 0x6000_0020 };
    PeFile {
        machine: 0x8664,
        subsystem: 10,
        section_alignment: 0x1000,
        file_alignment: 0x200,
        first_address: 0x1000,
        pe_offset: 0x40,
        directories: 16,
        sections: vec![
            text,
            section(".rodata", &[7; 700]),
            section(".sbat", b"sbat,1,SBAT Version,sbat,1,https://example.org\n"),
            section(".sdmagic", b"#### LoaderInfo: systemd-stub 257.13 ####\0"),
            section(".reloc", &[0; 12]),
        ],
        symbols: Vec::new(),
        signature: Vec::new(),
    }
}

/// Returns a unified kernel image that is laid out like the Image Factory's: signed, with a second profile.
pub(crate) fn talos_uki(kernel: &[u8], initramfs: &[u8]) -> PeFile {
    let mut file = stub();
    file.pe_offset = 0x80;
    file.sections.extend([
        section(".osrel", b"NAME=Talos\n"),
        section(".cmdline", b"talos.platform=metal console=tty0"),
        section(".uname", b"6.18.1-talos"),
        section(".splash", &[0x42; 3000]),
        section(".pcrpkey", b"-----BEGIN PUBLIC KEY-----"),
        section(".linux", kernel),
        section(".initrd", initramfs),
        section(".profile", b"ID=main\n"),
        section(".pcrsig", b"{\"sha256\":[]}"),
        section(".profile", b"ID=reset\nTITLE=Reset\n"),
        section(".cmdline", b"talos.platform=metal talos.experimental.wipe=system"),
        section(".pcrsig", b"{\"sha256\":[]}"),
    ]);
    file.signature = vec![0x55; 1400];
    file
}

impl PeFile {
    /// Writes the file.
    pub(crate) fn write(&self) -> Vec<u8> {
        let up = |number: usize, to: u32| number.div_ceil(to as usize) * to as usize;
        let optional_length = 112 + self.directories * 8;
        let table = self.pe_offset + 24 + optional_length;
        let headers = up(table + self.sections.len() * 40, self.file_alignment);
        let (mut raw, mut address) = (headers, self.first_address as usize);
        let mut entries = Vec::new();
        let mut data = Vec::new();
        let mut relocations = (0, 0);
        for PeSection { name, contents, characteristics } in &self.sections {
            let size = up(contents.len(), self.file_alignment);
            if *name == ".reloc" {
                relocations = (address, contents.len());
            }
            let mut entry = [0_u8; 40];
            entry[..name.len()].copy_from_slice(name.as_bytes());
            let fields = [contents.len(), address, size, if size == 0 { 0 } else { raw }];
            for (index, field) in fields.into_iter().enumerate() {
                entry[8 + index * 4..][..4].copy_from_slice(&(field as u32).to_le_bytes());
            }
            entry[36..].copy_from_slice(&characteristics.to_le_bytes());
            entries.extend(entry);
            data.extend_from_slice(contents);
            data.resize(data.len() + size - contents.len(), 0);
            raw += size;
            address = up(address + contents.len().max(1), self.section_alignment);
        }
        let mut file = vec![0; self.pe_offset];
        file[..2].copy_from_slice(b"MZ");
        file[60..64].copy_from_slice(&(self.pe_offset as u32).to_le_bytes());
        file.extend(b"PE\0\0");
        file.extend(self.machine.to_le_bytes());
        file.extend((self.sections.len() as u16).to_le_bytes());
        let has_symbols = !self.symbols.is_empty();
        let symbols = if has_symbols { (raw as u32, self.symbols.len() as u32 / 18) } else { (0, 0) };
        for number in [0x1234_5678, symbols.0, symbols.1] {
            file.extend(u32::to_le_bytes(number));
        }
        file.extend((optional_length as u16).to_le_bytes());
        file.extend([0x2e, 0x02]);
        let mut optional = vec![0_u8; optional_length];
        let mut put = |at: usize, number: usize| optional[at..at + 4].copy_from_slice(&(number as u32).to_le_bytes());
        put(0, 0x20b);
        put(16, self.first_address as usize);
        put(20, self.first_address as usize);
        put(32, self.section_alignment as usize);
        put(36, self.file_alignment as usize);
        put(56, address);
        put(60, headers);
        put(64, 0xdead_beef);
        put(68, self.subsystem.into());
        put(108, self.directories);
        if !self.signature.is_empty() {
            put(112 + 4 * 8, raw + self.symbols.len());
            put(112 + 4 * 8 + 4, self.signature.len());
        }
        put(112 + 5 * 8, relocations.0);
        put(112 + 5 * 8 + 4, relocations.1);
        file.extend(optional);
        file.extend(entries);
        file.resize(headers, 0);
        file.extend(data);
        file.extend(&self.symbols);
        file.extend(&self.signature);
        file
    }
}
