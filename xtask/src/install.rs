//! `cargo xtask install`: the programs that tests and other commands use, from Debian's packages, cargo's registry and Python's.

mod apt;
pub(crate) mod cargo_tool;
mod decision;
mod missing;
mod python;

use std::{
    io::{IsTerminal as _, Write as _, stderr, stdin},
    path::Path,
    process::ExitCode,
    thread,
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

/// The options of `cargo xtask install`.
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
/// Fails if something is still missing afterwards; the error says what to do.
pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let Args { yes } = args;
    let wanted = Wanted::for_purposes(&[Purpose::Tests, Purpose::Ebpf, Purpose::Lint]);
    if !wanted.install(if yes { Consent::Yes } else { Consent::Ask })? {
        return Ok(ExitCode::FAILURE);
    }
    eprintln!("xtask: everything is installed");
    Ok(ExitCode::SUCCESS)
}

/// Installs what these purposes need, if the user consents. Reports what is still missing afterwards, and continues.
pub(crate) fn prepare(purposes: &[Purpose], consent: Consent) {
    if let Err(error) = Wanted::for_purposes(purposes).install(consent) {
        eprintln!("xtask: {error:#}\nxtask: continuing without what is missing");
    }
}

/// The packages and programs that are needed.
struct Wanted {
    packages: Vec<&'static Package>,
    tools: Vec<&'static CargoTool>,
    /// The Python packages of the tests.
    python: bool,
}

/// The packages and programs that are missing.
struct Gap {
    packages: Missing,
    tools: Vec<&'static CargoTool>,
    /// The Python packages are missing.
    python: bool,
    /// apt has package lists.
    lists: bool,
}

impl Wanted {
    fn for_purposes(purposes: &[Purpose]) -> Self {
        Self {
            packages: PACKAGES.iter().filter(|package| purposes.contains(&package.purpose)).collect(),
            tools: CARGO_TOOLS.iter().filter(|tool| purposes.contains(&tool.purpose)).collect(),
            python: purposes.contains(&Purpose::Tests),
        }
    }

    /// Returns the missing packages and programs.
    fn gap(&self, debian: bool) -> Result<Gap> {
        let packages = if debian { apt::missing(&self.packages)? } else { self.missing_files() };
        let tools = self.tools.iter().filter(|tool| tool.find().is_none()).copied().collect();
        let python = self.python && !python::is_here();
        Ok(Gap { packages, tools, python, lists: !debian || apt::has_lists() })
    }

    /// Returns the packages of which a program or file is missing, for hosts without dpkg.
    fn missing_files(&self) -> Missing {
        let here =
            |file: &&str| if file.starts_with('/') { Path::new(file).exists() } else { requires::find(file).is_some() };
        let packages = self.packages.iter().filter(|package| !package.has.iter().all(here)).copied().collect();
        Missing { packages, ..Missing::default() }
    }

    /// Installs what is missing, if the user consents, and reports what it does and does not do. Returns `true` if nothing is
    /// missing any more.
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
        !self.needs_apt() && self.tools.is_empty() && !self.python
    }

    /// Returns `true` if apt has something to do.
    fn needs_apt(&self) -> bool {
        !self.packages.packages.is_empty() || !self.lists
    }

    /// Returns one line for each missing item.
    fn list(&self) -> String {
        let Self { packages, tools, python, lists } = self;
        let mut text = missing::list(&packages.packages);
        for tool in tools {
            text += &format!("  {} (by cargo install)  {}\n", tool.name, tool.why);
        }
        if *python {
            text += &format!("  Python packages (by pip, below target/)  {}\n", python::WHY);
        }
        if !lists {
            text += "  apt's package lists  newer firmware is fetched by apt\n";
        }
        text
    }

    fn what_to_do(&self, reason: Reason) -> String {
        let Self { packages, .. } = self;
        match reason {
            Reason::Told => "installing nothing. `cargo xtask install` does it.".to_owned(),
            Reason::NobodyToAsk => {
                "without a terminal there is nobody to ask. `cargo xtask install --yes` installs it.".to_owned()
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

    /// Installs everything. A failure does not keep the rest from being installed.
    ///
    /// Cargo computes what needs no package, while apt and pip mostly wait for the network.
    fn install(&self, privilege: Privilege) -> Result<()> {
        let Self { packages, tools, python, lists: _ } = self;
        let by_cargo = |tool: &CargoTool| {
            eprintln!("xtask: {}", tool.to_type());
            tool.install().err()
        };
        let mut failures = Vec::new();
        thread::scope(|scope| {
            // Whatever fails is tried again, with the packages.
            scope.spawn(|| tools.iter().filter(|tool| !tool.needs_package()).filter_map(|tool| by_cargo(tool)).count());
            if self.needs_apt() {
                failures.extend(apt::install(packages, privilege).err());
            }
            if *python {
                eprintln!("xtask: pip install into {}", pxe_lab::python::environment().display());
                failures.extend(python::install().err());
            }
        });
        failures.extend(tools.iter().filter(|tool| tool.find().is_none()).filter_map(|tool| by_cargo(tool)));
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

/// Asks the user at the terminal.
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
