//! Boots that lead nowhere: the firmware has another architecture than the kernel of the spec. The machine still asks for its loader and its script,
//! and stays failed meanwhile.

use super::stage::Stage;
use crate::model::{
    event::{ArtifactKind, ClientKind, EventKind},
    failure::WRONG_ARCHITECTURE,
};

/// Returns whether a machine's boot leads nowhere after an event: its firmware has another architecture than the kernel of the spec. The next
/// firmware, or an iPXE that names its architecture, is judged again.
pub(super) fn doomed_after(is_doomed: bool, event: &EventKind) -> bool {
    match event {
        EventKind::WrongArchitecture { .. } => true,
        EventKind::Discover { client: ClientKind::Pxe | ClientKind::HttpBoot, .. }
        | EventKind::Discover { client: ClientKind::Ipxe, client_architecture: Some(_) } => false,
        EventKind::Failed { artifact: ArtifactKind::Script, reason, .. } if reason.starts_with(WRONG_ARCHITECTURE) => {
            true
        }
        _ => is_doomed,
    }
}

/// Returns `true` for the stages up to the script, which a machine with the wrong firmware still comes to.
pub(super) fn leads_nowhere(stage: Stage) -> bool {
    stage < Stage::LoadingKernel && stage != Stage::NeverSeen
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::journal::{fleet::Fleet, remembered::State, samples::*};

    fn stage_after(events: &[EventKind]) -> Stage {
        let mut fleet = Fleet::new(&State::new(), at(-60.0), 1);
        timed(MAC, events.iter().cloned()).iter().for_each(|event| _ = fleet.apply(event));
        fleet.machine(&Arc::new(machine(1)), 0).stage
    }

    fn asks(client: ClientKind, client_architecture: Option<u16>) -> EventKind {
        EventKind::Discover { client, client_architecture }
    }

    #[test]
    fn machine_with_the_wrong_firmware_stays_failed_to_its_script() {
        let wrong = || EventKind::WrongArchitecture { client_architecture: 6 };
        let firmware = [asks(Pxe, Some(6)), wrong(), offer(), request(Pxe), ack(Pxe)];
        let ipxe = [asks(Ipxe, Some(6)), wrong(), offer(), request(Ipxe), ack(Ipxe)];
        let silent_ipxe = [asks(Ipxe, None), offer(), request(Ipxe), ack(Ipxe)];
        for ipxe in [&ipxe[..], &silent_ipxe] {
            let boot = [&firmware[..], &load(Loader), ipxe, &load(Script)].concat();
            for seen in 2..=boot.len() {
                // iPXE's own question begins what is judged again.
                let is_asking = matches!(boot[seen - 1], EventKind::Discover { client_architecture: Some(_), .. });
                assert_eq!(stage_after(&boot[..seen]) == Stage::Failed, !is_asking, "{seen}: {:?}", boot[seen - 1]);
            }
            // It gets its kernel all the same, with another loader for example.
            let kernel = [&boot[..], &[requested(Kernel)]].concat();
            assert_eq!(stage_after(&kernel), Stage::LoadingKernel);
            // Somebody has corrected the firmware's setup.
            let corrected = [&boot[..], &[asks(Pxe, Some(7)), offer(), request(Pxe), ack(Pxe)]].concat();
            assert_eq!(stage_after(&corrected), Stage::Addressed);
        }
        let refused = [&dora(Ipxe)[..], &[requested(Script)]].concat();
        let reason = format!("{WRONG_ARCHITECTURE} (type 6)");
        let refused = [&refused[..], &[failed(Script, &reason), requested(Script)]].concat();
        assert_eq!(stage_after(&refused), Stage::Failed);
    }

    /// The answers to a DISCOVER that sends it to its disk follow in any order.
    #[test]
    fn machine_that_was_sent_to_its_disk_stays_there_until_it_asks_again() {
        let held = [discover(Pxe), EventKind::SentToDisk, offer(), request(Pxe), ack(Pxe), ack(Pxe)];
        for seen in 2..=held.len() {
            assert_eq!(stage_after(&held[..seen]), Stage::SentToDisk, "{seen}");
        }
        let held_by_script = [&dora(Ipxe)[..], &[EventKind::SentToDisk], &dora(Ipxe)[1..]].concat();
        assert_eq!(stage_after(&held_by_script), Stage::SentToDisk);
        assert_eq!(stage_after(&[&held[..], &dora(Plain)].concat()), Stage::OnDisk);
        assert_eq!(stage_after(&[&held[..], &[discover(Pxe)]].concat()), Stage::Discovering);
    }
}
