use proptest::prelude::*;
use ring::digest::{SHA256, digest};

use super::*;
use crate::uki::{
    command_line::encode,
    digest::{Changed, Hasher},
    testing::{PeFile, PeSection, section, shared_bytes, stub, talos_uki},
};

const AMD64: PeMachine = PeMachine::AMD64;

/// A number in an image.
fn number(image: &[u8], at: usize) -> usize {
    u32::from_le_bytes(image[at..at + 4].try_into().unwrap()) as usize
}

/// The sections of an image as another reader sees them: name, address, length in memory, contents in the file.
fn read_sections(image: &[u8]) -> Vec<(String, usize, usize, Vec<u8>)> {
    let pe = number(image, 60);
    let count = number(image, pe + 6) & 0xffff;
    let table = pe + 24 + (number(image, pe + 20) & 0xffff);
    let entries = image[table..].chunks(40).take(count);
    entries
        .map(|entry| {
            let name = String::from_utf8(entry[..8].iter().copied().filter(|&byte| byte != 0).collect()).unwrap();
            let (size, start) = (number(entry, 16), number(entry, 20));
            (name, number(entry, 12), number(entry, 8), image[start..start + size].to_vec())
        })
        .collect()
}

fn names(image: &[u8]) -> Vec<String> {
    read_sections(image).into_iter().map(|(name, ..)| name).collect()
}

/// Returns the contents of a section without its padding.
fn contents(image: &[u8], wanted: &str) -> Vec<u8> {
    let (_, _, length, mut bytes) = read_sections(image).into_iter().find(|(name, ..)| name == wanted).unwrap();
    bytes.truncate(length);
    bytes
}

/// Checks what every loader expects of an image.
fn check_image(image: &[u8], section_alignment: usize, file_alignment: usize) {
    let pe = number(image, 60);
    let optional = pe + 24;
    assert_eq!(number(image, pe + 12), 0, "no symbols");
    assert_eq!(number(image, pe + 16), 0, "no symbols");
    assert_eq!(number(image, optional + 64), 0, "no checksum");
    let headers = number(image, optional + 60);
    assert_eq!(headers % file_alignment, 0);
    let count = number(image, pe + 6) & 0xffff;
    let table = optional + (number(image, pe + 20) & 0xffff);
    assert!(table + count * 40 <= headers);
    let (mut raw, mut end, mut initialized) = (headers, headers, 0);
    for entry in image[table..].chunks(40).take(count) {
        let [length, address, size, offset, flags] = [8, 12, 16, 20, 36].map(|at| number(entry, at));
        assert!(address >= end, "sections overlap or are not sorted");
        assert_eq!(size % file_alignment, 0);
        if size > 0 {
            assert_eq!(offset, raw, "a gap in the file, which a loader would hash in another order");
        }
        raw += size;
        end = address + length.max(1);
        initialized += if flags & 0x40 == 0 { 0 } else { size };
    }
    assert_eq!(number(image, optional + 8), initialized);
    assert_eq!(number(image, optional + 56), end.div_ceil(section_alignment) * section_alignment);
    let (offset, length) = (number(image, optional + 144), number(image, optional + 148));
    assert_eq!(image.len(), raw + length);
    if length > 0 {
        assert_eq!((offset, offset % 8), (raw, 0));
    }
}

/// Hashes an image as Authenticode defines it, by another way: with all three holes cut out.
fn authenticode(image: &[u8]) -> Vec<u8> {
    let optional = number(image, 60) + 24;
    let end = image.len() - number(image, optional + 148);
    let holes = [optional + 64..optional + 68, optional + 144..optional + 152, end..image.len()];
    let is_hashed = |at: &usize| !holes.iter().any(|hole| hole.contains(at));
    let hashed: Vec<u8> = (0..image.len()).filter(is_hashed).map(|at| image[at]).collect();
    digest(&SHA256, &hashed).as_ref().to_vec()
}

/// Returns the image for a command line, with zeros in place of the signature.
fn image(template: &Template, files: &[(SourceFile, &[u8])], line: &str) -> Vec<u8> {
    let mut image = shared_bytes(template, files);
    assert_eq!(image.len() as u64, template.shared_length());
    let shared: u64 = template.pieces().iter().map(Piece::len).sum();
    assert_eq!(shared, template.shared_length());
    image.extend(encode(line).unwrap());
    image.resize(image.len() + template.certificate_length() as usize, 0);
    assert_eq!(image.len() as u64, template.length());
    image
}

