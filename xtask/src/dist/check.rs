//! The proof that a build is reproducible: the last commit is built twice, at two paths of different lengths.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use pxe_lab::build;

use super::{
    checksum,
    files::{Build, Part, write},
    release::Release,
};

/// Builds the last commit in two copies, compares the files and writes those of the first.
///
/// # Errors
///
/// Fails if a copy cannot be built, or with the names of the files that differ.
pub(super) fn check(release: &Release, profile: &str, parts: &[Part], output: &Path) -> Result<()> {
    let directory = tempfile::Builder::new().prefix("dist-").tempdir_in(build::target())?;
    let mut builds = Vec::new();
    for name in ["a", "a-copy-with-a-longer-path"] {
        let (copy, target) = (directory.path().join(name), directory.path().join(format!("target-of-{name}")));
        let mut git = Command::new("git");
        git.args(["clone", "--quiet", "--local", "--no-hardlinks"]).arg(build::workspace()).arg(&copy);
        let status = git.status().with_context(|| format!("cannot start {git:?}"))?;
        ensure!(status.success(), "{git:?}: {status}");
        let build = Build { workspace: &copy, target_directory: &target, release, profile, parts };
        builds.push(build.files()?);
        // Each takes gigabytes.
        fs::remove_dir_all(&target).with_context(|| target.display().to_string())?;
    }
    let differing = differing(&builds[0], &builds[1]);
    if let Some(first) = builds.first() {
        write(first, output)?;
    }
    ensure!(differing.is_empty(), "two builds of {} differ in {}", release.revision, differing.join(", "));
    println!("two builds of {} at two paths are the same:\n{}", release.revision, checksum::list(&builds[0]));
    Ok(())
}

/// Returns the names of the files that are not the same in both.
fn differing(one: &BTreeMap<String, Vec<u8>>, other: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let names = one.keys().chain(other.keys().filter(|name| !one.contains_key(*name)));
    names.filter(|name| one.get(*name) != other.get(*name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differing_files_are_named() {
        let files = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|&(name, content)| (name.to_owned(), content.as_bytes().to_vec())).collect()
        };
        let one = files(&[("a", "1"), ("b", "2"), ("c", "3")]);
        assert_eq!(differing(&one, &files(&[("a", "1"), ("b", "other"), ("d", "4")])), ["b", "c", "d"]);
        assert!(differing(&one, &one).is_empty());
    }
}
