//! The files that are distributed, made from one directory of sources.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use flate2::Compression;
use pxe_lab::{build, deb::Package};

use super::{
    archive::{Archive, Entry, gzip},
    certificates, checksum, image, program,
    release::Release,
    sbom,
};

/// The name of the file with the checksums.
const CHECKSUMS: &str = "SHA256SUMS";

/// A part of what is distributed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Part {
    /// The container image.
    Image,
    /// The Debian package.
    Deb,
    /// The program with manual pages and completions, for other systems.
    Archive,
    /// The bill of materials.
    Sbom,
}

/// A build from one directory of sources.
pub(super) struct Build<'a> {
    pub(super) workspace: &'a Path,
    pub(super) target_directory: &'a Path,
    pub(super) release: &'a Release,
    pub(super) profile: &'a str,
    pub(super) parts: &'a [Part],
}

impl Build<'_> {
    /// Returns the files, by name.
    pub(super) fn files(&self) -> Result<BTreeMap<String, Vec<u8>>> {
        let Self { workspace, release, parts, .. } = self;
        let (version, architecture) = (&release.version, release.architecture());
        let (path, program) = self.program()?;
        // The tests unpack it at once.
        let effort = if self.profile == "dev" { Compression::fast() } else { Compression::best() };
        let mut files = BTreeMap::new();
        for part in *parts {
            let (name, content) = match part {
                Part::Image => {
                    let image = image::image(release, &program, &certificates::pem(), effort)?;
                    (format!("pxed-{version}-{architecture}.image.tar"), image.tar()?)
                }
                Part::Deb => (format!("pxed_{version}_{architecture}.deb"), self.package(&path)?),
                Part::Archive => {
                    let archive = self.archive(&path, &program)?.tar()?;
                    (format!("pxed-{version}-{}.tar.gz", release.target), gzip(&archive, effort)?)
                }
                Part::Sbom => (format!("pxed-{version}.cdx.json"), sbom::sbom(workspace, release)?.into_bytes()),
            };
            files.insert(name, content);
        }
        files.insert(CHECKSUMS.to_owned(), checksum::list(&files).into_bytes());
        Ok(files)
    }

    /// Returns the static program, and its file.
    fn program(&self) -> Result<(PathBuf, Vec<u8>)> {
        let Self { workspace, target_directory, release, profile, .. } = self;
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
        Ok((path, program))
    }

    /// Returns the Debian package.
    fn package(&self, program: &Path) -> Result<Vec<u8>> {
        let Self { release, .. } = self;
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("pxed.deb");
        let (generator, target) = match release.is_foreign() {
            true => (Some(self.generator(program)?), Some(&*release.target)),
            false => (None, None),
        };
        let (generator, time) = (generator.as_deref(), Some(release.time));
        Package { generator, target, time, ..Package::of(program) }.build(&file)?;
        fs::read(&file).with_context(|| file.display().to_string())
    }

    /// Returns the archive for other systems than Debian.
    fn archive(&self, path: &Path, program: &[u8]) -> Result<Archive> {
        let Self { workspace, release, .. } = self;
        let directory = format!("pxed-{}-{}", release.version, release.target);
        let mut archive = Archive::new(release.time);
        let read = |path: &Path| fs::read(path).with_context(|| path.display().to_string());
        archive.add(&format!("{directory}/pxed"), Entry::program(program));
        for name in ["README.md", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT"] {
            archive.add(&format!("{directory}/{name}"), Entry::file(read(&workspace.join(name))?));
        }
        let generated = tempfile::tempdir()?;
        let mut generate = Command::new(self.generator(path)?);
        let status = generate.arg("generate").arg(generated.path()).status();
        ensure!(status.with_context(|| format!("cannot start {generate:?}"))?.success(), "{generate:?} failed");
        for kind in ["completions", "man"] {
            for file in fs::read_dir(generated.path().join(kind)).with_context(|| kind.to_owned())? {
                let file = file?.path();
                let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                archive.add(&format!("{directory}/{kind}/{name}"), Entry::file(read(&file)?));
            }
        }
        Ok(archive)
    }

    /// Returns a program of the same source that runs on this machine, for what it says of itself.
    fn generator(&self, program: &Path) -> Result<PathBuf> {
        Ok(match self.release.is_foreign() {
            true => build::choose(build::Profile::Debug)?.path,
            false => program.to_owned(),
        })
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
