//! The XDP program in the kernel treats and counts every named frame as the classifier on the host
//! does.

use std::{
    env,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
};

use libtest_mimic::{Arguments, Failed, Trial};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use pxe_common::{
    Action, Counter, MacAddr, Settings, Traced, UnknownMachines, classify,
    layout::{LOG_DEBUG, LOG_SILENT, LOG_WARN},
    testing::{
        Case, FrameBuilder, KNOWN, Rules, SMALL_BURST, Step, Story, UNKNOWN, World, cases, small_bucket, stories,
    },
    trace::TRACE_BYTES,
};
use pxe_lab::classifier::{Classifier, measure};

/// The shortest frame that the kernel accepts for a test run. No link delivers a shorter one.
const SHORTEST_FRAME: usize = 14;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let runs = require_root();
    // All trials share one program and one set of maps, so they take turns.
    let kernel: Arc<Mutex<Option<Classifier>>> = Arc::default();
    let mut trials: Vec<Trial> = cases()
        .into_iter()
        .filter(|case| case.frame.len() >= SHORTEST_FRAME)
        .map(|case| {
            let kernel = Arc::clone(&kernel);
            Trial::test(case.name, move || {
                let mut kernel = kernel.lock().unwrap_or_else(PoisonError::into_inner);
                let classifier = match kernel.take() {
                    Some(classifier) => classifier,
                    None => Classifier::load().map_err(|error| format!("{error:#}"))?,
                };
                agree(&case, kernel.insert(classifier))
            })
            .with_ignored_flag(!runs)
        })
        .collect();
    trials.extend(
        stories().into_iter().map(|story| Trial::test(story.name, move || unfold(&story)).with_ignored_flag(!runs)),
    );
    trials.push(Trial::test("remarks as loud as asked for", remarks).with_ignored_flag(!runs));
    trials.push(Trial::test("trace of each verdict", traces).with_ignored_flag(!runs));
    trials.push(Trial::test("trace that nobody reads", unread_traces).with_ignored_flag(!runs));
    trials.push(Trial::test("requests that are dropped", unseen_requests).with_ignored_flag(!runs));
    trials.push(Trial::test("time of a frame", time).with_kind("measurement").with_ignored_flag(true));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Returns `true` if the trials can run. Otherwise prints the reason, and ends the process if skipping is not allowed.
fn require_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: the in-kernel tests of the classifier load a BPF program, which needs root");
        if env::var_os("PXED_TESTS_REQUIRE_ALL").is_some_and(|value| value == "1") {
            std::process::exit(1);
        }
    }
    root
}

/// Runs a case in the kernel and on the host.
fn agree(case: &Case, kernel: &mut Classifier) -> Result<(), Failed> {
    kernel.prepare(case.rules)?;
    let host = World::new(case.rules);
    for (turn, expected) in case.expected.iter().enumerate() {
        let before = kernel.counters()?;
        let action = kernel.run(&case.frame)?;
        let after = kernel.counters()?;
        let counted: Vec<(Counter, u64)> = Counter::ALL
            .iter()
            .map(|&counter| (counter, after[counter as usize] - before[counter as usize]))
            .filter(|&(_, times)| times != 0)
            .collect();
        let on_host = classify(case.frame.as_slice(), &host).counter;
        if counted != [(on_host, 1)] || action != on_host.action() || on_host != *expected {
            return Err(format!(
                "time {turn}: expected {expected:?}; the host says {on_host:?}; the kernel {action:?}, counted {counted:?}"
            )
            .into());
        }
    }
    let (noted, on_host) = (kernel.strayed()?, host.strays());
    if noted != on_host {
        return Err(format!("the kernel notes the strays {noted:?}, the host {on_host:?}").into());
    }
    Ok(())
}

