//! The files that are distributed, made from one directory of sources.

use std::{collections::BTreeMap, fs, path::Path, time::Instant};

use anyhow::{Context as _, Result};
use flate2::Compression;
use pxe_lab::build;

use super::{
    archive::{Archive, Entry, gzip},
    certificates, checksum, image, program,
    release::Release,
    sbom,
};

/// The name of the file with the checksums.
const CHECKSUMS: &str = "SHA256SUMS";

/// A build of everything from one directory of sources.
pub(super) struct Build<'a> {
    pub(super) workspace: &'a Path,
    pub(super) target_directory: &'a Path,
    pub(super) release: &'a Release,
    pub(super) profile: &'a str,
}

impl Build<'_> {
    /// Returns the files, by name.
    pub(super) fn files(&self) -> Result<BTreeMap<String, Vec<u8>>> {
        let Self { workspace, release, .. } = self;
        let version = &release.version;
        let program = self.program()?;
        // The tests unpack it at once.
        let effort = if self.profile == "dev" { Compression::fast() } else { Compression::best() };
        let certificates = certificates::pem();
        let image = image::image(release, &program, &certificates, effort)?.tar()?;
        let mut files = BTreeMap::from([
            (format!("pxed-{version}-{}.image.tar", release.architecture()), image),
            (format!("pxed-{version}.cdx.json"), sbom::sbom(workspace, release)?.into_bytes()),
        ]);
        files
            .insert(format!("pxed-{version}-{}.tar.gz", release.target), gzip(&self.archive(program)?.tar()?, effort)?);
        files.insert(CHECKSUMS.to_owned(), checksum::list(&files).into_bytes());
        Ok(files)
    }

    /// Returns the static program.
    fn program(&self) -> Result<Vec<u8>> {
        let Self { workspace, target_directory, release, profile } = self;
        let started = Instant::now();
        // The program of the tests differs from a development build in the last link alone.
        let path = match *profile {
            "dev" => build::choose(build::Profile::Debug)?.path,
            profile => program::build(workspace, target_directory, release, profile)?,
        };
        let program = fs::read(&path).with_context(|| path.display().to_string())?;
        match *profile {
            "dev" => program::is_static(&program)?,
            _ => program::check(&program, workspace, target_directory)?,
        }
        println!("{} ({} KiB) built in {} s", path.display(), program.len() >> 10, started.elapsed().as_secs());
        Ok(program)
    }

    /// Returns the archive for other systems than Debian.
    fn archive(&self, program: Vec<u8>) -> Result<Archive> {
        let Self { workspace, release, .. } = self;
        let directory = format!("pxed-{}-{}", release.version, release.target);
        let mut archive = Archive::new(release.time);
        archive.add(&format!("{directory}/pxed"), Entry::program(program));
        for name in ["README.md", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT"] {
            let path = workspace.join(name);
            let text = fs::read(&path).with_context(|| path.display().to_string())?;
            archive.add(&format!("{directory}/{name}"), Entry::file(text));
        }
        Ok(archive)
    }
}

/// Writes the files into the directory, in place of those that are there.
pub(super) fn write(files: &BTreeMap<String, Vec<u8>>, output: &Path) -> Result<()> {
    fs::create_dir_all(output).with_context(|| output.display().to_string())?;
    for (name, content) in files {
        let path = output.join(name);
        // A file that is complete or absent: somebody may be reading the last one.
        let next = output.join(format!(".{name}"));
        fs::write(&next, content)
            .and_then(|()| fs::rename(&next, &path))
            .with_context(|| path.display().to_string())?;
        println!("{} ({} KiB)", path.display(), content.len() >> 10);
    }
    Ok(())
}
