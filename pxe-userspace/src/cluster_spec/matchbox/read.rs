//! Reads the files of a data directory into a catalog, or reports every mistake with its place.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    path::{Component, Path},
    sync::Arc,
};

use pxe_common::MacAddr;
use serde_json::{Map, Value, value::RawValue};

use super::{
    super::{
        files,
        finding::{Finding, Note, Notes, Position, SpecErrors},
    },
    catalog::{Catalog, Group, LoadedCatalog, NetBoot, Profile, selector_text},
    json::{self, Object, Reader, child},
    template::Template,
};

/// The subdirectories that make up the catalog.
pub(super) const SUBDIRECTORIES: [&str; 5] = ["groups", "profiles", "ignition", "generic", "cloud"];

/// The longest configuration that is served, in bytes.
const MAX_CONFIG_BYTES: usize = 4 << 20;

/// Collects the mistakes.
#[derive(Debug, Default)]
struct Findings {
    errors: Vec<Finding>,
    warnings: Vec<Finding>,
}

impl Findings {
    fn take(&mut self, file: &Arc<Path>, notes: Notes) {
        let finding = |Note { at, field, message }| {
            let Position { line, column } = at;
            Finding { file: Arc::clone(file), line, column, field, message }
        };
        let Notes { errors, warnings } = notes;
        self.errors.extend(errors.into_iter().map(finding));
        self.warnings.extend(warnings.into_iter().map(finding));
    }
}

pub(super) fn directory(directory: &Path) -> Result<LoadedCatalog, SpecErrors> {
    let mut findings = Findings::default();
    let profiles = profiles(directory, &mut findings);
    let groups = groups(directory, &profiles, &mut findings);
    let Findings { mut errors, mut warnings } = findings;
    if errors.is_empty() {
        if groups.is_empty() {
            warnings.push(Finding::about_file(directory, "has no group: no machine is answered".to_owned()));
        }
        let profiles = profiles.into_values().flatten().collect();
        Ok(LoadedCatalog { catalog: Catalog::new(groups, profiles), warnings })
    } else {
        errors.sort();
        Err(SpecErrors { errors, warnings })
    }
}

/// Returns the texts of `<directory>/<name>/*.json`, sorted by name, each with its name without the extension. Other files and
/// subdirectories are ignored, as by Matchbox.
fn texts(directory: &Path, name: &str, findings: &mut Findings) -> Vec<(String, Arc<Path>, String)> {
    let directory = directory.join(name);
    let files = match files::list(&directory, |file| file.extension() == Some(OsStr::new("json"))) {
        Ok(files) => files,
        Err(error) => {
            let message = format!("cannot be listed: {error}; is this a data directory of Matchbox?");
            findings.errors.push(Finding::about_file(&directory, message));
            return Vec::new();
        }
    };
    let mut texts = Vec::new();
    for file in files {
        let id = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let file: Arc<Path> = Arc::from(file);
        match files::read(&file) {
            Ok(text) => texts.push((id, file, text)),
            Err(finding) => findings.errors.push(finding),
        }
    }
    texts
}

/// Returns every profile by its id; `None` for one with a mistake.
fn profiles(directory: &Path, findings: &mut Findings) -> BTreeMap<String, Option<Arc<Profile>>> {
    let mut profiles = BTreeMap::new();
    for (id, file, text) in texts(directory, "profiles", findings) {
        let mut reader = Reader::new(&text);
        let profile = reader
            .root()
            .and_then(|(root, object)| profile(directory, id.clone(), root, &object, &mut reader, findings));
        findings.take(&file, reader.notes);
        profiles.insert(id, profile.map(Arc::new));
    }
    profiles
}

fn profile<'t>(
    directory: &Path,
    id: String,
    root: &'t RawValue,
    object: &Object<'t>,
    reader: &mut Reader<'t>,
    findings: &mut Findings,
) -> Option<Profile> {
    reader.warn_of_unknown(object, "", &["id", "name", "cloud_id", "ignition_id", "generic_id", "boot"]);
    match child(object, "id") {
        Some(value) => {
            let written: Option<String> = reader.value(value, "id", "a string");
            if let Some(written) = written.filter(|written| *written != id) {
                let message =
                    format!("{written:?} differs from the name of the file, by which groups refer to it: {id:?}");
                reader.notes.warn(reader.at(value), "id".to_owned(), message);
            }
        }
        None => reader.error(root, "id", format!("is missing: write \"id\": {id:?}")),
    }
    let boot = child(object, "boot").and_then(|boot| net_boot(boot, reader));
    let ignition = config(directory, "ignition", object, reader);
    let ignition = ignition.and_then(|(value, file, text)| match check_ignition(&file, &text) {
        Ok(()) => Some(Arc::from(text)),
        Err(Refused::Kind(message)) => {
            reader.error(value, "ignition_id", message);
            None
        }
        Err(Refused::Text(finding)) => {
            findings.errors.push(finding);
            None
        }
    });
    let mut template = |name| {
        let (_, file, text) = config(directory, name, object, reader)?;
        match Template::parse(&text) {
            Ok(template) => Some(Arc::new(template)),
            Err((Position { line, column }, message)) => {
                findings.errors.push(Finding { file, line, column, field: String::new(), message });
                None
            }
        }
    };
    Some(Profile { generic: template("generic"), cloud: template("cloud"), id, boot, ignition })
}