/// Runs a sequence of frames in the kernel, on one processor: the senders elsewhere have a bucket for each.
fn unfold(Story { name, rules, steps }: &Story) -> Result<(), Failed> {
    let mut processor = CpuSet::new();
    let first = sched_getaffinity(Pid::from_raw(0))
        .map(|allowed| (0..CpuSet::count()).find(|&one| allowed.is_set(one) == Ok(true)))?;
    processor.set(first.ok_or("no processor")?)?;
    sched_setaffinity(Pid::from_raw(0), &processor)?;
    let mut kernel = Classifier::load().map_err(|error| format!("{error:#}"))?;
    kernel.prepare(*rules)?;
    for (index, Step { frame, expected, times }) in steps.iter().enumerate() {
        let before = kernel.counters()?[*expected as usize];
        for _ in 0..*times {
            kernel.run(frame)?;
        }
        let counted = kernel.counters()?[*expected as usize] - before;
        if counted != *times {
            return Err(
                format!("{name}: step {index}: {counted} of {times} frames were counted as {expected:?}").into()
            );
        }
    }
    Ok(())
}

/// The program makes no remarks unless it is told to, and the verifier accepts it at every level.
fn remarks() -> Result<(), Failed> {
    let limited = Rules { settings: small_bucket(UnknownMachines::Pass), no_socket: false };
    let malformed = FrameBuilder { bootp: [1, 1, 5, 0], ..FrameBuilder::default() }.build();
    let request = FrameBuilder::default().build();
    for (level, when_limited, when_malformed) in [(LOG_SILENT, 0, 0), (LOG_WARN, 1, 0), (LOG_DEBUG, 1, 1)] {
        let mut kernel = Classifier::load_remarking(level).map_err(|error| format!("{error:#}"))?;
        kernel.prepare(limited)?;
        for _ in 0..SMALL_BURST {
            kernel.run(&request)?;
        }
        assert_eq!(kernel.remarks()?, 0, "level {level}: nothing to remark");
        kernel.run(&request)?;
        assert_eq!(kernel.remarks()?, when_limited, "level {level}: rate limit");
        kernel.run(&malformed)?;
        assert_eq!(kernel.remarks()?, when_malformed, "level {level}: malformed frame");
    }
    Ok(())
}

/// The program hands over each frame about DHCP of the traced cards with its verdict, and no other frame.
fn traces() -> Result<(), Failed> {
    let mut kernel = Classifier::load().map_err(|error| format!("{error:#}"))?;
    let mut frames: Vec<_> = cases().into_iter().map(|case| (case.name, case.rules, case.frame)).collect();
    let forged = FrameBuilder { ethernet_source: MacAddr([0x0a, 0, 0, 0, 0, 1]), ..FrameBuilder::default() }.build();
    frames.push(("from elsewhere", Rules::default(), forged));
    let long = FrameBuilder { options: vec![0; 2000], ..FrameBuilder::default() }.build();
    frames.push(("long", Rules::default(), long));
    let limited = Rules { settings: small_bucket(UnknownMachines::Drop), no_socket: false };
    let mut seen = std::collections::HashSet::new();
    for (name, rules, frame) in frames.iter().filter(|(_, _, frame)| frame.len() >= SHORTEST_FRAME) {
        // The default rules, and those by which something is dropped.
        for rules in [*rules, limited] {
            kernel.prepare(rules)?;
            let host = World::new(rules);
            for turn in 0..SMALL_BURST + 3 {
                let verdict = classify(frame.as_slice(), &host);
                let source = MacAddr([frame[6], frame[7], frame[8], frame[9], frame[10], frame[11]]);
                let card = if verdict.machine.is_zero() { source } else { verdict.machine };
                // Traced; another one is; nobody is.
                let traced = [vec![card], vec![MacAddr([2, 9, 9, 9, 9, 9])], vec![]][turn as usize % 3].clone();
                kernel.trace(&traced)?;
                kernel.run(frame)?;
                let (records, lost) = kernel.traces()?;
                let read = records.iter().map(|record| Traced::read(record)).collect::<Vec<_>>();
                let is_traced = traced.contains(&card) && verdict.counter.is_of_dhcp();
                let is_unseen = matches!(verdict.counter, Counter::UnknownDropped | Counter::RateLimited);
                if !is_traced && !is_unseen {
                    assert_eq!((read, lost), (vec![], 0), "{name}, turn {turn}");
                    continue;
                }
                let [Some(trace)] = read[..] else { return Err(format!("{name}, turn {turn}: {read:?}").into()) };
                assert!(trace.at_ns > 0);
                let expected = Traced {
                    at_ns: trace.at_ns,
                    counter: verdict.counter,
                    queue: 0,
                    length: frame.len() as u32,
                    mac: card,
                    is_captured: is_traced,
                    bytes: &frame[..frame.len().min(TRACE_BYTES)],
                };
                assert_eq!(trace, expected, "{name}, turn {turn}");
                seen.extend(is_traced.then_some(verdict.counter));
            }
        }
    }
    // A frame that ends within the Ethernet header cannot be run.
    let unseen: Vec<_> =
        Counter::ALL.iter().filter(|counter| counter.is_of_dhcp() && !seen.contains(counter)).collect();
    assert_eq!(unseen, [] as [&Counter; 0]);
    Ok(())
}