fn from_stub(stub: &PeFile, kernel: &[u8], initramfs: &[u8]) -> Result<Template, UkiError> {
    Template::from_stub(&stub.write(), kernel.len() as u64, initramfs.len() as u64, PeMachine(stub.machine))
}

fn from_uki(uki: &PeFile) -> Result<Template, UkiError> {
    let bytes = uki.write();
    Template::from_uki(&bytes, bytes.len() as u64, PeMachine(uki.machine))
}

#[test]
fn image_has_the_stub_kernel_initramfs_and_command_line() {
    let (kernel, initramfs) = (vec![1; 1000], vec![2; 5000]);
    let template = from_stub(&stub(), &kernel, &initramfs).unwrap();
    let image = image(&template, &[(SourceFile::Kernel, &kernel), (SourceFile::Initramfs, &initramfs)], "a=b c");
    check_image(&image, 0x1000, 0x200);
    let expected = [".text", ".rodata", ".sbat", ".sdmagic", ".reloc", ".linux", ".initrd", ".cmdline"];
    assert_eq!(names(&image), expected);
    for PeSection { name, contents: expected, .. } in stub().sections {
        assert_eq!(contents(&image, name), expected, "{name}");
    }
    assert_eq!(contents(&image, ".linux"), kernel);
    assert_eq!(contents(&image, ".initrd"), initramfs);
    assert_eq!(contents(&image, ".cmdline"), encode("a=b c").unwrap());
    let (stubs, ours) = (read_sections(&stub().write()), read_sections(&image));
    for ((name, address, ..), (_, moved, ..)) in stubs.iter().zip(&ours) {
        assert_eq!(address, moved, "the code expects {name} where it was");
    }
    assert_eq!(template.pieces().len(), 5, "headers and stub, kernel, padding, initramfs, padding");
}

#[test]
fn images_of_two_machines_differ_only_in_the_command_line() {
    let template = from_stub(&stub(), &[1; 1000], &[2; 512]).unwrap().with_certificate(1392).unwrap();
    let files: [(SourceFile, &[u8]); 2] = [(SourceFile::Kernel, &[1; 1000]), (SourceFile::Initramfs, &[2; 512])];
    let (one, other) = (image(&template, &files, "one"), image(&template, &files, "the other one"));
    assert_eq!(one.len(), other.len());
    let differing: Vec<_> = (0..one.len()).filter(|&at| one[at] != other[at]).collect();
    let section = template.shared_length() as usize..one.len() - 1392;
    assert!(!differing.is_empty() && differing.iter().all(|at| section.contains(at)));
}

#[test]
fn symbols_behind_the_sections_are_left_out() {
    let mut with_symbols = stub();
    with_symbols.symbols = vec![0xee; 18 * 100];
    with_symbols.section_alignment = 0x200;
    with_symbols.pe_offset = 0x80;
    let template = from_stub(&with_symbols, &[1; 10], &[2; 10]).unwrap();
    let files: [(SourceFile, &[u8]); 2] = [(SourceFile::Kernel, &[1; 10]), (SourceFile::Initramfs, &[2; 10])];
    let image = image(&template, &files, "");
    check_image(&image, 0x200, 0x200);
    assert!(!image.windows(18).any(|window| window == [0xee; 18]));
}

#[test]
fn headers_grow_into_the_space_before_the_code() {
    let mut full = stub();
    full.sections.extend((0..10).map(|_| section(".more", &[1])));
    let old = number(&full.write(), 0x40 + 24 + 60);
    let template = from_stub(&full, &[1; 10], &[2; 10]).unwrap();
    let files: [(SourceFile, &[u8]); 2] = [(SourceFile::Kernel, &[1; 10]), (SourceFile::Initramfs, &[2; 10])];
    let image = image(&template, &files, "");
    check_image(&image, 0x1000, 0x200);
    assert!(number(&image, 0x40 + 24 + 60) > old, "the case is about headers that grow");
    full.first_address = old as u32;
    let error = from_stub(&full, &[1; 10], &[2; 10]).unwrap_err();
    assert_eq!(error, UkiError::NoRoom { sections: 18, needed: 0x600, room: 0x400 });
}

#[test]
fn section_without_a_length_in_memory_has_that_of_the_file() {
    let mut bytes = stub().write();
    let reloc = 0x40 + 24 + 240 + 4 * 40;
    assert!(bytes[reloc..].starts_with(b".reloc"));
    bytes[reloc + 8..reloc + 12].fill(0);
    let template = Template::from_stub(&bytes, 10, 10, AMD64).unwrap();
    let image = image(&template, &[(SourceFile::Kernel, &[1; 10]), (SourceFile::Initramfs, &[2; 10])], "");
    check_image(&image, 0x1000, 0x200);
    assert_eq!(read_sections(&image)[4].2, 0x200);
}

