//! Reads the files of a data directory into a catalog, or reports every mistake with its place.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    hash::BuildHasher as _,
    path::{Component, Path},
    sync::Arc,
};

use pxe_common::MacAddr;
use serde_json::{Map, Value, value::RawValue};

use super::{
    super::{
        faults::{FaultId, Faults},
        files,
        finding::{ErrorIndex, Finding, Note, Notes, Position},
    },
    catalog::{Catalog, Group, LoadedCatalog, NetBoot, Profile, selector_text},
    json::{self, Object, Reader, child},
    template::Template,
};
use crate::model::inventory::AddressHashBuilder;

/// The subdirectories that make up the catalog.
pub(super) const SUBDIRECTORIES: [&str; 5] = ["groups", "profiles", "ignition", "generic", "cloud"];

/// The longest configuration that is served, in bytes.
const MAX_CONFIG_BYTES: usize = 4 << 20;

/// The reach of an error of a directory.
const GROUP: &str = "group";

/// Collects the mistakes, and the content of all files.
#[derive(Default)]
struct Findings {
    faults: Faults,
    warnings: Vec<Finding>,
    /// A hash of the content so far.
    content: u64,
}

impl Findings {
    /// Takes the findings of one file. Returns the number of its first error.
    fn take(&mut self, file: &Arc<Path>, notes: Notes) -> FaultId {
        let finding = |Note { at, field, message }| {
            let Position { line, column } = at;
            Finding { file: Arc::clone(file), line, column, field, message }
        };
        let first = self.faults.next();
        let Notes { errors, warnings, .. } = notes;
        errors.into_iter().map(finding).for_each(|error| _ = self.faults.add(error));
        self.warnings.extend(warnings.into_iter().map(finding));
        first
    }

    /// Reads a file.
    fn text(&mut self, file: &Arc<Path>) -> Result<String, Finding> {
        let text = files::read(file);
        self.add_content(file, text.as_ref().map_or_else(|finding| finding.message.as_str(), String::as_str));
        text
    }

    fn add_content(&mut self, file: &Path, text: &str) {
        self.content = AddressHashBuilder::default().hash_one((self.content, file, text));
    }
}

/// A profile, and its error.
struct Found {
    profile: Arc<Profile>,
    /// The first error, and `true` if the last good version has taken its place.
    fault: Option<(FaultId, bool)>,
}

pub(super) fn directory(directory: &Path, in_force: &Catalog) -> LoadedCatalog {
    let mut findings = Findings::default();
    let profiles = profiles(directory, in_force, &mut findings);
    let groups = groups(directory, in_force, &profiles, &mut findings);
    let Findings { faults, mut warnings, content } = findings;
    if groups.is_empty() && faults.is_empty() {
        warnings.push(Finding::about_file(directory, "has no group: no machine is answered".to_owned()));
    }
    let profiles = profiles.into_values().map(|found| found.profile).collect();
    let catalog = Catalog::new(groups, profiles);
    LoadedCatalog { catalog, faults: faults.finish(GROUP), warnings, fingerprint: content }
}

/// The text of a file, or the error that keeps it from being read.
type Text = (String, Arc<Path>, Result<String, FaultId>);

/// Returns the texts of `<directory>/<name>/*.json`, sorted by name, each with its name without the extension. Other files and
/// subdirectories are ignored, as by Matchbox.
///
/// # Errors
///
/// The directory cannot be listed.
fn texts(directory: &Path, name: &str, findings: &mut Findings) -> Result<Vec<Text>, FaultId> {
    let directory = directory.join(name);
    let files = files::list(&directory, |file| file.extension() == Some(OsStr::new("json"))).map_err(|error| {
        let message = format!("cannot be listed: {error}; is this a data directory of Matchbox?");
        findings.add_content(&directory, &message);
        findings.faults.add(Finding::about_file(&directory, message))
    })?;
    let mut texts = Vec::new();
    for file in files {
        let id = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let file: Arc<Path> = Arc::from(file);
        let text = findings.text(&file).map_err(|finding| findings.faults.add(finding));
        texts.push((id, file, text));
    }
    Ok(texts)
}

