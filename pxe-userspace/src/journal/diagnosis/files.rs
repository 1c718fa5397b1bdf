//! The files that a machine boots: what of them is not there, and what to do about it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    super::{
        machine_record::MachineRecord,
        stage::Stage,
        words::{elapsed, human},
    },
    finding::Diagnosis,
    patience::PATIENCE,
};
use crate::model::{
    event::EventKind,
    failure::{ALTERED, NO_SUCH_FILE, UNVERIFIED},
    images::{Awaited, FileState, Images},
    policy::Disposition,
};

/// Returns the diagnosis of a machine that was told to wait for a file.
pub(super) fn awaiting(record: &MachineRecord, images: &Images, now: SystemTime) -> Diagnosis {
    let since = human(elapsed(record.stage_since, now));
    let silence = silence(record, now);
    let bootable = images.as_bootable(&record.machine);
    let Some(awaited) = images.awaited(bootable) else {
        let path = record.events.iter().rev().find_map(|event| match &event.kind {
            EventKind::Awaits { path, .. } => Some(&**path),
            _ => None,
        });
        let file = path.unwrap_or("a file");
        return Diagnosis {
            reached: format!("It was told to wait for {file} {since} ago. All files that it boots are there now."),
            waits_for: match silence {
                Some(_) => "Its next request.".to_owned(),
                None if last_asked(record).is_some() => {
                    "Its next request, which it makes every few seconds on its own.".to_owned()
                }
                None => "Its next request, which it makes every few seconds if it still waits.".to_owned(),
            },
            advice: silence.map(silent).into_iter().collect(),
        };
    };
    let file = if awaited.file.state.is_expected() { "That file." } else { "Somebody who sees to that file." };
    Diagnosis {
        reached: format!("It asked for its boot script and has been waiting for {since}: {}.", sentence(awaited, now)),
        waits_for: match silence {
            Some(_) => file.to_owned(),
            None => format!("{file} {} every few seconds, and boots as soon as the file is there.", asking(record)),
        },
        advice: silence.map(silent).into_iter().chain(remedies(awaited)).collect(),
    }
}

/// Returns the last event in which the machine was told to wait, unless an earlier pxed saw it: the history does not have every question.
fn last_asked(record: &MachineRecord) -> Option<SystemTime> {
    let mut events = record.events.iter().skip(record.restored);
    events.rfind(|event| matches!(event.kind, EventKind::Awaits { .. })).map(|event| event.at)
}

/// Returns the time since a machine that waits for a file last asked for it, if it should have asked again.
fn silence(record: &MachineRecord, now: SystemTime) -> Option<Duration> {
    last_asked(record).map(|asked| elapsed(asked, now)).filter(|silence| *silence > PATIENCE)
}

/// Returns the beginning of a sentence about how often a machine asks. Nobody knows of one that has not asked since pxed started.
fn asking(record: &MachineRecord) -> &'static str {
    if last_asked(record).is_some() { "It asks again" } else { "If it still waits, it asks again" }
}

/// Returns what became of a machine that waited for a file and does not ask any more.
fn silent(silence: Duration) -> String {
    format!(
        "It last asked {} ago, so it waits no longer: it may be switched off, or stand at a prompt. Look at its screen, or start it again.",
        human(silence)
    )
}

