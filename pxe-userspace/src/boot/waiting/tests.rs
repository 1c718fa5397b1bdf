use std::{sync::Arc, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::model::{
    architecture::Architecture,
    images::{FileState, ImageFile},
    testing::{assert_golden, machine},
};

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

fn named() -> Machine {
    Machine { hostname: Some("node-1".into()), ..Machine::clone(&machine(1, Architecture::Amd64, "v1.13.0", None)) }
}

/// Returns the script and the configuration for a file in this state.
fn answers(state: FileState, remedy: &[&str]) -> [String; 2] {
    let remedy = remedy.iter().map(ToString::to_string).collect();
    let file = ImageFile { remedy, ..state.into() };
    let awaited = Awaited { path: "initramfs-v1.13.0-amd64.xz", file: &file };
    let url = "http://10.0.0.1:8000/boot/02:00:00:00:00:01.ipxe";
    [ipxe_script(&named(), awaited, url, NOW), grub_config(&named(), awaited, "(tftp,10.0.0.1)", NOW)]
}

#[test]
fn answers_match_the_goldens() {
    let total = Some(80_000_000);
    for (name, state) in [
        ("fetching", FileState::Fetching { done: 34_567_890, total, rest: Some(Duration::from_secs(130)) }),
        (
            "failed",
            FileState::Failed {
                reason: "https://mirror.example/v1.13.0/initramfs-amd64.xz answered 503 Service Unavailable; check the mirror".into(),
                again: NOW + Duration::from_secs(30),
            },
        ),
        ("missing", FileState::Missing { reason: "pxed runs with --offline".into() }),
    ] {
        let [ipxe, grub] = answers(state, &["curl -fL -o '/srv/initramfs' https://mirror.example/x?a=$b;c"]);
        assert_golden(&format!("src/boot/waiting/golden/{name}.ipxe"), &ipxe);
        assert_golden(&format!("src/boot/waiting/golden/{name}.cfg"), &grub);
    }
}

#[test]
fn machine_asks_again_whatever_the_state() {
    let reason: Arc<str> = "why".into();
    for (state, seconds) in [
        (FileState::Verifying, 5),
        (FileState::Queued, 5),
        (FileState::Fetching { done: 0, total: None, rest: None }, 5),
        (FileState::Failed { reason: Arc::clone(&reason), again: NOW }, 5),
        (FileState::Missing { reason: Arc::clone(&reason) }, 10),
        (FileState::Refused { reason }, 10),
    ] {
        let [ipxe, grub] = answers(state.clone(), &[]);
        assert!(ipxe.contains(&format!("\nsleep {seconds} ")) && ipxe.contains("\nchain --replace "), "{state:?}");
        let source = "source (tftp,10.0.0.1)/grub.cfg-01-02-00-00-00-00-01;";
        assert!(grub.contains(&format!("sleep --interruptible {seconds};")) && grub.contains(source), "{state:?}");
        assert!([ipxe, grub].iter().all(|text| text.contains(&format!("asks again every {seconds} s"))), "{state:?}");
    }
}

proptest! {
    /// A reason may quote what a server sent.
    #[test]
    fn reason_starts_no_command(reason in "[ -~\n\t\u{e9}]{0,60}") {
        let [ipxe, grub] = answers(FileState::Failed { reason: reason.as_str().into(), again: NOW }, &[&reason]);
        let [plain_ipxe, plain_grub] = answers(FileState::Failed { reason: "x".into(), again: NOW }, &["x"]);
        for (text, plain) in [(&ipxe, &plain_ipxe), (&grub, &plain_grub)] {
            prop_assert_eq!(text.lines().count(), plain.lines().count());
            for (line, plain) in text.lines().zip(plain.lines()) {
                match line.strip_prefix("echo ") {
                    Some(echoed) if line != plain => {
                        let words = echoed.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')).unwrap_or(echoed);
                        prop_assert!(!words.contains(|c: char| "'\"\\$&|;<>{}#\n".contains(c) || !c.is_ascii()), "{}", line);
                    }
                    _ => prop_assert_eq!(line, plain),
                }
            }
        }
    }
}
