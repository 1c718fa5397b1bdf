//! A test binary whose tests may be skipped at run time.

use std::{
    env,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::ensure;
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::{datapath::Datapath, requires::Skip};

/// The variable that, set to 1 (as in CI), makes a test fail if it cannot run.
pub const REQUIRE_ALL: &str = "PXED_TESTS_REQUIRE_ALL";

/// Returns one test. It fails by an error or a panic; an error that contains a [`Skip`] skips it and prints the reason.
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

/// A test's name and its function, which takes a datapath.
pub type DatapathTest = (&'static str, fn(Datapath) -> anyhow::Result<()>);

/// Returns each test once per datapath; the datapath's name is appended to the test's.
#[must_use]
pub fn on_datapaths(datapaths: &[Datapath], tests: &[DatapathTest]) -> Vec<Trial> {
    let on_each = |&(name, run): &DatapathTest| {
        datapaths.iter().map(move |&datapath| test(&format!("{name}_{datapath}"), move || run(datapath)))
    };
    tests.iter().flat_map(on_each).collect()
}

/// Runs the tests with the options of `cargo test`'s own harness.
#[must_use]
pub fn main(tests: Vec<Trial>) -> ExitCode {
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

/// Runs tests that mostly wait like [`main`], but all at once unless the command line says otherwise.
#[must_use]
pub fn main_at_once(tests: Vec<Trial>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(tests.len());
    libtest_mimic::run(&arguments, tests).exit_code()
}

/// Runs tests of which each uses a processor for a part of its time like [`main`], but twice as many at once as there are processors
/// unless the command line says otherwise.
#[must_use]
pub fn main_interleaved(tests: Vec<Trial>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    let processors = thread::available_parallelism().map_or(1, usize::from);
    arguments.test_threads.get_or_insert(2 * processors);
    libtest_mimic::run(&arguments, tests).exit_code()
}

/// Polls until `holds` returns `true`, for conditions without an event to wait for.
///
/// # Errors
///
/// Fails if the time is up; the error holds `what`.
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
