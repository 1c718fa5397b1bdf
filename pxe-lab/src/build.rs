//! The workspace, its target directory and the `pxed` binary.

use std::{
    env, fmt,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use anyhow::{Context, anyhow, bail, ensure};

/// The variable that names a `pxed` binary to use instead of a newly built one.
pub const BINARY: &str = "PXED_BINARY";

/// A build profile of cargo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Fast to build, with assertions.
    Debug,
    /// Fast to run.
    Release,
}

/// A `pxed` binary.
#[derive(Clone, Debug)]
pub struct Binary {
    /// The path of the file.
    pub path: PathBuf,
    /// The profile that the binary reports.
    pub profile: Profile,
}

/// Returns the root of the workspace.
#[must_use]
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Returns cargo's target directory.
#[must_use]
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// The binary that this process uses, once it is chosen.
static CHOSEN: OnceLock<Result<Binary, String>> = OnceLock::new();

/// Returns the binary that this process uses: the choice of [`choose`], or by default a build in the profile of this program.
///
/// # Errors
///
/// Fails if it cannot be built.
pub fn pxed() -> anyhow::Result<Binary> {
    choose(if cfg!(debug_assertions) { Profile::Debug } else { Profile::Release })
}

/// Chooses the binary that this process uses from now on: the one that [`BINARY`] names, or a new build of the workspace
/// in this profile. Later calls do not change the choice.
///
/// # Errors
///
/// Fails if it cannot be built, or does not report its profile.
pub fn choose(profile: Profile) -> anyhow::Result<Binary> {
    let find = || {
        let path = match env::var_os(BINARY) {
            Some(path) => path.into(),
            None => build(profile)?,
        };
        let profile = Profile::of(&path)?;
        Ok(Binary { path, profile })
    };
    let chosen = CHOSEN.get_or_init(|| find().map_err(|error: anyhow::Error| format!("{error:#}")));
    chosen.clone().map_err(|error| anyhow!(error))
}

/// Builds `pxed` as it is distributed, without a dynamic linker, and returns its path.
///
/// The flag goes to the last step alone, so everything else is shared with other builds of the workspace. These replace cargo's own file
/// by one that is linked dynamically; hence the other path.
fn build(profile: Profile) -> anyhow::Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["rustc", "--quiet", "--package", "pxe-userspace", "--bin", "pxed"]).current_dir(workspace());
    if profile == Profile::Release {
        command.arg("--release");
    }
    command.args(["--", "-C", "target-feature=+crt-static"]);
    let ours = target().join("lab").join(profile.to_string());
    fs::create_dir_all(&ours).with_context(|| format!("cannot create {}", ours.display()))?;
    // Another process may be building the same.
    let lock = File::create(ours.join("lock")).and_then(|file| file.lock().map(|()| file));
    let _lock = lock.with_context(|| format!("cannot lock {}", ours.display()))?;
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    if !status.success() {
        bail!("cannot build pxed (it needs the static C library, of libc6-dev or glibc-static): {command:?}: {status}");
    }
    let (cargos, path) = (target().join(profile.to_string()).join("pxed"), ours.join("pxed"));
    let next = ours.join("next");
    let placed = fs::remove_file(&next).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    });
    let placed = placed.and_then(|()| fs::hard_link(&cargos, &next)).and_then(|()| fs::rename(&next, &path));
    placed.with_context(|| format!("cannot link {} to {}", path.display(), cargos.display()))?;
    Ok(path)
}

impl Profile {
    /// Asks the binary for its profile.
    pub(crate) fn of(binary: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(binary);
        let output = command.arg("--version").output().with_context(|| format!("cannot start {command:?}"))?;
        ensure!(output.status.success(), "{command:?}: {}", output.status);
        Self::in_version(&String::from_utf8_lossy(&output.stdout))
            .with_context(|| format!("{} does not say which profile it was built in", binary.display()))
    }

    fn in_version(version: &str) -> Option<Self> {
        let name = version.lines().find_map(|line| line.strip_prefix("profile: "))?;
        [Self::Debug, Self::Release].into_iter().find(|profile| profile.to_string() == name)
    }
}

/// Writes the name, which is also that of cargo's directory.
impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Debug => "debug",
            Self::Release => "release",
        })
    }
}

impl fmt::Display for Binary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, profile } = self;
        write!(f, "{} ({profile} build)", path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profile_is_read_from_the_version() {
        assert_eq!(Profile::in_version("pxed 0.1.0\nprofile: release\n"), Some(Profile::Release));
        assert_eq!(Profile::in_version("pxed 0.1.0\nprofile: debug\n"), Some(Profile::Debug));
        assert_eq!(Profile::in_version("pxed 0.1.0\n"), None);
    }
}
