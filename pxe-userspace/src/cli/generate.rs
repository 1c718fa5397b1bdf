//! `pxed generate`: writes the manual pages and the completions of shells, which are made of the definition of the command line.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Command;
use clap_complete::Shell;

/// The arguments of `pxed generate`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Directory to write into, which is created
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// The shells, each with the name under which it looks for completions of `pxed`.
const SHELLS: [(Shell, &str); 3] = [(Shell::Bash, "pxed.bash"), (Shell::Zsh, "_pxed"), (Shell::Fish, "pxed.fish")];

/// Writes `man/pxed.1` with a page for each subcommand, and `completions/`.
///
/// # Errors
///
/// If a file cannot be written.
pub(super) fn run(args: Args, command: &Command) -> anyhow::Result<ExitCode> {
    let Args { directory } = args;
    let (man, completions) = (directory.join("man"), directory.join("completions"));
    for directory in [&man, &completions] {
        fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
    }
    clap_mangen::generate_to(command.clone(), &man).with_context(|| format!("writing {}", man.display()))?;
    for (shell, name) in SHELLS {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut command.clone(), "pxed", &mut text);
        write(&completions.join(name), &text)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, text: &[u8]) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subcommand_has_its_page_and_is_completed_by_every_shell() {
        let directory = tempfile::tempdir().unwrap();
        let args = Args { directory: directory.path().join("new") };
        run(args, &crate::cli::command()).unwrap();
        let read = |path: &str| fs::read_to_string(directory.path().join("new").join(path)).unwrap();
        let (mut pages, command) = (0, crate::cli::command());
        for subcommand in command.get_subcommands() {
            let name = subcommand.get_name();
            let page = read(&format!("man/pxed-{name}.1"));
            for long in subcommand.get_arguments().filter_map(clap::Arg::get_long) {
                let escaped = long.replace('-', "\\-");
                assert!(page.contains(&format!("\\-\\-{escaped}")), "{name}: --{long}");
                for (_, file) in SHELLS {
                    assert!(read(&format!("completions/{file}")).contains(long), "{file}: {name} --{long}");
                }
            }
            assert!(read("man/pxed.1").contains(&format!("pxed\\-{name}(1)")), "{name}");
            pages += 1;
        }
        assert_eq!(fs::read_dir(directory.path().join("new/man")).unwrap().count(), pages + 1);
        let all = SHELLS.map(|(_, file)| read(&format!("completions/{file}"))).concat();
        assert!(!all.contains("generate"), "a command for packages alone");
    }
}