/// Frames for which the ring has no room are counted, and treated as before.
fn unread_traces() -> Result<(), Failed> {
    const FRAMES: u64 = 200;

    let mut kernel = Classifier::load().map_err(|error| format!("{error:#}"))?;
    kernel.prepare(Rules { settings: Settings::unlimited(UnknownMachines::Pass), no_socket: false })?;
    kernel.trace(&[KNOWN])?;
    for _ in 0..FRAMES {
        assert_eq!(kernel.run(&FrameBuilder::default().build())?, Action::Redirect);
    }
    let (records, lost) = kernel.traces()?;
    assert!(records.len() > 30 && records.len() as u64 + lost == FRAMES, "{} records, {lost} lost", records.len());
    Ok(())
}

/// Of the requests that the program drops, it tells a few each second.
fn unseen_requests() -> Result<(), Failed> {
    let mut kernel = Classifier::load().map_err(|error| format!("{error:#}"))?;
    let (pass, drop) = (Settings::unlimited(UnknownMachines::Pass), Settings::unlimited(UnknownMachines::Drop));
    for (mac, settings, last, is_told) in [
        (UNKNOWN, pass, Action::Pass, false),
        (UNKNOWN, drop, Action::Drop, true),
        (KNOWN, drop, Action::Redirect, false),
        (KNOWN, small_bucket(UnknownMachines::Pass), Action::Drop, true),
    ] {
        kernel.prepare(Rules { settings, no_socket: false })?;
        let frame = FrameBuilder { chaddr: mac, ethernet_source: mac, ..FrameBuilder::default() }.build();
        // Each processor has a bucket of its own, and the test may move to another one.
        for _ in 0..999 {
            kernel.run(&frame)?;
        }
        assert_eq!(kernel.run(&frame)?, last, "{mac}");
        let (records, lost) = kernel.traces()?;
        let told = records.len() as u64 + lost;
        let expected = if is_told { 1..500 } else { 0..1 };
        assert!(expected.contains(&told), "{mac} {settings:?}: {told}");
        assert!(records.iter().all(|record| {
            Traced::read(record).is_some_and(|trace| trace.mac == mac && !trace.is_captured && trace.bytes == frame)
        }));
    }
    Ok(())
}

/// Prints the time for a frame. `cargo test -p pxe-tests --test classifier -- --ignored --nocapture`
fn time() -> Result<(), Failed> {
    for measurement in measure(100_000, 200_000)? {
        println!("{:5} ns  {}", measurement.nanoseconds, measurement.name);
    }
    Ok(())
}
