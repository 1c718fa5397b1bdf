//! The key of the unguessable parts of URLs, in the state directory. Without it a restart in the middle of a boot would cost a retry.

use std::{fs::Permissions, io::Write as _, os::unix::fs::PermissionsExt as _, path::Path, time::SystemTime};

use anyhow::Context as _;
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::{
    guard::{Guard, KEY_LENGTH},
    own_file::{self, Found, OwnFile},
};

/// The name of the file.
const FILE: &str = "url-key";

/// The most bytes that are read of it.
const MOST_BYTES: u64 = 1024;

/// Returns the guard with the key of the state directory. A key that is damaged is set aside and replaced, and one that cannot be saved lives
/// until pxed ends.
///
/// # Errors
///
/// If the system gives no random bytes.
pub(super) fn guard(state: &Path) -> anyhow::Result<Guard> {
    let file = OwnFile::new(state, FILE, MOST_BYTES);
    let path = file.path();
    let damage = match file.read() {
        Ok(Found::Nothing) => None,
        Ok(Found::Bytes(bytes, open)) => match key(&bytes) {
            Ok(key) => {
                // Somebody may have restored it from a backup.
                let is_private = open.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o077 == 0);
                if !is_private && let Err(error) = open.set_permissions(Permissions::from_mode(0o600)) {
                    tracing::warn!("{}: others can read it, and chmod failed: {error}: run chmod 600", path.display());
                }
                return Ok(Guard::new(&key));
            }
            Err(damage) => Some(damage.to_owned()),
        },
        Ok(Found::Damaged(damage)) => Some(damage),
        Err(error) => Some(error.to_string()),
    };
    if let Some(damage) = damage {
        let kept = own_file::kept(&file.set_aside(SystemTime::now()));
        tracing::warn!(
            "{}: {damage}; {kept}: a new key is made, and machines with secrets that are booting just now have to ask again",
            path.display()
        );
    }
    let mut key = [0; KEY_LENGTH];
    SystemRandom::new().fill(&mut key).ok().context("the system gives no random bytes for the key of URLs")?;
    if let Err(error) = file.replace(|file| file.write_all(&key)) {
        tracing::warn!(
            "{}: {error}: the key of URLs is not saved, so machines with secrets that boot during a restart have to ask again",
            path.display()
        );
    }
    Ok(Guard::new(&key))
}

/// Reads the content of the file.
fn key(bytes: &[u8]) -> Result<[u8; KEY_LENGTH], &'static str> {
    let key: [u8; KEY_LENGTH] = bytes.try_into().map_err(|_| "it is not a key of 32 bytes")?;
    // A disk that lost the file's blocks leaves zeroes. No key of pxed's has so few different bytes.
    let mut bytes = key;
    bytes.sort_unstable();
    let different = 1 + bytes.windows(2).filter(|pair| pair[0] != pair[1]).count();
    if different < KEY_LENGTH / 4 { Err("it is not a random key, but mostly one byte") } else { Ok(key) }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use tempfile::TempDir;

    use super::*;

    fn set_aside(state: &Path) -> Vec<PathBuf> {
        let names = fs::read_dir(state).unwrap().map(|entry| entry.unwrap().path());
        names.filter(|path| path.to_string_lossy().contains("url-key.bad")).collect()
    }

    #[test]
    fn key_is_private_random_and_kept() {
        let (state, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let first = guard(state.path()).unwrap();
        let path = state.path().join(FILE);
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.permissions().mode() & 0o777, metadata.len()), (0o600, 32));
        assert_eq!(guard(state.path()).unwrap(), first);
        assert_ne!(guard(other.path()).unwrap(), first);
        // A copy that others can read is made private again.
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(guard(state.path()).unwrap(), first);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(set_aside(state.path()).is_empty());
    }

    #[test]
    fn damaged_key_is_set_aside_and_replaced() {
        let repeated: Vec<u8> = (0..32).map(|index| index / 8).collect();
        for damaged in [&b""[..], &[7; 31], &[7; 33], &[0; 32], &[0xff; 32], &repeated, &[1; 2000]] {
            let state = TempDir::new().unwrap();
            fs::write(state.path().join(FILE), damaged).unwrap();
            let made = guard(state.path()).unwrap();
            let aside = set_aside(state.path());
            assert_eq!(aside.len(), 1, "{damaged:?}");
            assert_eq!(fs::read(&aside[0]).unwrap(), damaged);
            assert_eq!(guard(state.path()).unwrap(), made);
        }
    }

    #[test]
    fn key_that_cannot_be_read_or_saved_is_no_reason_to_stay_down() {
        let state = TempDir::new().unwrap();
        fs::create_dir(state.path().join(FILE)).unwrap();
        let made = guard(state.path()).unwrap();
        assert_eq!(set_aside(state.path()).len(), 1);
        assert_eq!(guard(state.path()).unwrap(), made);
        // A file where the directory should be.
        let in_the_way = state.path().join("file");
        fs::write(&in_the_way, "").unwrap();
        assert_ne!(guard(&in_the_way).unwrap(), guard(&in_the_way).unwrap());
    }
}
