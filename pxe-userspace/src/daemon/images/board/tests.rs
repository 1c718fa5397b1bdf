use super::*;
use crate::model::{
    architecture::Architecture,
    image_source::ImageSource,
    inventory::Inventory,
    loader::{LoaderFile, OwnLoaders},
    testing::machine,
};

const KERNEL: &str = "vmlinuz-v1.13.0-amd64";
const INITRAMFS: &str = "initramfs-v1.13.0-amd64.xz";
const EFI: &str = "ipxe-efi-x86_64.efi";
const BIOS: &str = "undionly.kpxe";

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
}

/// Returns the account of a fleet of these machines.
fn account(versions: &[(&str, Architecture)], offline: Option<&str>) -> Board {
    let mut board = Board::new(offline.map(Arc::from));
    replan(&mut board, versions);
    board
}

fn replan(board: &mut Board, versions: &[(&str, Architecture)]) {
    let machines =
        (1..).zip(versions).map(|(number, (version, architecture))| machine(number, *architecture, version, None));
    let plan = crate::artifacts::plan(&Inventory::new(machines.collect()), Default::default());
    board.plan(&plan, |_| vec!["pxed fetch".to_owned()]);
}

fn one() -> Board {
    account(&[("v1.13.0", Architecture::Amd64)], None)
}

fn state(board: &Board, path: &str) -> FileState {
    board.files().get(path).unwrap().state.clone()
}

/// Begins tasks and returns their files.
fn begin(board: &mut Board, places: usize, asked: &[&str], now: SystemTime) -> Vec<String> {
    let asked = asked.iter().map(|&path| path.into()).collect();
    board.begin(places, &asked, now).iter().map(|task| task.job().path.to_string()).collect()
}

fn by_hand() -> Found {
    Found::ByHand { implausible: None }
}

fn failed(reason: &str, retry_after: Option<u64>) -> Ended {
    Ended::Failed { reason: reason.to_owned(), retry_after: retry_after.map(Duration::from_secs) }
}

#[test]
fn missing_files_are_fetched_the_most_needed_first() {
    let mut two = account(
        &[("v1.13.0", Architecture::Amd64), ("v1.12.0", Architecture::Amd64), ("v1.12.0", Architecture::Amd64)],
        None,
    );
    let (kernel, initramfs) = ("vmlinuz-v1.12.0-amd64", "initramfs-v1.12.0-amd64.xz");
    // The loader first, then what more machines need, then the rest, and at last what only a BIOS needs.
    let all = begin(&mut two, 9, &[], at(0));
    assert_eq!((&*all[0], &*all[5]), (EFI, BIOS), "{all:?}");
    assert!(all[1..3].iter().all(|path| path == kernel || path == initramfs), "{all:?}");
    assert_eq!(two.running(), 6);
    assert!(begin(&mut two, 9, &[], at(0)).is_empty());

    let mut asked = one();
    assert_eq!(begin(&mut asked, 1, &[INITRAMFS], at(0)), [INITRAMFS]);
}

#[test]
fn download_is_seen_from_its_queue_to_its_end() {
    let mut board = one();
    assert_eq!(state(&board, KERNEL), FileState::Queued);
    begin(&mut board, 9, &[], at(0));
    assert_eq!(state(&board, KERNEL), FileState::Fetching { done: 0, total: None, rest: None });
    board.step(KERNEL, Progress::Queued, at(0));
    assert_eq!(state(&board, KERNEL), FileState::Queued);
    for (seconds, done) in [(0, 0), (1, 10), (2, 20)] {
        board.step(KERNEL, Progress::Receiving { done, total: Some(100) }, at(seconds));
    }
    let rest = Some(Duration::from_secs(8));
    assert_eq!(state(&board, KERNEL), FileState::Fetching { done: 20, total: Some(100), rest });
    let pause = Progress::Pausing { reason: "reset".to_owned(), pause: Duration::from_secs(4) };
    // The same step, looked at again a second later, is the same pause.
    for seconds in [3, 4] {
        board.step(KERNEL, pause.clone(), at(seconds));
        assert_eq!(state(&board, KERNEL), FileState::Failed { reason: "reset".into(), again: at(7) });
    }
    assert_eq!(board.end(KERNEL, Ended::Done, at(8)), None);
    board.find(KERNEL, Found::Recorded);
    assert_eq!(state(&board, KERNEL), FileState::Verified);
    assert!(begin(&mut board, 9, &[], at(9)).is_empty());
}

