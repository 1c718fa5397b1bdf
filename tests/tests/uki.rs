//! Unified kernel images of systemd's real stubs, as programs that share no code with pxed read and verify them.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use pxe_lab::{
    assets::{Architecture, Edition},
    namespace::output,
    requires,
    signing::SigningKey as LabKey,
    suite, uki as lab,
};
use pxe_userspace::uki::{
    command_line,
    digest::Hasher,
    key::SigningKey,
    layout::Template,
    pe::{HEAD_LENGTH, PeMachine},
    pieces::{Piece, SourceFile},
};
use tempfile::TempDir;

/// Not multiples of any alignment.
const KERNEL_LENGTH: usize = 1_234_567;
const INITRAMFS_LENGTH: usize = 3_000_001;

const LINE: &str = "talos.platform=metal console=ttyS0 note=\"${uuid} & %20  ü\"";

/// The stubs of both releases. There is no ARM64 package in an installed x86-64 system.
const STUBS: [(&str, Edition, Architecture); 3] = [
    ("252_amd64", Edition::Installed, Architecture::Amd64),
    ("257_amd64", Edition::Newer, Architecture::Amd64),
    ("257_arm64", Edition::Newer, Architecture::Arm64),
];

fn main() -> ExitCode {
    let mut tests: Vec<Trial> = Vec::new();
    for (name, edition, architecture) in STUBS {
        let verify = move || signature_is_verified(edition, architecture);
        tests.push(suite::test(&format!("signature_of_an_image_is_verified_{name}"), verify));
    }
    for (name, edition, _) in &STUBS[..2] {
        let read = || sections_are_read(*edition);
        tests.push(suite::test(&format!("sections_of_an_image_are_read_{name}"), read));
    }
    tests.push(suite::test("factory_image_that_was_taken_apart_is_verified", factory_image_is_verified));
    suite::main(tests)
}

