//! The parts of an object file that the kernel runs, without those that only describe it.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use object::{
    Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SectionIndex, SymbolSection,
    build::elf::{Builder, SectionData},
    elf,
    read::elf::ElfFile64,
};

type File<'data> = ElfFile64<'data, object::Endianness>;

/// The program: sections with instructions, maps and constants; no names, debug information or paths.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Program {
    sections: BTreeMap<String, Section>,
    /// The section and the offset of each symbol that userspace looks up.
    symbols: BTreeMap<String, (String, u64)>,
}

#[derive(Debug, PartialEq, Eq)]
struct Section {
    bytes: Vec<u8>,
    /// The relocations: the offset in this section, and the section and offset of the target.
    relocations: Vec<(u64, String, u64)>,
}

impl Program {
    /// Reads an object.
    ///
    /// # Errors
    ///
    /// Fails if the file is not a BPF object or has no section `xdp`.
    pub(super) fn read(object: &[u8]) -> Result<Self> {
        let file = File::parse(object).context("not an ELF object")?;
        ensure!(file.elf_header().e_machine.get(file.endian()) == elf::EM_BPF, "not a BPF object");
        let loaded = |index: SectionIndex| -> Result<Option<String>> {
            let section = file.section_by_index(index)?;
            let flags = section.elf_section_header().sh_flags.get(file.endian());
            Ok((flags & u64::from(elf::SHF_ALLOC) != 0).then(|| section.name().map(ToOwned::to_owned)).transpose()?)
        };

        let mut sections = BTreeMap::new();
        for section in file.sections() {
            let Some(name) = loaded(section.index())? else { continue };
            // BTF quotes the source line by line.
            if name.starts_with(".BTF") {
                continue;
            }
            let mut relocations = Vec::new();
            for (offset, relocation) in section.relocations() {
                let RelocationTarget::Symbol(symbol) = relocation.target() else { continue };
                let symbol = file.symbol_by_index(symbol)?;
                let target = symbol.section_index().context("a relocation to an undefined symbol")?;
                let target = file.section_by_index(target)?.name()?.to_owned();
                relocations.push((offset, target, symbol.address()));
            }
            relocations.sort();
            sections.insert(name, Section { bytes: section.data()?.to_owned(), relocations });
        }
        ensure!(sections.contains_key("xdp"), "the object has no section `xdp`");

        let mut symbols = BTreeMap::new();
        for symbol in file.symbols().filter(object::ObjectSymbol::is_global) {
            if let SymbolSection::Section(index) = symbol.section()
                && let Some(section) = loaded(index)?
            {
                symbols.insert(symbol.name()?.to_owned(), (section, symbol.address()));
            }
        }
        Ok(Self { sections, symbols })
    }

    /// Returns the parts in which this program differs from the other.
    pub(super) fn differences(&self, other: &Self) -> Vec<String> {
        let Self { sections, symbols } = self;
        let mut differences: Vec<String> = sections
            .keys()
            .chain(other.sections.keys().filter(|name| !sections.contains_key(*name)))
            .filter(|name| sections.get(*name) != other.sections.get(*name))
            .map(|name| format!("section {name}"))
            .collect();
        if *symbols != other.symbols {
            differences.push("the symbols".to_owned());
        }
        differences
    }

    /// Returns the definitions of the maps, by name.
    pub(super) fn maps(&self) -> BTreeMap<&str, &[u8]> {
        const DEFINITION_LENGTH: usize = 28;

        let bytes = self.sections.get("maps").map_or(&[][..], |section| &section.bytes);
        self.symbols
            .iter()
            .filter(|(_, (section, _))| section == "maps")
            .map(|(name, &(_, offset))| {
                let definition = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..));
                (name.as_str(), definition.and_then(|bytes| bytes.get(..DEFINITION_LENGTH)).unwrap_or_default())
            })
            .collect()
    }
}

/// Returns the object without DWARF, which is nine tenths of it and not read at run time.
///
/// # Errors
///
/// Fails if the file is not an ELF object.
pub(super) fn without_debug_sections(object: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read64(object).context("not an ELF object")?;
    for section in &mut builder.sections {
        let name = section.name.to_string();
        section.delete = name.starts_with(".debug_") || name.starts_with(".rel.debug_");
    }
    // LLVM keeps the names of sections and symbols in one table; this writer needs two.
    if !builder.sections.iter().any(|section| matches!(section.data, SectionData::SectionString)) {
        let names = builder.sections.add();
        names.name = ".shstrtab".into();
        names.sh_type = elf::SHT_STRTAB;
        names.sh_addralign = 1;
        names.data = SectionData::SectionString;
    }
    builder.delete_orphans();
    let mut stripped = Vec::new();
    builder.write(&mut stripped)?;
    Ok(stripped)
}