/// Returns every profile by its id. One with a mistake is there in its last good version, or without content.
fn profiles(directory: &Path, in_force: &Catalog, findings: &mut Findings) -> BTreeMap<String, Found> {
    let last_good: BTreeMap<_, _> = in_force.profiles().iter().map(|profile| (profile.id.as_str(), profile)).collect();
    let texts = match texts(directory, "profiles", findings) {
        Ok(texts) => texts,
        Err(fault) => {
            let all = last_good.into_iter();
            let keep = |(id, profile): (&str, &Arc<Profile>)| {
                (id.to_owned(), Found { profile: Arc::clone(profile), fault: Some((fault, true)) })
            };
            return all.map(keep).collect();
        }
    };
    let mut profiles = BTreeMap::new();
    for (id, file, text) in texts {
        let last_good = last_good.get(id.as_str()).copied();
        let replaced = |fault| {
            let profile = last_good.map_or_else(|| Arc::new(empty(id.clone())), Arc::clone);
            Found { profile, fault: Some((fault, last_good.is_some())) }
        };
        let found = match text {
            Err(fault) => replaced(fault),
            Ok(text) => {
                let mut reader = Reader::new(&text);
                let mut configs = Configs { directory, last_good, findings, first: None, has_kept: false };
                let profile = reader
                    .root()
                    .and_then(|(root, object)| profile(id.clone(), root, &object, &mut reader, &mut configs));
                let Configs { first, has_kept, .. } = configs;
                let is_broken = reader.notes.first().is_some();
                let errors_from = findings.take(&file, reader.notes);
                match profile.filter(|_| !is_broken) {
                    None => replaced(errors_from),
                    Some(profile) => {
                        let fault = first.map(|first| match first {
                            ConfigError::OfProfile(index) => errors_from.after(index.get()),
                            ConfigError::OfFile(fault) => fault,
                        });
                        Found { profile: Arc::new(profile), fault: fault.map(|fault| (fault, has_kept)) }
                    }
                }
            }
        };
        profiles.insert(id, found);
    }
    profiles
}

/// Reads the configurations of a profile. An error of one of them affects that one only.
struct Configs<'f> {
    directory: &'f Path,
    last_good: Option<&'f Arc<Profile>>,
    findings: &'f mut Findings,
    first: Option<ConfigError>,
    /// A configuration is there in its last good version.
    has_kept: bool,
}

/// The place of an error in a configuration.
enum ConfigError {
    /// In the profile that names it.
    OfProfile(ErrorIndex),
    /// In its own file.
    OfFile(FaultId),
}

impl Configs<'_> {
    /// Returns a configuration, or its last good version.
    fn read<'t, T>(
        &mut self,
        name: &str,
        object: &Object<'t>,
        reader: &mut Reader<'t>,
        parse: impl FnOnce(&Arc<Path>, String) -> Result<T, Refused>,
        of_last_good: fn(&Profile) -> Option<T>,
    ) -> Option<T> {
        let Self { directory, last_good, findings, first, has_kept } = self;
        let outer = reader.notes.begin();
        let mut in_file = None;
        let value = config(directory, name, object, reader, findings);
        let value = value.and_then(|(value, file, text)| match parse(&file, text) {
            Ok(config) => Some(config),
            Err(Refused::Kind(message)) => {
                reader.error(value, &format!("{name}_id"), message);
                None
            }
            Err(Refused::Text(Position { line, column }, message)) => {
                in_file = Some(findings.faults.add(Finding { file, line, column, field: String::new(), message }));
                None
            }
        });
        let noted = reader.notes.end(outer);
        let Some(error) = noted.map(ConfigError::OfProfile).or(in_file.map(ConfigError::OfFile)) else { return value };
        first.get_or_insert(error);
        let kept = last_good.and_then(|profile| of_last_good(profile));
        *has_kept |= kept.is_some();
        kept
    }
}

