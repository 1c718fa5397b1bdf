//! `cargo xtask install`: the programs that the tests and the other commands use, of Debian's packages and of crates.io.

mod apt;
pub(crate) mod cargo_tool;
mod decision;
mod missing;

use std::{
    io::{IsTerminal as _, Write as _, stderr, stdin},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use pxe_lab::{
    packages::{PACKAGES, Package, Purpose},
    requires,
};

use self::{
    cargo_tool::{CARGO_TOOLS, CargoTool},
    decision::{Decision, Privilege, Reason, Situation},
    missing::Missing,
};

pub(crate) use self::decision::Consent;

/// What `cargo xtask install` takes.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Args {
    /// Do not ask before installing
    #[arg(long)]
    yes: bool,
}

/// Installs everything that is missing.
///
/// # Errors
///
/// When something is still missing afterwards; with what to do.
pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let Args { yes } = args;
    let wanted = Wanted::for_purposes(&[Purpose::Tests, Purpose::Ebpf, Purpose::Lint]);
    if !wanted.install(if yes { Consent::Yes } else { Consent::Ask })? {
        return Ok(ExitCode::FAILURE);
    }
    eprintln!("xtask: everything is installed");
    Ok(ExitCode::SUCCESS)
}

/// Installs what is needed for these purposes, if that is consented to. Says what is still missing afterwards, and goes on.
pub(crate) fn prepare(purposes: &[Purpose], consent: Consent) {
    if let Err(error) = Wanted::for_purposes(purposes).install(consent) {
        eprintln!("xtask: {error:#}\nxtask: going on without what is missing");
    }
}

/// What has to be there.
struct Wanted {
    packages: Vec<&'static Package>,
    tools: Vec<&'static CargoTool>,
}

/// What is not there.
struct Gap {
    packages: Missing,
    tools: Vec<&'static CargoTool>,
    /// apt has lists of Debian's packages.
    lists: bool,
}

impl Wanted {
    fn for_purposes(purposes: &[Purpose]) -> Self {
        Self {
            packages: PACKAGES.iter().filter(|package| purposes.contains(&package.purpose)).collect(),
            tools: CARGO_TOOLS.iter().filter(|tool| purposes.contains(&tool.purpose)).collect(),
        }
    }

    /// Returns what is missing.
    fn gap(&self, debian: bool) -> Result<Gap> {
        let packages = if debian { apt::missing(&self.packages)? } else { self.missing_files() };
        let tools = self.tools.iter().filter(|tool| tool.find().is_none()).copied().collect();
        Ok(Gap { packages, tools, lists: !debian || apt::has_lists() })
    }

    /// Without dpkg: the packages of which a program or file is missing.
    fn missing_files(&self) -> Missing {
        let here =
            |file: &&str| if file.starts_with('/') { Path::new(file).exists() } else { requires::find(file).is_some() };
        let packages = self.packages.iter().filter(|package| !package.has.iter().all(here)).copied().collect();
        Missing { packages, unfinished: false }
    }

    /// Installs what is missing, if that is consented to; returns whether nothing is missing any more. Says what it does, and what it
    /// does not.
    fn install(&self, consent: Consent) -> Result<bool> {
        let debian = apt::is_here();
        let gap = self.gap(debian)?;
        if gap.is_empty() {
            return Ok(true);
        }
        let situation = Situation {
            consent,
            terminal: stdin().is_terminal() && stderr().is_terminal(),
            privilege: privilege(),
            debian,
            needs_apt: gap.needs_apt(),
        };
        eprint!("xtask: not installed:\n{}", gap.list());
        let reason = match situation.decide() {
            Decision::Install => return gap.install(situation.privilege).map(|()| true),
            Decision::Ask if confirmed(situation.privilege)? => return gap.install(situation.privilege).map(|()| true),
            Decision::Ask => Reason::Told,
            Decision::Leave(reason) => reason,
        };
        eprintln!("xtask: {}", gap.what_to_do(reason));
        Ok(false)
    }
}

impl Gap {
    fn is_empty(&self) -> bool {
        !self.needs_apt() && self.tools.is_empty()
    }

    /// Returns whether apt has something to do.
    fn needs_apt(&self) -> bool {
        !self.packages.packages.is_empty() || !self.lists
    }

    /// A line for each thing.
    fn list(&self) -> String {
        let Self { packages, tools, lists } = self;
        let mut text = missing::list(&packages.packages);
        for tool in tools {
            text += &format!("  {} (by cargo install)  {}\n", tool.name, tool.why);
        }
        if !lists {
            text += "  apt's lists of packages  newer firmware is fetched by apt\n";
        }
        text
    }

    fn what_to_do(&self, reason: Reason) -> String {
        let Self { packages, .. } = self;
        match reason {
            Reason::Told => "installing nothing. `cargo xtask install` does it.".to_owned(),
            Reason::NobodyToAsk => {
                "nobody can be asked without a terminal. `cargo xtask install --yes` installs it.".to_owned()
            }
            Reason::NoPrivilege => format!(
                "neither root nor sudo, so nothing is installed. As root:
  {}
Then: cargo xtask install",
                apt::to_type(packages)
            ),
            Reason::NotDebian => {
                let files = packages.packages.iter().flat_map(|package| package.has).copied().collect::<Vec<_>>();
                format!(
                    "not a Debian system, so nothing is installed. The packages are Debian's; they have:\n  {}",
                    files.join(" ")
                )
            }
        }
    }

    /// Installs all of it; what fails does not keep the rest from being installed.
    fn install(&self, privilege: Privilege) -> Result<()> {
        let Self { packages, tools, lists: _ } = self;
        let mut failures = Vec::new();
        if self.needs_apt() {
            failures.extend(apt::install(packages, privilege).err());
        }
        for tool in tools {
            eprintln!("xtask: {}", tool.to_type());
            failures.extend(tool.install().err());
        }
        if !failures.is_empty() {
            bail!("{}", failures.iter().map(|error| format!("{error:#}")).collect::<Vec<_>>().join("\n"));
        }
        Ok(())
    }
}

fn privilege() -> Privilege {
    if nix::unistd::geteuid().is_root() {
        Privilege::Root
    } else if requires::find("sudo").is_some() {
        Privilege::Sudo
    } else {
        Privilege::None
    }
}

/// Asks whoever sits at the terminal.
fn confirmed(privilege: Privilege) -> Result<bool> {
    eprint!(
        "xtask: install it now{}? [Y/n] ",
        if privilege == Privilege::Sudo { ", as root through sudo" } else { "" }
    );
    stderr().flush()?;
    let mut answer = String::new();
    let length = stdin().read_line(&mut answer).context("cannot read the answer")?;
    Ok(length > 0 && is_yes(&answer))
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "" | "y" | "yes")
}