#[test]
fn failed_file_is_tried_again_for_ever_with_growing_pauses() {
    let mut board = one();
    let mut now = at(0);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        assert!(begin(&mut board, 9, &[], now).contains(&KERNEL.to_owned()));
        let Next { again, is_repeated } = board.end(KERNEL, failed("404", None), now).unwrap();
        assert_eq!(is_repeated, !pauses.is_empty());
        assert!(board.has_failed(KERNEL) && !board.has_failed(INITRAMFS));
        assert_eq!(state(&board, KERNEL), FileState::Failed { reason: "404".into(), again });
        pauses.push(again.duration_since(now).unwrap().as_secs());
        assert!(!begin(&mut board, 9, &[], again - Duration::from_secs(1)).contains(&KERNEL.to_owned()));
        now = again;
    }
    assert_eq!(pauses, [10, 20, 40, 80, 160, 300, 300, 300]);
    // A server may ask for more.
    begin(&mut board, 9, &[], now);
    let next = Next { again: now + Duration::from_secs(900), is_repeated: false };
    assert_eq!(board.end(KERNEL, failed("503", Some(900)), now), Some(next));
    // But not for ever.
    for asked in [3_600, 3_601, u64::MAX] {
        now = at(10_000_000 + asked.min(4_000));
        begin(&mut board, 9, &[], now);
        let next = board.end(KERNEL, failed("503", Some(asked)), now).unwrap();
        assert_eq!(next.again, now + Duration::from_secs(3_600), "{asked}");
        now += Duration::from_secs(3_600);
        begin(&mut board, 9, &[], now);
        board.end(KERNEL, failed("404", None), now);
    }
    // Another file does not wait for this one.
    assert_eq!(state(&board, INITRAMFS), FileState::Fetching { done: 0, total: None, rest: None });
}

#[test]
fn file_of_a_package_is_said_to_be_one() {
    let mut board = one();
    board.find(EFI, Found::Packaged);
    assert_eq!(state(&board, EFI), FileState::Packaged);
    assert!(!begin(&mut board, 9, &[], at(0)).contains(&EFI.to_owned()));
    // The package goes.
    board.find(EFI, Found::Nothing);
    assert_eq!(begin(&mut board, 9, &[], at(0)), [EFI]);
}

#[test]
fn clock_that_is_set_back_ends_a_pause() {
    let mut board = one();
    begin(&mut board, 9, &[], at(1_000));
    board.end(KERNEL, failed("404", None), at(1_000));
    assert!(begin(&mut board, 9, &[], at(1_009)).is_empty());
    assert_eq!(begin(&mut board, 9, &[], at(0)), [KERNEL]);
}

#[test]
fn file_that_somebody_puts_there_ends_the_wait() {
    let mut board = one();
    begin(&mut board, 9, &[], at(0));
    board.end(KERNEL, failed("404", None), at(0));
    board.find(KERNEL, by_hand());
    assert_eq!(state(&board, KERNEL), FileState::ByHand);
    // It is compared with its published checksum, once.
    let tasks = board.begin(9, &BTreeSet::new(), at(1));
    assert!(matches!(&tasks[..], [Task::Compare(job)] if &*job.path == KERNEL), "{tasks:?}");
    assert_eq!(state(&board, KERNEL), FileState::ByHand);
    board.end(KERNEL, Ended::Done, at(2));
    assert!(board.is_compared(KERNEL) && begin(&mut board, 9, &[], at(3)).is_empty());
    // It goes again.
    board.find(KERNEL, Found::Nothing);
    assert_eq!(begin(&mut board, 9, &[], at(4)), [KERNEL]);
}

