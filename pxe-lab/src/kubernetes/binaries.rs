//! The programs of a Kubernetes control plane: kube-apiserver built from Debian's source package, and etcd and kubectl from its
//! packages. Debian has no kube-apiserver that is built.
//!
//! They are made once and kept below the target directory. Nothing is installed: etcd's package would start a server on the host.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use anyhow::{Context, ensure};

use crate::{
    apt::{Apt, Release},
    assets::cache,
    namespace::output,
    requires::{self, Skip},
};

/// The version that Debian 12 has.
const VERSION: &str = "v1.20.2";

/// The number of the way in which the programs are made. With another one they are made again.
const RECIPE: u32 = 2;

/// The Debian release with the source package.
const RELEASE: Release = Release { name: "bookworm", architectures: &[ARCHITECTURE], sources: true };

#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: &str = "arm64";
#[cfg(not(target_arch = "aarch64"))]
const ARCHITECTURE: &str = "amd64";

/// Binary packages, which are unpacked into one directory: the compiler, a library in place of the vendored one, and the programs.
const PACKAGES: [&str; 5] =
    ["golang-1.19-go", "golang-1.19-src", "golang-github-modern-go-reflect2-dev", "etcd-server", "kubernetes-client"];

/// The programs, as files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    directory: PathBuf,
}

impl Binaries {
    /// Returns the path of kube-apiserver.
    #[must_use]
    pub fn apiserver(&self) -> PathBuf {
        self.directory.join("kube-apiserver")
    }

    /// Returns the path of etcd.
    #[must_use]
    pub fn etcd(&self) -> PathBuf {
        self.directory.join("etcd")
    }

    /// Returns the path of kubectl, of the same version as the server.
    #[must_use]
    pub fn kubectl(&self) -> PathBuf {
        self.directory.join("kubectl")
    }
}

/// Returns the programs, which the first call makes: it takes minutes. Calls of other processes wait for it.
///
/// # Errors
///
/// Fails with [`Skip`] if they cannot be made: no apt, no network.
pub fn binaries() -> anyhow::Result<Binaries> {
    static MADE: OnceLock<Result<Binaries, Skip>> = OnceLock::new();
    let make = || find_or_make().map_err(|error| Skip(format!("cannot build kube-apiserver {VERSION}: {error:#}")));
    Ok(MADE.get_or_init(make).clone()?)
}

fn find_or_make() -> anyhow::Result<Binaries> {
    let cache = cache();
    let found = Binaries { directory: cache.join(format!("kubernetes-{VERSION}-{RECIPE}-{ARCHITECTURE}")) };
    if found.directory.exists() {
        return Ok(found);
    }
    requires::tools(&["apt-get", "dpkg", "tar", "nice"])?;
    fs::create_dir_all(&cache)?;
    let lock = File::create(cache.join("kubernetes.lock"))?;
    lock.lock()?;
    if found.directory.exists() {
        return Ok(found);
    }
    // One path for all, so that what a killed build left is removed by the next one.
    let scratch = cache.join("kubernetes.new");
    remove(&scratch)?;
    let result = scratch.join("result");
    fs::create_dir_all(&result)?;
    let made = make(&cache, &scratch, &result)
        .and_then(|()| fs::rename(&result, &found.directory).context("cannot move the programs into the cache"));
    remove(&scratch)?;
    made.map(|()| found)
}

fn make(cache: &Path, scratch: &Path, result: &Path) -> anyhow::Result<()> {
    let apt = Apt::new(&cache.join("apt-kubernetes"), RELEASE)?;
    let packages = scratch.join("packages");
    fs::create_dir(&packages)?;
    for package in PACKAGES {
        apt.unpack(package, ARCHITECTURE, &packages.join(package))?;
    }
    let archive = apt.upstream_source("kubernetes", scratch)?;
    let tree = scratch.join("path/src/k8s.io/kubernetes");
    fs::create_dir_all(&tree)?;
    output(Command::new("tar").args(["--strip-components=1", "-xf"]).arg(archive).arg("-C").arg(&tree))?;
    // With Go 1.16 and newer this takes an empty string, a zero and a `false` for null.
    for package in ["k8s.io/kube-openapi/pkg/validation", "github.com/go-openapi"] {
        let file = tree.join("vendor").join(package).join("validate/type.go");
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let test = "data == nil || reflect.DeepEqual(reflect.Zero(reflect.TypeOf(data)), reflect.ValueOf(data))";
        ensure!(text.contains(test), "{} has changed", file.display());
        fs::write(&file, text.replace(test, "data == nil"))?;
    }
    // The vendored version crashes with Go 1.18 and newer.
    let library = Path::new("github.com/modern-go/reflect2");
    let vendored = tree.join("vendor").join(library);
    fs::remove_dir_all(&vendored)?;
    let newer = packages.join("golang-github-modern-go-reflect2-dev/usr/share/gocode/src").join(library);
    output(Command::new("cp").arg("-r").args([&newer, &vendored]))?;

    let go = Go { scratch, root: merged_root(&packages)? };
    go.generate_openapi(&tree)?;
    let version = "k8s.io/kubernetes/vendor/k8s.io/component-base/version";
    let (major, minor) = ("1", "20");
    go.run(&tree, &[
        "build",
        // No clients of cloud providers: a sixth of the packages.
        "-tags=providerless",
        "-trimpath",
        &format!(
            "-ldflags=-s -w -X {version}.gitVersion={VERSION} -X {version}.gitMajor={major} -X {version}.gitMinor={minor}"
        ),
        "-o",
        &result.join("kube-apiserver").to_string_lossy(),
        "./cmd/kube-apiserver",
    ])?;
    for (package, program) in [("etcd-server", "etcd"), ("kubernetes-client", "kubectl")] {
        fs::copy(packages.join(package).join("usr/bin").join(program), result.join(program))
            .with_context(|| format!("the package {package} has no program {program}"))?;
    }
    Ok(())
}

