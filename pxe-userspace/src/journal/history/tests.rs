use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::{
    journal::samples::*,
    model::event::EventKind,
    own_file::{ASIDE_LIMIT, tests::OTHER_KINDS},
};

const LIMITS: HistoryLimits = HistoryLimits { bytes: 1 << 20, age: Duration::from_secs(86_400) };

/// Writes batches of events as the thread does, and returns its counters and its trouble.
fn write(state: &Path, limits: HistoryLimits, batches: &[Vec<BootEvent>]) -> (Counts, Option<String>) {
    let counts = Counts::default();
    let trouble = Trouble::default();
    let directory = state.join(DIRECTORY);
    let mut writer =
        Writer { directory, limits, current: None, retry: None, counts: counts.clone(), trouble: trouble.clone() };
    batches.iter().for_each(|events| writer.take(events));
    (counts, trouble.get())
}

fn recalled(state: &Path, limit: usize) -> (Vec<BootEvent>, Vec<String>) {
    let mut events = Vec::new();
    let losses = recall(state, limit, Some, |event| events.push(event));
    (events, losses)
}

fn segments(state: &Path) -> Vec<PathBuf> {
    segments::list(&state.join(DIRECTORY)).unwrap().into_iter().map(|segment| segment.path).collect()
}

#[test]
fn events_are_recalled_in_their_order_after_any_number_of_restarts() {
    let state = tempfile::tempdir().unwrap();
    assert_eq!(recalled(state.path(), 64), (Vec::new(), Vec::new()));
    let boot = timed(MAC, uefi_boot());
    let (counts, trouble) = write(state.path(), LIMITS, &[boot[..5].to_vec(), boot[5..9].to_vec()]);
    assert_eq!((counts.written.get(), counts.dropped.get(), trouble), (9, 0, None));
    write(state.path(), LIMITS, &[boot[9..].to_vec()]);
    assert_eq!(segments(state.path()).len(), 2);
    assert_eq!(recalled(state.path(), 64), (boot.clone(), Vec::new()));
    // The last events of each machine, from as many segments as it takes.
    let wanted = boot.len() - 7;
    assert_eq!(recalled(state.path(), wanted), (boot[7..].to_vec(), Vec::new()));
    let nobody = recall(state.path(), 64, |_| None, |event| panic!("{event:?}"));
    assert_eq!(nobody, [""; 0]);
}

#[test]
fn thread_writes_what_it_has_before_it_ends() {
    let state = tempfile::tempdir().unwrap();
    let counts = Counts::default();
    let history = History::start(state.path(), LIMITS, &counts).unwrap();
    let boot = timed(MAC, uefi_boot());
    boot.iter().for_each(|event| history.write(vec![event.clone()]));
    history.finish();
    assert_eq!(recalled(state.path(), 64), (boot, Vec::new()));
    // After its end nothing is written, and nobody hangs.
    history.write(timed(MAC, uefi_boot()));
}

#[test]
fn damaged_segment_is_cut_and_told_of_once() {
    let boot = timed(MAC, uefi_boot());
    let state = tempfile::tempdir().unwrap();
    write(state.path(), LIMITS, &[boot[..5].to_vec(), boot[5..].to_vec()]);
    let [segment] = &segments(state.path())[..] else { panic!() };
    let whole = fs::read(segment).unwrap();
    for cut in HEADER.len()..whole.len() {
        fs::write(segment, &whole[..cut]).unwrap();
        let (events, losses) = recalled(state.path(), 64);
        assert!(events.is_empty() || events == boot[..5], "{cut}: {events:?}");
        let is_at_a_border = fs::metadata(segment).unwrap().len() == cut as u64;
        assert_eq!(losses.is_empty(), is_at_a_border, "{cut}: {losses:?}");
        assert!(losses.iter().all(|loss| loss.contains("is damaged: its last") && loss.contains("0000000001.log")));
        assert_eq!(recalled(state.path(), 64), (events, Vec::new()), "told once");
    }
    // Later entries are in force.
    fs::write(segment, &whole[..whole.len() - 1]).unwrap();
    write(state.path(), LIMITS, &[boot[5..].to_vec()]);
    let (events, losses) = recalled(state.path(), 64);
    assert_eq!((events, losses.len()), (boot, 1));
}