#[test]
fn section_without_contents_has_an_address_of_its_own() {
    let files: [(SourceFile, &[u8]); 2] = [(SourceFile::Kernel, &[1; 10]), (SourceFile::Initramfs, &[2; 10])];
    for section_alignment in [0x200, 0x1000] {
        let mut own = PeFile { section_alignment, first_address: 0x4000, ..stub() };
        own.sections.push(section(".text", &[]));
        let image = image(&from_stub(&own, &[1; 10], &[2; 10]).unwrap(), &files, "");
        check_image(&image, section_alignment as usize, 0x200);
        assert_eq!(names(&image)[4..], [".reloc", ".text", ".linux", ".initrd", ".cmdline"]);
    }
    // In an image that is taken apart, wherever it is.
    let kernel = [section(".linux", &[1; 10]), section(".initrd", &[2; 10])];
    for at in 0..=kernel.len() {
        let mut uki = stub();
        uki.sections.extend(kernel.clone());
        uki.sections.insert(5 + at, section(".uname", &[]));
        let bytes = uki.write();
        let image = image(&from_uki(&uki).unwrap(), &[(SourceFile::Uki, &bytes)], "");
        check_image(&image, 0x1000, 0x200);
        assert_eq!(contents(&image, ".linux"), [1; 10], "{at}");
    }
}

#[test]
fn factory_image_is_taken_apart() {
    let (kernel, initramfs) = (vec![1; 1000], vec![2; 5000]);
    let uki = talos_uki(&kernel, &initramfs).write();
    let template = Template::from_uki(&uki[..4096], uki.len() as u64, AMD64).unwrap();
    let image = image(&template, &[(SourceFile::Uki, &uki)], "talos.platform=metal");
    check_image(&image, 0x1000, 0x200);
    let expected = [
        ".text", ".rodata", ".sbat", ".sdmagic", ".reloc", ".uname", ".splash", ".pcrpkey", ".linux", ".initrd",
        ".cmdline",
    ];
    assert_eq!(names(&image), expected);
    for PeSection { name, contents: expected, .. } in talos_uki(&kernel, &initramfs).sections {
        if name != ".cmdline" && names(&image).iter().any(|kept| kept == name) {
            assert_eq!(contents(&image, name), expected, "{name}");
        }
    }
    assert_eq!(contents(&image, ".cmdline"), encode("talos.platform=metal").unwrap());
}

#[test]
fn image_that_was_made_here_can_be_taken_apart_again() {
    let first = from_stub(&stub(), &[1; 1000], &[2; 5000]).unwrap();
    let first = image(&first, &[(SourceFile::Kernel, &[1; 1000]), (SourceFile::Initramfs, &[2; 5000])], "a");
    let again = Template::from_uki(&first, first.len() as u64, AMD64).unwrap();
    assert_eq!(image(&again, &[(SourceFile::Uki, &first)], "a"), first);
}

#[test]
fn sections_of_the_first_profile_take_precedence() {
    let mut uki = stub();
    uki.sections.extend([
        section(".linux", b"kernel"),
        section(".linux", b"a second kernel, which stubs ignore"),
        section(".initrd", b"of all profiles"),
        section(".dtbauto", b"first"),
        section(".dtbauto", b"second"),
        section(".profile", b"ID=main"),
        section(".initrd", b"of the main profile"),
        section(".profile", b"ID=other"),
        section(".initrd", b"of another profile"),
        section(".dtbauto", b"third"),
    ]);
    let bytes = uki.write();
    let image = image(&from_uki(&uki).unwrap(), &[(SourceFile::Uki, &bytes)], "");
    check_image(&image, 0x1000, 0x200);
    assert_eq!(names(&image)[5..], [".linux", ".dtbauto", ".dtbauto", ".initrd", ".cmdline"]);
    assert_eq!(contents(&image, ".linux"), b"kernel");
    assert_eq!(contents(&image, ".initrd"), b"of the main profile");
}

#[test]
fn neighbouring_ranges_of_a_file_are_one_piece() {
    let mut uki = stub();
    // Without padding between them.
    uki.sections.extend([section(".linux", &[1; 1024]), section(".initrd", &[2; 2048])]);
    let template = from_uki(&uki).unwrap();
    let (start, end) = (number(&uki.write(), 0x40 + 24 + 60), uki.write().len());
    let files: Vec<_> = template.pieces().iter().filter(|piece| matches!(piece, Piece::File { .. })).collect();
    assert_eq!(files, [&Piece::File { file: SourceFile::Uki, range: start as u64..end as u64 }]);
}