fn net_boot<'t>(value: &'t RawValue, reader: &mut Reader<'t>) -> Option<NetBoot> {
    const TEXTS: &str = "a list of strings: write [\"…\", \"…\"]";
    let object = reader.object(value, "boot")?;
    reader.warn_of_unknown(&object, "boot.", &["kernel", "initrd", "args"]);
    let mut texts = |key: &str| -> Vec<String> {
        let value = child(&object, key);
        value.and_then(|value| reader.value(value, &format!("boot.{key}"), TEXTS)).unwrap_or_default()
    };
    let (initrd, args) = (texts("initrd"), texts("args"));
    let kernel = child(&object, "kernel").and_then(|kernel| reader.value(kernel, "boot.kernel", "a string"));
    let kernel: String = kernel.unwrap_or_default();
    if kernel.is_empty() {
        reader.notes.warn(reader.at(value), "boot.kernel".to_owned(), "is missing: nothing can boot from this profile");
    }
    Some(NetBoot { kernel, initrd, args })
}

/// Returns the file that a profile names by `<name>_id`, with the place of the name.
fn config<'t>(
    directory: &Path,
    name: &str,
    object: &Object<'t>,
    reader: &mut Reader<'t>,
) -> Option<(&'t RawValue, Arc<Path>, String)> {
    let field = format!("{name}_id");
    let value = child(object, &field)?;
    let id: String = reader.value(value, &field, "a string")?;
    if id.is_empty() {
        return None;
    }
    if !Path::new(&id).components().all(|component| matches!(component, Component::Normal(_))) {
        reader.error(value, &field, format!("{id:?} leads out of {name}/: name a file in it"));
        return None;
    }
    let file: Arc<Path> = Arc::from(directory.join(name).join(&id));
    match files::read(&file) {
        Ok(text) if text.len() <= MAX_CONFIG_BYTES => Some((value, file, text)),
        Ok(_) => {
            reader.error(value, &field, format!("{} is larger than {} MiB", file.display(), MAX_CONFIG_BYTES >> 20));
            None
        }
        Err(finding) => {
            reader.error(value, &field, finding.to_string());
            None
        }
    }
}

/// The refusal of an Ignition config.
enum Refused {
    Kind(String),
    Text(Finding),
}

fn check_ignition(file: &Arc<Path>, text: &str) -> Result<(), Refused> {
    let extension = file.extension().and_then(OsStr::to_str);
    if !matches!(extension, Some("ign" | "ignition")) {
        return Err(Refused::Kind(format!(
            "{} is not *.ign or *.ignition, so it is taken for Butane, which pxed does not translate: run `butane` on it, and \
             name its output",
            file.display()
        )));
    }
    let parsed: Result<serde::de::IgnoredAny, _> = serde_json::from_str(text);
    parsed.map(|_| ()).map_err(|error| {
        let number = |count: usize| u32::try_from(count.max(1)).unwrap_or(u32::MAX);
        let message = format!("not JSON: {}", json::without_place(&error));
        let (line, column) = (number(error.line()), number(error.column()));
        Refused::Text(Finding { file: Arc::clone(file), line, column, field: String::new(), message })
    })
}

fn groups(
    directory: &Path,
    profiles: &BTreeMap<String, Option<Arc<Profile>>>,
    findings: &mut Findings,
) -> Vec<Arc<Group>> {
    let mut groups = Vec::new();
    let mut seen: BTreeMap<String, Arc<Path>> = BTreeMap::new();
    for (id, file, text) in texts(directory, "groups", findings) {
        let mut reader = Reader::new(&text);
        if let Some((root, object)) = reader.root()
            && let Some(group) = group(id, root, &object, profiles, &mut reader)
        {
            let selector = selector_text(&group.selector);
            if let Some(first) = seen.get(&selector) {
                let what = if selector.is_empty() { "selects every machine" } else { "selects the same machines" };
                let at = child(&object, "selector").map_or_else(|| reader.at(root), |value| reader.at(value));
                let message = format!("{what} as {}, which comes first", first.display());
                reader.notes.warn(at, "selector".to_owned(), message);
            } else {
                seen.insert(selector, Arc::clone(&file));
            }
            groups.push(Arc::new(group));
        }
        findings.take(&file, reader.notes);
    }
    groups
}

fn group<'t>(
    id: String,
    root: &'t RawValue,
    object: &Object<'t>,
    profiles: &BTreeMap<String, Option<Arc<Profile>>>,
    reader: &mut Reader<'t>,
) -> Option<Group> {
    reader.warn_of_unknown(object, "", &["id", "name", "profile", "selector", "metadata"]);
    let selector = child(object, "selector").and_then(|selector| reader.object(selector, "selector"));
    let selector = selector.unwrap_or_default().into_iter().filter_map(|(key, value)| {
        let field = format!("selector.{key}");
        let text: String = reader.value(value, &field, "a string")?;
        if !key.eq_ignore_ascii_case("mac") {
            return Some((key, text));
        }
        match text.parse::<MacAddr>() {
            Ok(mac) => Some((key, mac.to_string())),
            Err(error) => {
                reader.error(value, &field, format!("{text:?} is {error}"));
                None
            }
        }
    });
    let selector = selector.collect();
    let metadata = child(object, "metadata");
    let metadata =
        metadata.and_then(|metadata| reader.value(metadata, "metadata", "an object: write {\"key\": value, …}"));
    let metadata: Map<String, Value> = metadata.unwrap_or_default();
    let Some(value) = child(object, "profile") else {
        reader.error(root, "profile", "is missing: name the profile that the machines boot");
        return None;
    };
    let name: String = reader.value(value, "profile", "a string")?;
    let profile = match profiles.get(&name) {
        // The mistake of a profile is reported by itself.
        Some(profile) => Arc::clone(profile.as_ref()?),
        None => {
            let known: Vec<_> = profiles.keys().take(10).map(String::as_str).collect();
            reader.error(value, "profile", format!("there is no profiles/{name}.json, only {}", known.join(", ")));
            return None;
        }
    };
    Some(Group { id, selector, metadata, profile })
}