#[test]
fn segment_of_another_version_is_set_aside() {
    let state = tempfile::tempdir().unwrap();
    let boot = timed(MAC, uefi_boot());
    write(state.path(), LIMITS, std::slice::from_ref(&boot));
    let directory = state.path().join(DIRECTORY);
    for number in 2..12 {
        fs::write(segments::path(&directory, number), b"pxedlog\x02and more").unwrap();
    }
    fs::write(segments::path(&directory, 12), b"pxed").unwrap();
    let (events, losses) = recalled(state.path(), 64);
    assert_eq!((&events, losses.len()), (&boot, 10));
    assert!(losses[0].contains("no segment of the history that this version of pxed can read"), "{losses:?}");
    let kept = fs::read_dir(&directory)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "bad"));
    assert_eq!(kept.count(), ASIDE_LIMIT);
    assert_eq!(recalled(state.path(), 64), (boot.clone(), Vec::new()));
    write(state.path(), LIMITS, &[boot]);
}

#[test]
fn history_is_bounded_and_keeps_the_newest() {
    let state = tempfile::tempdir().unwrap();
    let limits = HistoryLimits { bytes: 64 << 10, ..LIMITS };
    let boots: Vec<_> = (1..=1_000).map(|number| timed(machine(number).mac, uefi_boot())).collect();
    write(state.path(), limits, &boots);
    let size: u64 = segments(state.path()).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!((32 << 10..64 << 10).contains(&size), "{size}");
    let (events, losses) = recalled(state.path(), 64);
    assert_eq!(losses, [""; 0]);
    assert_eq!(events.last(), boots.last().unwrap().last());
    // By age: those that were not written for a day are gone with the next segment.
    let old = SystemTime::now() - Duration::from_secs(100_000);
    for path in segments(state.path()) {
        File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
    }
    write(state.path(), LIMITS, &boots[..1]);
    assert_eq!(recalled(state.path(), 64).0, boots[0]);
}

#[test]
fn disk_that_refuses_costs_the_history_alone() {
    let boot = timed(MAC, uefi_boot());
    for (make, _) in OTHER_KINDS {
        let state = tempfile::tempdir().unwrap();
        make(&state.path().join(DIRECTORY));
        if state.path().join(DIRECTORY).is_dir() {
            continue;
        }
        let (counts, trouble) = write(state.path(), LIMITS, &[boot.clone(), boot.clone()]);
        assert_eq!((counts.written.get(), counts.dropped.get()), (0, 2 * boot.len() as u64));
        assert!(trouble.unwrap().contains("boots go on"));
        let (events, losses) = recalled(state.path(), 64);
        assert_eq!((events.len(), losses.len()), (0, 1), "{losses:?}");
    }
    // A directory that somebody deletes, and one that comes back.
    let state = tempfile::tempdir().unwrap();
    let counts = Counts::default();
    let trouble = Trouble::default();
    let directory = state.path().join(DIRECTORY);
    let mut writer = Writer {
        directory: directory.clone(),
        limits: LIMITS,
        current: None,
        retry: None,
        counts: counts.clone(),
        trouble: trouble.clone(),
    };
    writer.take(&boot[..5]);
    fs::remove_dir_all(&directory).unwrap();
    writer.take(&boot[5..]);
    assert_eq!(recalled(state.path(), 64).0, boot[5..]);
    fs::remove_dir_all(&directory).unwrap();
    fs::write(&directory, "").unwrap();
    writer.take(&boot[..5]);
    assert!(trouble.get().is_some());
    fs::remove_file(&directory).unwrap();
    writer.retry = None;
    writer.take(&boot[..5]);
    assert_eq!((trouble.get(), counts.dropped.get()), (None, 5));
    let mode = fs::metadata(&segments(state.path())[0]).unwrap().permissions().mode();
    assert_eq!(mode & 0o022, 0, "nobody else may write it");
}

#[test]
fn clock_that_is_set_back_keeps_the_order() {
    let state = tempfile::tempdir().unwrap();
    let mut boot = timed(MAC, uefi_boot());
    for event in &mut boot[6..] {
        event.at -= Duration::from_secs(3_600);
    }
    let kinds = |events: &[BootEvent]| events.iter().map(|event| event.kind.clone()).collect::<Vec<EventKind>>();
    write(state.path(), LIMITS, &[boot.clone()]);
    assert_eq!(kinds(&recalled(state.path(), 64).0), kinds(&boot));
}