#[test]
fn file_that_is_no_stub_is_refused_with_the_reason() {
    let reason = |change: fn(&mut PeFile)| {
        let mut file = stub();
        change(&mut file);
        from_stub(&file, &[1], &[2]).unwrap_err().to_string()
    };
    let not_systemds = "it is not systemd's EFI stub for kernels (linuxx64.efi.stub, linuxaa64.efi.stub; Debian's package \
                        systemd-boot-efi)";
    assert_eq!(
        reason(|file| file.sections[3].contents = b"#### LoaderInfo: systemd-boot 257 ####".into()),
        not_systemds
    );
    assert_eq!(
        reason(|file| file.sections[3].contents = b"#### LoaderInfo: systemd-addon 257 ####".into()),
        not_systemds
    );
    assert_eq!(reason(|file| file.subsystem = 3), "it is not an EFI application: its subsystem is 3");
    assert_eq!(
        reason(|file| file.sections.push(section(".linux", b"x"))),
        "it is a unified kernel image and not a stub: it contains a kernel"
    );
    assert_eq!(
        reason(|file| file.file_alignment = 0x2000),
        "its sections are aligned to 4096 bytes in memory and 8192 in the file: both have to be powers of two, and that in \
         the file 512 to 4096"
    );
    let wrong = Template::from_stub(&stub().write(), 1, 1, PeMachine::ARM64).unwrap_err();
    assert_eq!(wrong.to_string(), "it is for amd64, and the machine is arm64");
    let bytes = stub().write();
    let cut_off = Template::from_stub(&bytes[..bytes.len() - 0x300], 1, 1, AMD64).unwrap_err();
    assert_eq!(cut_off.to_string(), "its section .sdmagic ends at byte 8192, and the file has 7936: it was cut off");
    let cut_off = Template::from_stub(&bytes[..300], 1, 1, AMD64).unwrap_err();
    assert_eq!(cut_off.to_string(), "it ends within its header: it was cut off");
    assert_eq!(Template::from_stub(b"", 1, 1, AMD64), Err(UkiError::Pe(PeError::NotPe)));
    assert_eq!(Template::from_stub(b"<html>", 1, 1, AMD64), Err(UkiError::Pe(PeError::NotPe)));
    assert_eq!(from_stub(&stub(), b"", b"x"), Err(UkiError::Empty(".linux")));
    assert_eq!(from_stub(&stub(), b"x", b""), Err(UkiError::Empty(".initrd")));
}

#[test]
fn file_that_is_no_unified_kernel_image_is_refused_with_the_reason() {
    assert_eq!(from_uki(&stub()), Err(UkiError::NoSection(".linux")));
    let mut uki = stub();
    uki.sections.push(section(".linux", b"kernel"));
    assert_eq!(from_uki(&uki), Err(UkiError::NoSection(".initrd")));
    uki.sections.push(section(".initrd", b""));
    assert_eq!(from_uki(&uki), Err(UkiError::Empty(".initrd")));
    // Its relocations are behind the kernel.
    let mut uki = talos_uki(b"kernel", b"initramfs");
    let relocations = uki.sections.remove(4);
    uki.sections.push(relocations);
    assert_eq!(from_uki(&uki), Err(UkiError::Entangled(".reloc".to_owned())));
    let uki = talos_uki(&[1; 1000], &[2; 5000]).write();
    let cut_off = Template::from_uki(&uki[..4096], 20_000, AMD64).unwrap_err();
    assert!(matches!(cut_off, UkiError::CutOff { length: 20_000, .. }), "{cut_off}");
}

#[test]
fn kernel_is_an_efi_application_for_the_machine() {
    assert_eq!(check_kernel(&stub().write(), AMD64), Ok(()));
    assert!(matches!(check_kernel(&stub().write(), PeMachine::ARM64), Err(UkiError::WrongMachine { .. })));
    assert_eq!(check_kernel(b"\x1f\x8b\x08", PeMachine::ARM64), Err(UkiError::Pe(PeError::NotPe)));
}