/// Adds what a machine has to wait for at its next boot, before it asks. With `after_first`, the first advice says why the file may be the
/// wrong one, and stays the first.
pub(super) fn remark(
    diagnosis: &mut Diagnosis,
    record: &MachineRecord,
    images: &Images,
    after_first: bool,
    now: SystemTime,
) {
    let begin = usize::from(after_first && !diagnosis.advice.is_empty());
    let bootable = images.as_bootable(&record.machine);
    let is_told = record.stage == Stage::AwaitingFiles && images.awaited(bootable).is_some();
    if record.boots_from == Disposition::Disk || is_told {
        return;
    }
    let is_previous = !Arc::ptr_eq(bootable, &record.machine);
    let Some(awaited) = images.awaited(bootable).or_else(|| images.awaited(&record.machine)) else { return };
    let what = sentence(awaited, now);
    if is_previous {
        diagnosis.reached += &format!(
            " It boots Talos {} until the files of {} are there: {what}.",
            bootable.version, record.machine.version
        );
    } else if awaited.file.state.is_expected() {
        diagnosis.reached += &format!(" At its next boot it has to wait for a file: {what}.");
    } else {
        diagnosis.advice.insert(begin, format!("It cannot boot: {what}."));
    }
    for (place, remedy) in (begin + 1..).zip(remedies(awaited)) {
        diagnosis.advice.insert(place.min(diagnosis.advice.len()), remedy);
    }
}

/// Returns what to do about a file that was refused because it was not there or not what was verified, by its present state. Returns `None` if
/// it was refused for another reason, or if no machine of the spec needs the file.
pub(super) fn refused(
    record: &MachineRecord,
    images: &Images,
    failure: &EventKind,
    now: SystemTime,
) -> Option<Vec<String>> {
    let EventKind::Failed { path, reason, .. } = failure else { return None };
    if ![NO_SUCH_FILE, UNVERIFIED, ALTERED].iter().any(|words| reason.starts_with(words)) {
        return None;
    }
    let path = path.trim_start_matches('/');
    let (path, file) = images.files().get_key_value(path.strip_prefix("assets/").unwrap_or(path))?;
    let refused = Awaited { path, file };
    if record.boots_from == Disposition::Network && images.awaited(images.as_bootable(&record.machine)) == Some(refused)
    {
        // `remark` says it.
        return Some(Vec::new());
    }
    let state = file.state.in_words(now);
    let state = match (file.state.is_served(), file.state.is_expected()) {
        (true, _) => format!("{path} {state}. The machine gets it at its next attempt."),
        (_, true) => format!("{path} {state}. The machine gets it at its next attempt after that."),
        _ => format!("{path} {state}."),
    };
    Some(std::iter::once(state).chain(remedies(refused)).collect())
}

/// Returns the file and its state.
fn sentence(awaited: Awaited<'_>, now: SystemTime) -> String {
    format!("its {} {} {}", awaited.noun(), awaited.path, awaited.file.state.in_words(now))
}

