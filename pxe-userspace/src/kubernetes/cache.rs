//! The objects on disk, for a start while the API server is away.
//!
//! Only its owner may read it. One that is damaged is set aside, and the objects that can still be read of it are in force: the rest of the
//! fleet must not wait for the server.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use serde::{Deserialize, Serialize};

use super::{
    client::ApiServer,
    objects::{Objects, Observed},
};
use crate::{
    model::api_object::ApiObject,
    own_file::{self, Found, OwnFile},
};

const FILE: &str = "objects.json";
/// The most bytes that are read.
const FILE_LIMIT: u64 = 1 << 30;

/// The form of the file.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Saved<O> {
    version: u32,
    /// Objects of another server are another fleet.
    server: String,
    namespaces: Vec<String>,
    objects: Vec<O>,
}

/// The file with the objects.
#[derive(Clone, Debug)]
pub struct Cache {
    file: OwnFile,
}

/// The content of the file.
#[derive(Debug, PartialEq, Eq)]
pub enum Restored {
    /// The objects of the last run, this many.
    Objects(usize),
    /// This many of the objects of the last run, since the file is damaged; a sentence for people.
    Salvaged(usize, String),
    /// There is no file.
    Nothing,
    /// It cannot be used; a sentence for people.
    Unusable(String),
}

impl Cache {
    /// Keeps the file in the state directory.
    #[must_use]
    pub fn new(state: &Path) -> Self {
        Self { file: OwnFile::new(state, FILE, FILE_LIMIT) }
    }

    /// Puts the objects of the last run into the store.
    #[must_use]
    pub fn restore(&self, server: &ApiServer, objects: &Objects) -> Restored {
        let path = self.path();
        let set_aside = |reason: String| {
            let kept = own_file::kept(&self.file.set_aside(SystemTime::now()));
            format!("{}: {reason}: {kept}", path.display())
        };
        let Content { saved, damage } = match read(&self.file) {
            Ok(Some(content)) => content,
            Ok(None) => return Restored::Nothing,
            Err(reason) => return Restored::Unusable(set_aside(reason)),
        };
        let (url, namespaces) = (server.url(), server.watched_namespaces());
        if *saved.server != *url || saved.namespaces != namespaces {
            let other = match *saved.server == *url {
                true => "of other namespaces".to_owned(),
                false => format!("of {}", saved.server),
            };
            return Restored::Unusable(format!("{}: it has the objects {other}, and is not used", path.display()));
        }
        let count = saved.objects.len();
        for object in saved.objects {
            if let Err(full) = objects.insert(observed(object)) {
                return Restored::Unusable(format!("{}: {full}", path.display()));
            }
        }
        match damage {
            None => Restored::Objects(count),
            Some(damage) => {
                let told = format!("{damage}. It still has {count} objects, and the others wait for the API server");
                Restored::Salvaged(count, set_aside(told))
            }
        }
    }

    /// Saves the objects.
    ///
    /// # Errors
    ///
    /// If the directory cannot be written to.
    pub fn save(&self, server: &ApiServer, objects: &Objects) -> io::Result<()> {
        let observed = objects.all(None);
        let saved = Saved {
            version: VERSION,
            server: server.url().to_string(),
            namespaces: server.watched_namespaces().to_vec(),
            objects: observed.iter().map(|observed| &observed.object).collect(),
        };
        self.file.replace(|file| Ok(serde_json::to_writer(file, &saved)?))
    }

    /// Returns the path of the file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.file.path()
    }
}

/// The objects in the file, and the damage if it is damaged.
struct Content {
    saved: Saved<ApiObject>,
    damage: Option<String>,
}

/// Returns the content of the file, or `None` if there is none.
fn read(file: &OwnFile) -> Result<Option<Content>, String> {
    let text = match file.read().map_err(|error| error.to_string())? {
        Found::Nothing => return Ok(None),
        Found::Bytes(text, _) => text,
        Found::Damaged(damage) => return Err(damage),
    };
    let (saved, damage) = match serde_json::from_slice::<Saved<ApiObject>>(&text) {
        Ok(saved) => (saved, None),
        Err(error) => {
            let damage = format!("it is damaged: {error}");
            (salvage(&text).ok_or_else(|| damage.clone())?, Some(damage))
        }
    };
    if saved.version != VERSION {
        return Err(format!("it has version {}, and this pxed knows {VERSION}", saved.version));
    }
    Ok(Some(Content { saved, damage }))
}

/// Returns the objects of a damaged text that are whole by themselves. `None` if it does not say whose they are, or there are none.
fn salvage(text: &[u8]) -> Option<Saved<ApiObject>> {
    const OBJECTS: &[u8] = b",\"objects\":[";
    let at = text.windows(OBJECTS.len()).position(|bytes| bytes == OBJECTS)?;
    let (head, objects) = text.split_at_checked(at)?;
    let saved: Saved<ApiObject> = serde_json::from_slice(&[head, OBJECTS, b"]}"].concat()).ok()?;
    let objects: Vec<ApiObject> = own_file::whole_objects(objects).collect();
    (!objects.is_empty()).then_some(Saved { objects, ..saved })
}

/// Returns the object as it was seen, without its status.
fn observed(object: ApiObject) -> Observed {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Annotated {
        metadata: Metadata,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Metadata {
        annotations: Option<BTreeMap<String, String>>,
    }
    let annotated: Annotated = serde_json::from_str(&object.text).unwrap_or_default();
    let annotations = annotated.metadata.annotations.unwrap_or_default();
    Observed { object, annotations, conditions: Vec::new(), generation: None, is_being_deleted: false }
}

/// Saves the objects some time after each change, for ever. An error is told once.
pub async fn save_changes(cache: Cache, server: Arc<ApiServer>, objects: Arc<Objects>) {
    /// The time in which changes are collected.
    const COLLECT: std::time::Duration = std::time::Duration::from_secs(2);
    let mut changes = objects.changes();
    let mut saved = None;
    let mut is_failing = false;
    loop {
        let now = changes.borrow_and_update().spec;
        if saved != Some(now) && now > 0 {
            let (cache, server, objects) = (cache.clone(), Arc::clone(&server), Arc::clone(&objects));
            let path = cache.path();
            let result = tokio::task::spawn_blocking(move || cache.save(&server, &objects)).await;
            match result.map_err(io::Error::other).flatten() {
                Ok(()) => (saved, is_failing) = (Some(now), false),
                Err(error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::warn!(
                            "{}: {error}: a start while the API server is away would know nothing; see --state",
                            path.display()
                        );
                    }
                }
            }
        }
        if changes.changed().await.is_err() {
            return;
        }
        tokio::time::sleep(COLLECT).await;
    }
}