/// Returns the root of the Go installation, with the sources that another package has.
fn merged_root(packages: &Path) -> anyhow::Result<PathBuf> {
    let (programs, sources) = (packages.join("golang-1.19-go/usr"), packages.join("golang-1.19-src/usr"));
    output(Command::new("cp").arg("-r").arg(sources.join("share")).arg(&programs))?;
    Ok(programs.join("lib/go-1.19"))
}

/// The Go compiler.
struct Go<'a> {
    scratch: &'a Path,
    root: PathBuf,
}

impl Go<'_> {
    /// Runs `go …` in this directory, at low priority: the build is started beside other work.
    fn run(&self, directory: &Path, arguments: &[&str]) -> anyhow::Result<()> {
        output(self.command(&self.root.join("bin/go")).args(arguments).current_dir(directory)).map(drop)
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nice");
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.arg(program).env_clear().env("PATH", path).env("HOME", self.scratch).env("GOROOT", &self.root);
        command
            .env("GOPATH", self.scratch.join("path"))
            .env("GOCACHE", self.scratch.join("cache"))
            .env("TMPDIR", self.scratch);
        command.envs([("GO111MODULE", "off"), ("GOENV", "off"), ("CGO_ENABLED", "0")]);
        command
    }

    /// Generates the description of the server's built-in types, which the source package lacks.
    fn generate_openapi(&self, tree: &Path) -> anyhow::Result<()> {
        let generator = self.scratch.join("openapi-gen");
        self.run(tree, &["build", "-o", &generator.to_string_lossy(), "./vendor/k8s.io/kube-openapi/cmd/openapi-gen"])?;
        let mut packages = BTreeSet::new();
        for (directory, import) in [("pkg", "pkg"), ("staging/src", "vendor")] {
            let mut found = BTreeSet::new();
            described_packages(&tree.join(directory), &mut found)?;
            for package in found {
                let package = package.strip_prefix(tree.join(directory))?.to_string_lossy().into_owned();
                packages.insert(format!("k8s.io/kubernetes/{import}/{package}"));
            }
        }
        ensure!(!packages.is_empty(), "no package asks for a description");
        let packages: Vec<_> = packages.into_iter().collect();
        let mut command = self.command(&generator);
        command.current_dir(tree).args(["--logtostderr", "-i", &packages.join(",")]);
        command.args(["-p", "k8s.io/kubernetes/pkg/generated/openapi", "-O", "zz_generated.openapi"]);
        command.args(["-h", "hack/boilerplate/boilerplate.generatego.txt", "-r"]).arg(self.scratch.join("violations"));
        output(&mut command).map(drop)
    }
}

/// Collects the directories below this one whose Go files ask for a description.
fn described_packages(directory: &Path, found: &mut BTreeSet<PathBuf>) -> anyhow::Result<()> {
    /// Examples and tests, which the server does not have.
    const OTHERS: [&str; 4] = ["sample-apiserver", "_examples", "testing", "example"];
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let (kind, name) = (entry.file_type()?, entry.file_name().to_string_lossy().into_owned());
        if kind.is_dir() && !OTHERS.contains(&name.as_str()) {
            described_packages(&entry.path(), found)?;
        } else if kind.is_file() && name.ends_with(".go") && !found.contains(directory) {
            let lines = BufReader::new(File::open(entry.path())?).lines().map_while(Result::ok);
            if lines.take(200).any(|line| line.starts_with("// +k8s:openapi-gen=")) {
                found.insert(directory.to_owned());
            }
        }
    }
    Ok(())
}

fn remove(directory: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}