fn profile<'t>(
    id: String,
    root: &'t RawValue,
    object: &Object<'t>,
    reader: &mut Reader<'t>,
    configs: &mut Configs<'_>,
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
    let template = |_: &Arc<Path>, text: String| match Template::parse(&text) {
        Ok(template) => Ok(Arc::new(template)),
        Err((at, message)) => Err(Refused::Text(at, message)),
    };
    let ignition = configs.read("ignition", object, reader, ignition, |profile| profile.ignition.clone());
    let generic = configs.read("generic", object, reader, template, |profile| profile.generic.clone());
    let cloud = configs.read("cloud", object, reader, template, |profile| profile.cloud.clone());
    Some(Profile { id, boot, ignition, generic, cloud })
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
    findings: &mut Findings,
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
    match findings.text(&file) {
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

/// The refusal of a configuration.
enum Refused {
    /// A file of this kind is not supported.
    Kind(String),
    /// Its text has an error.
    Text(Position, String),
}

fn ignition(file: &Arc<Path>, text: String) -> Result<Arc<str>, Refused> {
    let extension = file.extension().and_then(OsStr::to_str);
    if !matches!(extension, Some("ign" | "ignition")) {
        return Err(Refused::Kind(format!(
            "{} is not *.ign or *.ignition, so it is taken for Butane, which pxed does not translate: run `butane` on it, and \
             name its output",
            file.display()
        )));
    }
    let parsed: Result<serde::de::IgnoredAny, _> = serde_json::from_str(&text);
    match parsed {
        Ok(_) => Ok(Arc::from(text)),
        Err(error) => {
            let number = |count: usize| u32::try_from(count.max(1)).unwrap_or(u32::MAX);
            let at = Position { line: number(error.line()), column: number(error.column()) };
            Err(Refused::Text(at, format!("not JSON: {}", json::without_place(&error))))
        }
    }
}

/// Returns the groups. One with a mistake is there in its last good version, or not at all.
fn groups(
    directory: &Path,
    in_force: &Catalog,
    profiles: &BTreeMap<String, Found>,
    findings: &mut Findings,
) -> Vec<Arc<Group>> {
    let texts = match texts(directory, "groups", findings) {
        Ok(texts) => texts,
        Err(fault) => {
            in_force.groups().iter().for_each(|group| findings.faults.affect(fault, group.mac(), true));
            return in_force.groups().to_vec();
        }
    };
    let last_good: BTreeMap<_, _> = in_force.groups().iter().map(|group| (group.id.as_str(), group)).collect();
    let mut groups = Vec::new();
    let mut seen: BTreeMap<String, Arc<Path>> = BTreeMap::new();
    for (id, file, text) in texts {
        let read = text.map(|text| {
            let mut reader = Reader::new(&text);
            let mut found = None;
            if let Some((root, object)) = reader.root() {
                let group = group(id.clone(), root, &object, profiles, &mut reader);
                found = group.filter(|_| reader.notes.first().is_none());
                if let Some((group, _)) = &found {
                    warn_of_equal_selectors(group, &file, root, &object, &mut reader, &mut seen);
                }
            }
            (found, reader.notes)
        });
        let (found, own) = match read {
            Ok((found, notes)) => (found, findings.take(&file, notes)),
            Err(fault) => (None, fault),
        };
        let kept = last_good.get(id.as_str()).copied();
        let faults = &mut findings.faults;
        match (found, kept) {
            (Some((group, None)), _) => groups.push(Arc::new(group)),
            (Some((group, Some(ProfileFault::Known(fault, is_kept)))), _) => {
                faults.affect(fault, group.mac(), is_kept);
                groups.push(Arc::new(group));
            }
            (None | Some((_, Some(ProfileFault::Missing))), Some(kept)) => {
                faults.affect(own, kept.mac(), true);
                groups.push(Arc::clone(kept));
            }
            (Some((group, Some(ProfileFault::Missing))), None) => {
                faults.affect(own, group.mac(), false);
                groups.push(Arc::new(group));
            }
            (None, None) => faults.affect(own, None, false),
        }
    }
    groups
}

fn warn_of_equal_selectors<'t>(
    group: &Group,
    file: &Arc<Path>,
    root: &'t RawValue,
    object: &Object<'t>,
    reader: &mut Reader<'t>,
    seen: &mut BTreeMap<String, Arc<Path>>,
) {
    let selector = selector_text(&group.selector);
    let Some(first) = seen.get(&selector) else {
        seen.insert(selector, Arc::clone(file));
        return;
    };
    let what = if selector.is_empty() { "selects every machine" } else { "selects the same machines" };
    let at = child(object, "selector").map_or_else(|| reader.at(root), |value| reader.at(value));
    reader.notes.warn(at, "selector".to_owned(), format!("{what} as {}, which comes first", first.display()));
}

fn group<'t>(
    id: String,
    root: &'t RawValue,
    object: &Object<'t>,
    profiles: &BTreeMap<String, Found>,
    reader: &mut Reader<'t>,
) -> Option<(Group, Option<ProfileFault>)> {
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
    let (profile, fault) = match profiles.get(&name) {
        Some(Found { profile, fault }) => {
            (Arc::clone(profile), fault.map(|(fault, is_kept)| ProfileFault::Known(fault, is_kept)))
        }
        None => {
            // It does not keep the group from being selected: its machines must not get another group's profile.
            let outer = reader.notes.begin();
            let known = list_some(profiles.keys());
            reader.error(value, "profile", format!("there is no profiles/{name}.json{known}"));
            let _ = reader.notes.end(outer);
            (Arc::new(empty(name)), Some(ProfileFault::Missing))
        }
    };
    Some((Group { id, selector, metadata, profile }, fault))
}

/// The error of a group's profile.
enum ProfileFault {
    /// It has this error. Set if there is a last good version.
    Known(FaultId, bool),
    /// There is none.
    Missing,
}

/// Returns a profile that answers nothing.
fn empty(id: String) -> Profile {
    Profile { id, boot: None, ignition: None, generic: None, cloud: None }
}

/// Returns the first few names for the end of a sentence, with the number of the others; nothing if there are none.
fn list_some<'n>(names: impl ExactSizeIterator<Item = &'n String>) -> String {
    const SOME: usize = 10;
    let more = names.len().saturating_sub(SOME);
    let some: Vec<_> = names.take(SOME).map(String::as_str).collect();
    match (some.is_empty(), more) {
        (true, _) => String::new(),
        (false, 0) => format!(", only {}", some.join(", ")),
        (false, more) => format!(", only {} and {more} more", some.join(", ")),
    }
}
