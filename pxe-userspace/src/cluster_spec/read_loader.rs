//! Reads the loaders that a spec names for a machine.

use std::sync::Arc;

use super::{
    field::Field,
    finding::Notes,
    misspelling::{nearest, proposal},
    tree::{Kind, push_key},
};
use crate::model::{
    artifact_names::OWN_DIRECTORY,
    loader::{BOOT_FROM_DISK, LOADER_FILE_LIMIT, LOADER_NAME_LIMIT, LoaderFile, OwnLoaders, file_name},
};

/// The word for the usual loader: iPXE as pxed serves it.
const USUAL: &str = "ipxe";
/// The word for iPXE without network drivers of its own.
const FIRMWARE_DRIVER: &str = "snponly";
/// The word for all classes of UEFI.
const UEFI: &str = "uefi";

/// Reads a `loader`: one word or file for all firmware, or one for each class. Returns `None` after a mistake.
pub(crate) fn own_loaders(field: &Field<'_>, notes: &mut Notes) -> Option<OwnLoaders> {
    let mut loaders = OwnLoaders::default();
    let Kind::Map(entries) = field.node.kind() else {
        let loader = word(field, notes)?;
        for class in LoaderFile::ALL.into_iter().map(Some).chain([None]) {
            let is_for = !matches!(&loader, Word::File(name) if !starts_on(name, class));
            loaders.set(class, loader.file(class).filter(|_| is_for));
        }
        return Some(loaders);
    };
    let mut is_valid = true;
    // A single class counts more than all of UEFI, in whatever order they are.
    let (of_uefi, of_class): (Vec<_>, Vec<_>) = entries.iter().partition(|entry| entry.key == UEFI);
    for entry in of_uefi.into_iter().chain(of_class) {
        let loader = word(&field.entry(entry), notes);
        let mut classes = LoaderFile::ALL.into_iter().filter(|&class| is_named(class, &entry.key)).peekable();
        if classes.peek().is_none() {
            let mut path = field.path();
            push_key(&mut path, &entry.key);
            notes.error(entry.key_at, path, unknown_class(&entry.key));
            is_valid = false;
        }
        is_valid &= loader.is_some();
        for class in classes {
            loaders.set(Some(class), loader.as_ref().and_then(|loader| loader.file(Some(class))));
        }
    }
    is_valid.then_some(loaders)
}

fn is_named(class: LoaderFile, name: &str) -> bool {
    class.class() == name || name == UEFI && class != LoaderFile::Undionly
}

fn unknown_class(name: &str) -> String {
    let classes = LoaderFile::ALL.map(LoaderFile::class);
    format!(
        "is not a class of firmware: {}known are {} and {UEFI}; UEFI HTTP boot gets the loader of its UEFI class",
        proposal(nearest(name, classes.into_iter().chain([UEFI]))),
        classes.join(", ")
    )
}

/// A loader as the spec words it.
enum Word {
    Usual,
    FirmwareDriver,
    File(Arc<str>),
}

impl Word {
    /// Returns the name of the file for a class of firmware; `None` if it is the usual one.
    fn file(&self, class: Option<LoaderFile>) -> Option<Arc<str>> {
        match self {
            Self::Usual => None,
            // The usual loader of a BIOS uses its driver anyway.
            Self::FirmwareDriver => {
                class.filter(|&class| class != LoaderFile::Undionly).map(|class| class.firmware_driver_build().into())
            }
            Self::File(name) => Some(Arc::clone(name)),
        }
    }
}

fn word(field: &Field<'_>, notes: &mut Notes) -> Option<Word> {
    match field.text(notes)?.trim() {
        USUAL => Some(Word::Usual),
        FIRMWARE_DRIVER => Some(Word::FirmwareDriver),
        text => match check_name(text) {
            Ok(()) => Some(Word::File(text.into())),
            Err(message) => {
                field.error(notes, message);
                None
            }
        },
    }
}

/// Returns whether firmware of a class may be able to start a file, as far as the end of its name tells.
fn starts_on(name: &str, class: Option<LoaderFile>) -> bool {
    let name = name.to_ascii_lowercase();
    let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| name.ends_with(suffix));
    if class == Some(LoaderFile::Undionly) {
        !ends(&[".efi"])
    } else {
        !ends(&[".kpxe", ".kkpxe", ".kkkpxe", ".pxe", ".0", ".lkrn"])
    }
}

/// Checks the name of a file in the artifacts directory.
fn check_name(name: &str) -> Result<(), String> {
    const ADVICE: &str =
        "write the path of a file below the artifacts directory, such as shim/shimx64.efi, or ipxe, or snponly";
    let length = name.len();
    // The name becomes part of a URL as it is, and iPXE and UEFI read URLs differently.
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-._~+@=,/".contains(letter);
    if name.is_empty() {
        return Err(format!("is empty: {ADVICE}"));
    }
    if length > LOADER_NAME_LIMIT {
        return Err(format!(
            "is {length} bytes long, and a DHCP message has room for {LOADER_NAME_LIMIT} beside the rest of its URL: give the file \
             a shorter path"
        ));
    }
    if file_name(name).len() > LOADER_FILE_LIMIT {
        return Err(format!(
            "ends in a file name of {} bytes, and a DHCP message has room for {LOADER_FILE_LIMIT} beside the rest of its URL: give the \
             file a shorter name",
            file_name(name).len()
        ));
    }
    if name.contains("://") {
        return Err(format!("is a URL, and loaders are served from the artifacts directory: {ADVICE}"));
    }
    if name.contains('\\') {
        return Err(format!("has a backslash: write {} instead", name.replace('\\', "/").trim_start_matches('/')));
    }
    if name.starts_with('/') {
        return Err(format!("is an absolute path: {ADVICE}"));
    }
    if let Some(letter) = name.chars().find(|&letter| !is_plain(letter)) {
        return Err(format!("has the character {letter:?}, which a URL cannot hold as it is: rename the file"));
    }
    if name.split('/').any(|part| part == "..") {
        return Err(format!("leaves the artifacts directory: {ADVICE}"));
    }
    if name.split('/').any(|part| matches!(part, "" | ".")) {
        return Err(format!("has an empty part: {ADVICE}"));
    }
    if name.split('/').next().is_some_and(|first| first.eq_ignore_ascii_case(OWN_DIRECTORY)) {
        return Err(format!("is in {OWN_DIRECTORY}, where pxed keeps its records, which are never served: {ADVICE}"));
    }
    if name == BOOT_FROM_DISK {
        return Err(format!("{BOOT_FROM_DISK} is never served: to send the machine to its disk, set boot-policy hold"));
    }
    if !name.contains(['.', '/'])
        && let Some(near) = nearest(name, [USUAL, FIRMWARE_DRIVER])
    {
        return Err(format!("is not a loader: did you mean {near}? Else {ADVICE}"));
    }
    Ok(())
}