/// Returns bytes of this length that do not repeat soon.
fn content(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn machine(architecture: Architecture) -> PeMachine {
    match architecture {
        Architecture::Amd64 => PeMachine::AMD64,
        Architecture::Arm64 => PeMachine::ARM64,
    }
}

/// An image, put together of its pieces.
struct Image {
    template: Template,
    key: SigningKey,
    shared: Vec<u8>,
}

impl Image {
    fn new(template: Template, lab_key: &LabKey, files: &BTreeMap<&str, Vec<u8>>) -> anyhow::Result<Self> {
        let key = SigningKey::from_pem(&fs::read(lab_key.key())?, &fs::read(lab_key.certificate())?)?;
        let template = template.with_certificate(key.certificate_length())?;
        let mut shared = Vec::new();
        for piece in template.pieces() {
            match piece {
                Piece::Bytes(bytes) => shared.extend_from_slice(bytes),
                Piece::File { file, range } => {
                    let name = match file {
                        SourceFile::Kernel => "kernel",
                        SourceFile::Initramfs => "initramfs",
                        SourceFile::Uki => "uki",
                    };
                    let (start, end) = (usize::try_from(range.start)?, usize::try_from(range.end)?);
                    shared.extend_from_slice(files.get(name).and_then(|file| file.get(start..end)).context(name)?);
                }
            }
        }
        Ok(Self { template, key, shared })
    }

    /// Returns the signed image for a command line.
    fn signed(&self, line: &str) -> anyhow::Result<Vec<u8>> {
        let Self { template, key, shared } = self;
        let mut hasher = Hasher::new(template);
        shared.chunks(65_536).for_each(|part| hasher.update(part));
        let section = command_line::encode(line)?;
        let signature = key.sign(&hasher.finish()?.digest(&section))?;
        let image = [shared, &section[..], &signature].concat();
        ensure!(image.len() as u64 == template.length());
        Ok(image)
    }
}

fn from_stub(edition: Edition, architecture: Architecture, key: &LabKey) -> anyhow::Result<Image> {
    let files = BTreeMap::from([("kernel", content(KERNEL_LENGTH, 1)), ("initramfs", content(INITRAMFS_LENGTH, 2))]);
    let stub = fs::read(lab::stub(edition, architecture)?)?;
    let (kernel, initramfs) = (KERNEL_LENGTH as u64, INITRAMFS_LENGTH as u64);
    Image::new(Template::from_stub(&stub, kernel, initramfs, machine(architecture))?, key, &files)
}

/// sbverify accepts images of two machines, and refuses one byte that was altered anywhere.
fn signature_is_verified(edition: Edition, architecture: Architecture) -> anyhow::Result<()> {
    requires::tools(&["openssl", "sbverify"])?;
    let key = LabKey::generate("pxed test")?;
    verify_and_alter(&from_stub(edition, architecture, &key)?, &key)
}

fn verify_and_alter(image: &Image, key: &LabKey) -> anyhow::Result<()> {
    let directory = TempDir::new()?;
    let path = directory.path().join("image.efi");
    let verify = |image: &[u8]| -> anyhow::Result<()> {
        fs::write(&path, image)?;
        key.verify(&path)
    };
    verify(&image.signed("hostname=one")?).context("the first machine's image")?;
    let signed = image.signed(LINE)?;
    verify(&signed).context("the second machine's image")?;
    let shared = image.shared.len();
    // The code of the stub, the kernel, padding, the command line, its padding.
    for at in [0x2000, shared / 2, shared - 1, shared, shared + 4095] {
        let mut altered = signed.clone();
        altered[at] ^= 1;
        ensure!(verify(&altered).is_err(), "byte {at} of {} is not covered by the signature", signed.len());
    }
    let foreign = LabKey::generate("another")?;
    fs::write(&path, &signed)?;
    ensure!(foreign.verify(&path).is_err(), "sbverify accepts any key");
    Ok(())
}

/// objcopy finds the sections, and in them what was put there.
fn sections_are_read(edition: Edition) -> anyhow::Result<()> {
    requires::tools(&["openssl", "objcopy"])?;
    let key = LabKey::generate("pxed test")?;
    let image = from_stub(edition, Architecture::Amd64, &key)?.signed(LINE)?;
    let directory = TempDir::new()?;
    let path = directory.path().join("image.efi");
    fs::write(&path, &image)?;
    let stub = lab::stub(edition, Architecture::Amd64)?;
    // shim starts nothing without `.sbat`.
    for name in [".text", ".sbat", ".sdmagic"] {
        ensure!(section(&path, name)? == section(&stub, name)?, "{name} is not that of the stub");
    }
    ensure!(section(&path, ".linux")? == content(KERNEL_LENGTH, 1), "the kernel");
    ensure!(section(&path, ".initrd")? == content(INITRAMFS_LENGTH, 2), "the initramfs");
    ensure!(section(&path, ".cmdline")? == command_line::encode(LINE)?, "the command line");
    ensure!(section(&path, ".osrel")?.is_empty(), "with this section, the stub copies the initramfs once more");
    Ok(())
}

/// Returns the contents of a section, without what follows its length in memory.
fn section(image: &Path, name: &str) -> anyhow::Result<Vec<u8>> {
    let directory = TempDir::new()?;
    let path = directory.path().join("section");
    let only = format!("--only-section={name}");
    output(Command::new("objcopy").args(["--output-target=binary", &only]).arg(image).arg(&path))?;
    Ok(fs::read(&path).unwrap_or_default())
}

/// An image like the Image Factory's, signed by another key, is taken apart, rebuilt and signed.
fn factory_image_is_verified() -> anyhow::Result<()> {
    requires::tools(&["openssl", "objcopy", "sbsign", "sbverify"])?;
    let (factory, key) = (LabKey::generate("Factory")?, LabKey::generate("pxed test")?);
    let directory = TempDir::new()?;
    let uki = factory.sign(&lab::like_the_factorys(Architecture::Amd64, "talos.platform=metal")?)?;
    let original = directory.path().join("factory.efi");
    fs::write(&original, &uki)?;
    factory.verify(&original)?;
    let head = &uki[..HEAD_LENGTH.min(uki.len())];
    let template = Template::from_uki(head, uki.len() as u64, PeMachine::AMD64)?;
    let image = Image::new(template, &key, &BTreeMap::from([("uki", uki)]))?;
    verify_and_alter(&image, &key)?;
    let path = directory.path().join("image.efi");
    fs::write(&path, image.signed(LINE)?)?;
    for name in [".text", ".sbat", ".uname", ".splash", ".linux", ".initrd"] {
        let kept = section(&path, name)?;
        ensure!(!kept.is_empty() && kept == section(&original, name)?, "{name} is not that of the Factory's image");
    }
    ensure!(section(&path, ".cmdline")? == command_line::encode(LINE)?, "the command line");
    for name in [".osrel", ".profile", ".pcrsig"] {
        ensure!(section(&path, name)?.is_empty(), "{name} is still there");
    }
    Ok(())
}