#[test]
fn image_of_4_gib_is_refused() {
    let sizes = [(u64::from(u32::MAX), 1), (1, u64::from(u32::MAX)), (u64::MAX / 2, u64::MAX / 2), (3 << 30, 3 << 30)];
    for (kernel, initramfs) in sizes {
        let refused = Template::from_stub(&stub().write(), kernel, initramfs, AMD64);
        assert!(matches!(refused, Err(UkiError::TooLong(_))), "{refused:?}");
    }
    let long = Template::from_stub(&stub().write(), 1 << 20, (4 << 30) - (2 << 20), AMD64).unwrap();
    assert!(matches!(long.with_certificate(2 << 20), Err(UkiError::TooLong(_))));
}

#[test]
fn file_that_changed_its_length_has_no_hash() {
    let template = from_stub(&stub(), &[1; 10], &[2; 10]).unwrap();
    let mut hasher = Hasher::new(&template);
    hasher.update(&[0; 100]);
    let expected = template.shared_length();
    assert_eq!(hasher.finish().err(), Some(Changed { read: 100, expected }));
}

fn any_section() -> impl Strategy<Value = PeSection> {
    let name = prop::sample::select(vec![".text", ".data", ".rodata", ".sbat", ".long.name"[..8].into()]);
    let contents = prop_oneof![1 => Just(Vec::new()), 4 => prop::collection::vec(any::<u8>(), 1..2000)];
    (name, contents, any::<bool>()).prop_map(|(name, contents, is_code)| PeSection {
        name,
        contents,
        characteristics: if is_code { 0x6000_0020 } else { 0x4000_0040 },
    })
}

prop_compose! {
    fn any_stub()(
        sections in prop::collection::vec(any_section(), 0..8),
        section_shift in 9..14_u32,
        file_shift in 9..13_u32,
        pe_offset in 64..300_usize,
        // systemd's stub 252 for ARM64 has 6.
        directories in 6..17_usize,
        symbols in prop::collection::vec(any::<u8>(), 0..100),
    ) -> PeFile {
        let mut file = stub();
        file.section_alignment = 1 << section_shift;
        file.file_alignment = 1 << file_shift.min(section_shift);
        file.first_address = 0x4000;
        file.pe_offset = pe_offset & !7;
        file.directories = directories;
        file.symbols = symbols;
        file.sections.extend(sections);
        file
    }
}

proptest! {
    #[test]
    fn any_stub_kernel_and_initramfs_make_a_sound_image(
        stub in any_stub(),
        kernel in prop::collection::vec(any::<u8>(), 1..5000),
        initramfs in prop::collection::vec(any::<u8>(), 1..5000),
        certificate in 0..200_u32,
        parts in prop::collection::vec(1..3000_usize, 1..10),
    ) {
        let template = from_stub(&stub, &kernel, &initramfs).unwrap().with_certificate(certificate * 8).unwrap();
        let files: [(SourceFile, &[u8]); 2] = [(SourceFile::Kernel, &kernel), (SourceFile::Initramfs, &initramfs)];
        let image = image(&template, &files, "a line");
        check_image(&image, stub.section_alignment as usize, stub.file_alignment as usize);
        prop_assert_eq!(contents(&image, ".linux"), kernel);
        prop_assert_eq!(contents(&image, ".initrd"), initramfs);

        let mut hasher = Hasher::new(&template);
        let mut rest = &image[..template.shared_length() as usize];
        for length in parts.into_iter().cycle() {
            let (part, behind) = rest.split_at(length.min(rest.len()));
            hasher.update(part);
            rest = behind;
            if rest.is_empty() {
                break;
            }
        }
        let hash = hasher.finish().unwrap().digest(&encode("a line").unwrap());
        prop_assert_eq!(hash.to_vec(), authenticode(&image));
    }

    #[test]
    fn any_change_of_an_image_is_survived(
        at in prop::collection::vec((0..600_usize, any::<u8>()), 1..6),
        length in 0..20_000_u64,
    ) {
        let mut uki = talos_uki(&[1; 1000], &[2; 3000]).write();
        for (at, byte) in at {
            uki[at] = byte;
        }
        for length in [length, uki.len() as u64] {
            let head = &uki[..usize::try_from(length).unwrap().min(uki.len())];
            for template in [Template::from_uki(head, length, AMD64), Template::from_stub(head, 5, 5, AMD64)] {
                let Ok(template) = template else { continue };
                let shared: u64 = template.pieces().iter().map(Piece::len).sum();
                prop_assert_eq!(shared, template.shared_length());
                for piece in template.pieces() {
                    if let Piece::File { file: SourceFile::Uki, range } = piece {
                        prop_assert!(range.start < range.end && range.end <= length);
                    }
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
        let bytes = [b"MZ", &bytes[..]].concat();
        let _ = (Header::read(&bytes), Template::from_uki(&bytes, 500, AMD64));
    }
}
