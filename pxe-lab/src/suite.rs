//! A test binary whose tests may find out only when they run that they cannot run here.

use std::{
    env,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::ensure;
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::{datapath::Datapath, requires::Skip};

/// Set to 1 (CI does), a test that cannot run fails.
pub const REQUIRE_ALL: &str = "PXED_TESTS_REQUIRE_ALL";

/// One test. It fails by an error or a panic; an error that holds a [`Skip`] skips it, loudly.
#[must_use]
pub fn test(name: &str, run: impl FnOnce() -> anyhow::Result<()> + Send + 'static) -> Trial {
    let shown = name.to_owned();
    Trial::ignorable_test(name, move || match run() {
        Ok(()) => Ok(Completion::Completed),
        Err(error) => match error.downcast_ref::<Skip>() {
            Some(skip) if !require_all() => {
                eprintln!("SKIPPED {shown}: {skip}");
                Ok(Completion::ignored_with(skip))
            }
            _ => Err(Failed::from(format!("{error:#}"))),
        },
    })
}

/// A test's name and what it does on a datapath.
pub type DatapathTest = (&'static str, fn(Datapath) -> anyhow::Result<()>);

/// Returns each test once for each datapath, whose name follows the test's.
#[must_use]
pub fn on_datapaths(datapaths: &[Datapath], tests: &[DatapathTest]) -> Vec<Trial> {
    let on_each = |&(name, run): &DatapathTest| {
        datapaths.iter().map(move |&datapath| test(&format!("{name}_{datapath}"), move || run(datapath)))
    };
    tests.iter().flat_map(on_each).collect()
}

/// Runs the tests as the command line says; the same options as `cargo test`'s own harness.
#[must_use]
pub fn main(tests: Vec<Trial>) -> ExitCode {
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

/// The same for tests that do little but wait: all of them at once, unless the command line says otherwise.
#[must_use]
pub fn main_at_once(tests: Vec<Trial>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(tests.len());
    libtest_mimic::run(&arguments, tests).exit_code()
}

/// Asks again and again until `holds` says yes, for what has no event to wait for.
///
/// # Errors
///
/// When the time is up; `what` stands in the message.
pub fn eventually(what: &str, within: Duration, mut holds: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let deadline = Instant::now() + within;
    while !holds()? {
        ensure!(Instant::now() < deadline, "{what}: not within {} s", within.as_secs());
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn require_all() -> bool {
    env::var_os(REQUIRE_ALL).is_some_and(|value| value == "1")
}
