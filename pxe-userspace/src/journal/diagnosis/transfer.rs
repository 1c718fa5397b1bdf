//! A transfer that does not go on: how much of the file has arrived, and what that says about the way.

use std::{
    net::Ipv4Addr,
    time::{Duration, SystemTime},
};

use super::super::{
    describe::human_bytes,
    machine_record::MachineRecord,
    words::{elapsed, human},
};
use crate::model::{event::Transport, progress::Progress};

/// The time without another byte after which a transfer stands still. A packet that was lost is sent again within seconds.
pub(super) const STANDS_STILL: Duration = Duration::from_secs(10);

/// The bytes of a block of TFTP without options, which every path carries.
const USUAL_BLOCK: u32 = 512;
/// The headers of TFTP and UDP in front of a block. Those of IP and ICMP are as long as those of IP and UDP.
const TFTP_HEADERS: u32 = 4;
/// The bytes of a full segment of TCP on Ethernet. An answer that is longer has at least one.
const FULL_SEGMENT: u64 = 1_448;
/// The payload with which ping makes a packet as long as Ethernet's MTU.
const FULL_PING: u32 = 1_472;

/// Returns how much of a file has arrived, with the time for which no more has come if it stands still.
pub(super) fn so_far(progress: &Progress, now: SystemTime) -> String {
    let Progress { done, total, advanced, .. } = *progress;
    let part = format!("{} of {}", human_bytes(done), human_bytes(total));
    let since = elapsed(advanced, now);
    if since < STANDS_STILL { part } else { format!("{part} for {}", human(since)) }
}

/// Returns `true` if no byte has come for so long that something is wrong.
pub(super) fn stands_still(progress: &Progress, now: SystemTime) -> bool {
    progress.is_running && elapsed(progress.advanced, now) >= STANDS_STILL
}

/// Returns what to do about a transfer to a machine that stalls.
pub(super) fn of_machine(record: &MachineRecord, transport: Transport) -> String {
    stalled(transport, record.progress.as_ref(), (record.server, record.machine.address))
}

/// Returns what to do about a transfer from this address to a machine that stalls. `progress` is that of the transfer, if it is known.
fn stalled(transport: Transport, progress: Option<&Progress>, (from, to): (Ipv4Addr, Ipv4Addr)) -> String {
    let progress = progress.filter(|progress| progress.transport == transport);
    let ping = |bytes| {
        format!("Compare ping -M do -s {bytes} -I {from} {to} with a shorter one while the machine has its address.")
    };
    match (transport, progress) {
        (Transport::Tftp, Some(&Progress { done: 0, block, .. })) if block > USUAL_BLOCK => format!(
            "Its short packets arrive here, and none of the {block} bytes long blocks is acknowledged: the path MTU is below the interface's (a \
             tunnel, or jumbo frames on one side only), or a firewall lets long packets not pass. {}",
            ping(block + TFTP_HEADERS)
        ),
        (Transport::Http, Some(&Progress { done: 0, total, .. })) if total > FULL_SEGMENT => format!(
            "Its request arrived here, and no full-sized packet of the answer is acknowledged: the path MTU is below the interface's (a tunnel, or \
             jumbo frames on one side only) and the router that should say so is not heard, or a firewall lets long packets not pass. {}",
            ping(FULL_PING)
        ),
        (_, Some(&Progress { done, total, .. })) if done > 0 => format!(
            "The transfer stalls after {} of {}, so packets of every size pass: the machine was switched off or hangs, its link loses packets \
             (ethtool -S), another host has its address, or its network card's driver in the loader fails at full speed.",
            human_bytes(done),
            human_bytes(total)
        ),
        (Transport::Tftp, _) => "The transfer stalls. A firewall may allow UDP port 69 but not the high port that TFTP continues on, or the path MTU \
                                 is below the interface's (jumbo frames on one side only)."
            .to_owned(),
        (Transport::Http, _) => "The transfer stalls. Look for loss on the link (ethtool -S), for another host with its address, and for a network \
                                 card whose driver in iPXE fails at full speed."
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{journal::samples::at, model::event::ArtifactKind};

    fn progress(transport: Transport, done: u64, block: u32) -> Progress {
        let (since, advanced) = (at(0.0), at(0.0));
        let artifact = ArtifactKind::Loader;
        Progress { artifact, transport, done, total: 1_000_000, block, since, advanced, is_running: true }
    }

    #[test]
    fn transfer_that_stands_still_says_for_how_long() {
        let stuck = progress(Transport::Tftp, 0, 1_428);
        assert_eq!(so_far(&stuck, at(40.0)), "0 B of 1.0 MB for 40 s");
        assert_eq!(so_far(&progress(Transport::Tftp, 500_000, 512), at(3.0)), "500.0 kB of 1.0 MB");
        assert!(stands_still(&stuck, at(40.0)) && !stands_still(&stuck, at(3.0)));
        assert!(!stands_still(&Progress { is_running: false, ..stuck }, at(40.0)));
    }

    #[test]
    fn bytes_that_arrived_tell_the_path_from_the_link() {
        use Transport::{Http, Tftp};
        let way = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 9));
        let advice = |transport, progress: Option<Progress>| stalled(transport, progress.as_ref(), way);
        let mtu = advice(Tftp, Some(progress(Tftp, 0, 1_428)));
        assert!(
            mtu.contains("1428 bytes") && mtu.contains("path MTU") && mtu.contains("-s 1432 -I 10.0.0.1 10.0.0.9"),
            "{mtu}"
        );
        let mtu = advice(Http, Some(progress(Http, 0, 0)));
        assert!(mtu.contains("path MTU") && mtu.contains("-s 1472"), "{mtu}");
        for (transport, block) in [(Tftp, 1_428), (Http, 0)] {
            let lossy = advice(transport, Some(progress(transport, 500_000, block)));
            assert!(lossy.contains("500.0 kB of 1.0 MB") && !lossy.contains("MTU"), "{lossy}");
        }
        // Blocks of the usual length pass everywhere, and a progress of the other protocol says nothing.
        assert!(advice(Tftp, Some(progress(Tftp, 0, 512))).contains("high port"));
        assert!(advice(Tftp, Some(progress(Http, 0, 0))).contains("high port"));
        assert!(advice(Http, None).contains("loss on the link"));
    }
}
