//! The times of a fleet, and the limits that follow.

use proptest::prelude::*;

use super::*;

const KERNEL: (Stage, Stage) = (Stage::LoadingKernel, Stage::LoadingInitramfs);

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn lab() -> Arc<str> {
    Arc::from("lab")
}

#[test]
fn limit_is_never_below_the_floor_of_the_step() {
    let mut pace = Pace::default();
    for stage in Stage::ALL {
        let expected = floor(stage).filter(|_| !may_be_the_end(stage));
        assert_eq!(pace.limit("lab", Chain::Pxe, stage), expected, "{stage}");
    }
    for _ in 0..100 {
        pace.note(&lab(), Chain::Pxe, KERNEL, Duration::from_millis(1));
    }
    assert_eq!(pace.limit("lab", Chain::Pxe, Stage::LoadingKernel), Some(LOAD));
}

#[test]
fn limit_follows_the_times_of_the_cluster_and_else_of_the_fleet() {
    let mut pace = Pace::default();
    let limit = |pace: &Pace, cluster: &str, chain| pace.limit(cluster, chain, Stage::LoadingKernel).unwrap();
    for count in 1..=ENOUGH {
        assert_eq!(limit(&pace, "lab", Chain::Pxe), LOAD, "{count}");
        pace.note(&lab(), Chain::Pxe, KERNEL, seconds(200));
    }
    let slow = limit(&pace, "lab", Chain::Pxe);
    assert!(slow >= seconds(800) && slow <= seconds(1_200), "{slow:?}");
    // Another cluster has nothing of its own yet, and another way of booting has nothing at all.
    assert_eq!(limit(&pace, "prod", Chain::Pxe), slow);
    assert_eq!(limit(&pace, "prod", Chain::HttpBoot), LOAD);
    for _ in 0..ENOUGH {
        pace.note(&Arc::from("prod"), Chain::Pxe, KERNEL, seconds(2));
    }
    assert_eq!((limit(&pace, "prod", Chain::Pxe), limit(&pace, "lab", Chain::Pxe)), (LOAD, slow));
    // The kernel says nothing about the loader.
    assert_eq!(pace.limit("lab", Chain::Pxe, Stage::LoadingLoader), Some(DOUBLE));
}

#[test]
fn few_that_take_long_do_not_raise_the_limit_and_new_times_replace_old_ones() {
    let mut pace = Pace::default();
    let limit = |pace: &Pace| pace.limit("lab", Chain::Pxe, Stage::LoadingKernel).unwrap();
    for index in 0..1_000 {
        pace.note(&lab(), Chain::Pxe, KERNEL, seconds(if index % 50 == 0 { 3_000 } else { 10 }));
    }
    assert_eq!(limit(&pace), LOAD);
    for _ in 0..4 * FULL {
        pace.note(&lab(), Chain::Pxe, KERNEL, seconds(100));
    }
    assert!(limit(&pace) > seconds(390), "{:?}", limit(&pace));
}

#[test]
fn boot_that_breaks_off_says_nothing() {
    let mut pace = Pace::default();
    for to in [Stage::Failed, Stage::Discovering, Stage::KernelDone, Stage::SentToDisk, Stage::OnDisk] {
        (0..ENOUGH).for_each(|_| pace.note(&lab(), Chain::Pxe, (Stage::LoadingKernel, to), seconds(1_000)));
    }
    // It waited for files, which no machine is to blame for.
    let waits = (Stage::AwaitingFiles, Stage::LoadingKernel);
    (0..ENOUGH).for_each(|_| pace.note(&lab(), Chain::Pxe, waits, seconds(1_000)));
    assert_eq!(pace.limit("lab", Chain::Pxe, Stage::LoadingKernel), Some(LOAD));
    assert_eq!(pace.limit("lab", Chain::Pxe, Stage::Scripted), Some(SHORT));
}

#[test]
fn system_that_never_asks_or_answers_is_stuck_only_if_others_of_its_cluster_do() {
    let mut pace = Pace::default();
    for (from, to) in [(Stage::Booting, Stage::Running), (Stage::Running, Stage::Up)] {
        assert_eq!(pace.limit("lab", Chain::Pxe, from), None, "{from}");
        (0..ENOUGH).for_each(|_| pace.note(&lab(), Chain::Pxe, (from, to), seconds(20)));
        assert_eq!(pace.limit("lab", Chain::Pxe, from), Some(START), "{from}");
        // Its machines may have fixed addresses, or a firewall in front of them.
        assert_eq!(pace.limit("prod", Chain::Pxe, from), None, "{from}");
    }
}

#[test]
fn start_of_the_system_is_not_part_of_the_time_for_its_files() {
    let mut pace = Pace::default();
    let (files, start) = ((Stage::LoadingInitramfs, Stage::Booting), (Stage::Booting, Stage::Running));
    for _ in 0..ENOUGH {
        pace.note(&lab(), Chain::Pxe, files, seconds(5));
        pace.note(&lab(), Chain::Pxe, start, seconds(1_000));
    }
    assert_eq!(pace.limit("lab", Chain::Pxe, files.0), Some(LOAD));
    assert!(pace.limit("lab", Chain::Pxe, start.0).unwrap() >= seconds(4_000));
    assert!(begins_a_step(files.0, files.1) && !begins_a_step(start.0, start.0));
}

#[test]
fn ipxe_that_tries_again_after_a_failure_belongs_to_the_chain_before() {
    for stage in Stage::ALL {
        let is_first = stage == Stage::NeverSeen || stage >= Stage::Running && stage != Stage::Failed;
        let expected = if is_first { Chain::Ipxe } else { Chain::Pxe };
        assert_eq!(Chain::Pxe.after(ClientKind::Ipxe, stage), expected, "{stage}");
    }
}

#[test]
fn clusters_have_a_bound_and_those_that_left_are_forgotten() {
    let mut pace = Pace::default();
    for number in 0..2 * CLUSTERS {
        pace.note(&Arc::from(format!("c{number}")), Chain::Pxe, KERNEL, seconds(1));
    }
    assert_eq!(pace.clusters.len(), CLUSTERS);
    pace.keep(|cluster| cluster == "c7");
    assert_eq!(pace.clusters.len(), 1);
}

proptest! {
    #[test]
    fn any_times_have_a_limit(times in prop::collection::vec(any::<u64>(), 0..64)) {
        let mut pace = Pace::default();
        times.iter().for_each(|&time| pace.note(&lab(), Chain::Ipxe, KERNEL, Duration::from_millis(time)));
        let limit = pace.limit("lab", Chain::Ipxe, Stage::LoadingKernel).unwrap();
        prop_assert!(limit >= LOAD && limit <= seconds(60 * 60 * 8 * 4));
    }
}