/// Returns what a person can type, unless the file comes by itself.
fn remedies(awaited: Awaited<'_>) -> Vec<String> {
    let begin = match awaited.file.state {
        FileState::Failed { .. } => "If that does not help, get the file by hand",
        FileState::Missing { .. } | FileState::Refused { .. } => "Get it",
        _ => return Vec::new(),
    };
    match &*awaited.file.remedy {
        [] => Vec::new(),
        commands => vec![format!("{begin}: {}. No restart is needed.", commands.join(", or "))],
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::{super::diagnose, *};
    use crate::{
        journal::{fleet::Fleet, remembered::State, samples::*},
        model::{
            images::{ImageFile, Stubs},
            inventory::Machine,
            policy::BootPolicy,
        },
    };

    const KERNEL: &str = "vmlinuz-v1.13.0-amd64";
    const INITRAMFS: &str = "initramfs-v1.13.0-amd64.xz";

    fn images(state: FileState, previous: Option<Machine>) -> Images {
        let file = ImageFile { remedy: ["pxed fetch".to_owned()].into(), ..state.into() };
        let files = [(KERNEL.into(), FileState::Verified.into()), (INITRAMFS.into(), file)].into();
        let previous: HashMap<_, _, _> = previous.into_iter().map(|machine| (machine.mac, Arc::new(machine))).collect();
        Images::new(files, previous, Stubs::default())
    }

    fn awaits(percent: u8) -> EventKind {
        EventKind::Awaits { path: INITRAMFS.into(), state: "fetching", percent: Some(percent) }
    }

    /// Returns the diagnosis, as one line, of a machine with these events and this state of its files.
    fn explained(events: &[EventKind], images: &Images, machine: Machine) -> String {
        let mut fleet = Fleet::new(&State::new(), at(-60.0), 1);
        let events = timed(MAC, events.iter().cloned());
        events.iter().for_each(|event| _ = fleet.apply(event));
        let last = events.last().map_or(at(0.0), |event| event.at);
        let record = fleet.machine(&Arc::new(machine), usize::MAX);
        let Diagnosis { reached, waits_for, advice } = diagnose(&record, images, last + Duration::from_secs(7));
        format!("{reached} | {waits_for} | {}", advice.join(" | "))
    }

    fn fetching() -> FileState {
        FileState::Fetching { done: 43, total: Some(100), rest: None }
    }

    #[test]
    fn machine_that_waits_is_explained_by_the_file_as_it_is_now() {
        let missing = || FileState::Missing { reason: "pxed runs with --offline".into() };
        let failed = || FileState::Failed { reason: "connection refused".into(), again: at(60.0) };
        let told = [discover(Ipxe), ack(Ipxe), awaits(40)];
        for (state, expected) in [
            (
                fetching(),
                &["has been waiting for 7 s", INITRAMFS, "43 percent", "boots as soon as the file is there"][..],
            ),
            (
                missing(),
                &["is missing: pxed runs with --offline", "Somebody who sees to that file", "Get it: pxed fetch."],
            ),
            (
                failed(),
                &["connection refused, and pxed tries again in 5", "If that does not help, get the file by hand: pxed"],
            ),
            (FileState::Verified, &["All files that it boots are there now", "Its next request"]),
        ] {
            let text = explained(&told, &images(state, None), machine(1));
            assert!(expected.iter().all(|part| text.contains(part)), "{expected:?}\n{text}");
            assert!(!text.contains("At its next boot"), "{text}");
        }
    }

    #[test]
    fn machine_that_stopped_asking_for_its_file_is_not_said_to_wait() {
        let mut fleet = Fleet::new(&State::new(), at(-60.0), 1);
        for event in &timed(MAC, [discover(Ipxe), ack(Ipxe), awaits(40)]) {
            fleet.apply(event);
        }
        let mut record = fleet.machine(&Arc::new(machine(1)), usize::MAX);
        let asked = record.events.last().unwrap().at;
        for state in [fetching(), FileState::Verified] {
            let images = images(state, None);
            let after = |record: &MachineRecord, seconds| {
                let Diagnosis { waits_for, advice, .. } =
                    diagnose(record, &images, asked + Duration::from_secs(seconds));
                (
                    waits_for.contains("every few seconds"),
                    waits_for.to_lowercase().contains("if it still waits"),
                    advice.iter().any(|advice| advice.contains("last asked")),
                )
            };
            assert_eq!(after(&record, 20), (true, false, false));
            assert_eq!(after(&record, 400), (false, false, true));
            // An earlier pxed saw it.
            let restored = std::mem::replace(&mut record.restored, 3);
            assert_eq!(after(&record, 400), (true, true, false));
            record.restored = restored;
        }
    }

    #[test]
    fn file_that_is_not_there_is_named_before_the_machine_asks() {
        let text = explained(&[], &images(fetching(), None), machine(1));
        assert!(text.contains("At its next boot it has to wait for a file: its initramfs initramfs-v1"), "{text}");
        let refused = images(FileState::Refused { reason: "its bytes changed".into() }, None);
        let text = explained(&[], &refused, machine(1));
        let expected = "It cannot boot: its initramfs initramfs-v1.13.0-amd64.xz is refused: its bytes changed. | Get it: pxed fetch.";
        assert!(text.contains(expected), "{text}");
        let text = explained(&[], &images(FileState::Verified, None), machine(1));
        assert!(!text.contains("initramfs"), "{text}");
        let held = Machine { policy: BootPolicy::Hold, ..machine(1) };
        let text = explained(&[], &refused, held);
        assert!(!text.contains("initramfs"), "{text}");
    }

    #[test]
    fn files_of_the_wrong_architecture_are_not_the_first_advice() {
        let missing = images(FileState::Missing { reason: "pxed runs with --offline".into() }, None);
        let events = [discover(Pxe), EventKind::WrongArchitecture { client_architecture: 11 }];
        let text = explained(&events, &missing, machine(1));
        let place = |words: &str| text.find(words).unwrap_or_else(|| panic!("no {words} in {text}"));
        assert!(place("cpuArchitecture amd64") < place("It cannot boot"), "{text}");
        assert!(place("It cannot boot") < place("Get it: pxed fetch"), "{text}");
    }

    #[test]
    fn refused_file_is_explained_as_it_is_now() {
        let loader = "ipxe-efi-x86_64.efi";
        let of = |path: &str, state: FileState| {
            let file = ImageFile { remedy: ["pxed fetch".to_owned()].into(), ..state.into() };
            Images::new([(path.into(), file)].into(), HashMap::default(), Stubs::default())
        };
        let reason = || "its bytes changed".into();
        for (state, expected) in [
            (
                FileState::Verified,
                "| ipxe-efi-x86_64.efi is there, as it was verified. The machine gets it at its next attempt.",
            ),
            (FileState::Verifying, "is being verified. The machine gets it at its next attempt after that."),
            (
                fetching(),
                "is being downloaded: 43 percent (0.0 kB of 0.1 kB). The machine gets it at its next attempt after that.",
            ),
            (
                FileState::Missing { reason: "pxed runs with --offline".into() },
                "| ipxe-efi-x86_64.efi is missing: pxed runs with --offline. | Get it: pxed fetch. No restart is needed.",
            ),
            (FileState::Refused { reason: reason() }, "is refused: its bytes changed. | Get it: pxed fetch."),
        ] {
            for words in [NO_SUCH_FILE, UNVERIFIED, ALTERED] {
                let events = [&dora(Pxe)[..], &[requested(Loader), failed(Loader, words)]].concat();
                let text = explained(&events, &of(loader, state.clone()), machine(1));
                assert!(text.contains(expected) && !text.contains("Delete"), "{words}: {text}");
            }
        }
        // The reason is said once.
        let kernel = [&dora(Ipxe)[..], &[requested(Kernel), failed(Kernel, ALTERED)]].concat();
        let text = explained(&kernel, &of(KERNEL, FileState::Refused { reason: reason() }), machine(1));
        assert_eq!(text.matches("is refused").count(), 1, "{text}");
        assert!(
            text.contains("| It cannot boot: its kernel vmlinuz-v1.13.0-amd64 is refused: its bytes changed."),
            "{text}"
        );
    }

    #[test]
    fn previous_version_is_named_with_what_the_new_one_lacks() {
        let before = Machine { version: "v1.12.0".into(), ..machine(1) };
        let text = explained(&[], &images(fetching(), Some(before)), machine(1));
        let expected =
            "It boots Talos v1.12.0 until the files of v1.13.0 are there: its initramfs initramfs-v1.13.0-amd64.xz is";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn waiting_is_one_event_however_long_it_takes() {
        let mut fleet = Fleet::new(&State::new(), at(-60.0), 1);
        let other = EventKind::Awaits { path: KERNEL.into(), state: "fetching", percent: None };
        let waits = (0..100).map(awaits).chain([other.clone(), awaits(99)]);
        for event in &timed(MAC, [discover(Ipxe), ack(Ipxe)].into_iter().chain(waits)) {
            fleet.apply(event);
        }
        let record = fleet.machine(&Arc::new(machine(1)), usize::MAX);
        let events: Vec<_> = record.events.iter().map(|event| event.kind.clone()).collect();
        assert_eq!(events, [discover(Ipxe), ack(Ipxe), awaits(99), other, awaits(99)]);
        assert_eq!((record.stage, record.last_error), (Stage::AwaitingFiles, None));
    }
}