#[test]
fn altered_file_is_fetched_again_if_it_was_as_recorded() {
    let altered = || Found::Altered("its bytes changed".into());
    let refused = FileState::Refused { reason: "its bytes changed".into() };
    for is_known in [true, false] {
        let mut board = one();
        if is_known {
            board.was_recorded(KERNEL);
        }
        board.find(KERNEL, Found::Unverified);
        assert_eq!(state(&board, KERNEL), FileState::Verifying);
        board.find(KERNEL, altered());
        assert_eq!(begin(&mut board, 9, &[], at(0)).contains(&KERNEL.to_owned()), is_known);
        assert_eq!(state(&board, KERNEL) == refused, !is_known);
    }
    // A file that a person put there in its place is the person's.
    let mut board = one();
    board.find(KERNEL, Found::Recorded);
    board.find(KERNEL, Found::Nothing);
    board.find(KERNEL, by_hand());
    board.find(KERNEL, altered());
    assert_eq!(state(&board, KERNEL), refused);
    // Offline, it is refused whatever it was.
    let mut offline = account(&[("v1.13.0", Architecture::Amd64)], Some("offline"));
    offline.was_recorded(KERNEL);
    offline.find(KERNEL, altered());
    assert_eq!(state(&offline, KERNEL), refused);
}

#[test]
fn nothing_is_fetched_offline_or_without_a_source() {
    let mut offline = account(&[("v1.13.0", Architecture::Amd64)], Some("pxed runs with --offline"));
    assert!(begin(&mut offline, 9, &[], at(0)).is_empty());
    assert_eq!(state(&offline, KERNEL), FileState::Missing { reason: "pxed runs with --offline".into() });
    offline.find(KERNEL, by_hand());
    assert!(begin(&mut offline, 9, &[], at(0)).is_empty() && offline.is_compared(KERNEL));

    let mut own = OwnLoaders::default();
    own.set(Some(LoaderFile::EfiX64), Some("shim/shimx64.efi".into()));
    let machine = machine(1, Architecture::Amd64, "v1.13.0", None);
    let with_own = Arc::new(crate::model::inventory::Machine { loaders: Some(own.into()), ..(*machine).clone() });
    let mut board = Board::new(None);
    board.plan(&crate::artifacts::plan(&Inventory::new(vec![with_own]), Default::default()), |_| Vec::new());
    assert!(!begin(&mut board, 9, &[], at(0)).contains(&"shim/shimx64.efi".to_owned()));
    assert!(
        matches!(state(&board, "shim/shimx64.efi"), FileState::Missing { reason } if reason.contains("no upstream"))
    );
}

#[test]
fn another_plan_keeps_what_is_known_and_drops_what_is_not_needed() {
    let mut board = one();
    begin(&mut board, 9, &[], at(0));
    board.step(KERNEL, Progress::Receiving { done: 5, total: None }, at(0));
    replan(&mut board, &[("v1.13.0", Architecture::Amd64), ("v1.14.0", Architecture::Amd64)]);
    assert_eq!(state(&board, KERNEL), FileState::Fetching { done: 5, total: None, rest: None });
    assert_eq!(begin(&mut board, 9, &[], at(1)).len(), 2);
    replan(&mut board, &[("v1.14.0", Architecture::Amd64)]);
    assert!(!board.files().contains_key(KERNEL));
    // A task that ends for a file that nobody needs any more.
    assert_eq!(board.end(KERNEL, failed("404", None), at(2)), None);
    assert_eq!(ImageSource::loader(EFI).is_some(), board.files().contains_key(EFI));
}

#[test]
fn task_that_ended_without_a_result_begins_again() {
    let mut board = one();
    let first = begin(&mut board, 1, &[], at(0));
    assert_eq!((first.len(), board.running()), (1, 1));
    assert_ne!(begin(&mut board, 1, &[], at(1)), first);
    board.forget_running();
    assert_eq!(board.running(), 0);
    assert_eq!(begin(&mut board, 1, &[], at(2)), first);
}
