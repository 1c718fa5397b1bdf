//! An XDP program that passes every frame: the cost of XDP itself on a link.

use anyhow::Context as _;
use aya::{
    Ebpf, TestRun as _, TestRunOptions,
    programs::{Xdp, XdpMode},
};
use object::{
    Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
    write::{Object, Symbol, SymbolSection},
};

const NAME: &str = "pass";

/// `r0 = XDP_PASS; exit` (RFC 9669 §4.1, §4.3).
const INSTRUCTIONS: [u8; 16] = [0xb7, 0, 0, 0, 2, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];

/// The loaded program. It is detached when it is dropped.
pub(super) struct Pass(Ebpf);

impl Pass {
    /// Loads the program.
    ///
    /// # Errors
    ///
    /// Fails without root.
    pub(super) fn load() -> anyhow::Result<Self> {
        let object = object()?;
        let mut ebpf = Ebpf::load(&object).context("the empty program")?;
        program(&mut ebpf)?.load().context("the empty program")?;
        Ok(Self(ebpf))
    }

    /// Attaches it in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// Fails if the driver cannot attach it.
    pub(super) fn attach(&mut self, interface: &str, mode: XdpMode) -> anyhow::Result<()> {
        program(&mut self.0)?.attach(interface, mode).map(drop).context("cannot attach the empty program")
    }

    /// Returns the mean nanoseconds of `repeat` runs, including the kernel's own loop.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses to run it.
    pub(super) fn nanoseconds(&mut self, repeat: u32) -> anyhow::Result<u64> {
        let frame = [0; 64];
        let options = TestRunOptions { data_in: Some(&frame), repeat, ..TestRunOptions::new() };
        Ok(u64::try_from(program(&mut self.0)?.test_run(options)?.duration.as_nanos())?)
    }
}

fn program(ebpf: &mut Ebpf) -> anyhow::Result<&mut Xdp> {
    Ok(ebpf.program_mut(NAME).context("the empty program is not in its object")?.try_into()?)
}

fn object() -> anyhow::Result<Vec<u8>> {
    let mut object = Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
    let code = object.add_section(Vec::new(), b"xdp".to_vec(), SectionKind::Text);
    let value = object.append_section_data(code, &INSTRUCTIONS, 8);
    object.add_symbol(Symbol {
        name: NAME.as_bytes().to_vec(),
        value,
        size: INSTRUCTIONS.len() as u64,
        kind: SymbolKind::Text,
        scope: SymbolScope::Dynamic,
        weak: false,
        section: SymbolSection::Section(code),
        flags: SymbolFlags::None,
    });
    let license = object.add_section(Vec::new(), b"license".to_vec(), SectionKind::Data);
    object.append_section_data(license, b"GPL\0", 1);
    Ok(object.write()?)
}
