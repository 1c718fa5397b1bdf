//! DHCP answers in frames to the machine alone, and the unguessable parts of URLs in them.

use std::net::Ipv4Addr;

use anyhow::{Context, ensure};
use pxe_lab::{
    Datapath,
    cluster::{Machine, cluster, with_annotation},
};

use crate::{
    bench::Bench,
    wire::{BROADCAST, Mac, OFFER, Query, Reply, mac},
};

/// The hardware address of a host that is no machine.
const ATTACKER: Mac = [0x02, 0x66, 0, 0, 0, 1];
/// The broadcast flag.
const FLAG: u16 = 0x8000;

fn number(number: u8, kernel_args: &str) -> Machine {
    Machine { kernel_args: kernel_args.to_owned(), ..Machine::number(number) }
}

/// Returns a DISCOVER of iPXE.
fn ipxe(machine: &Machine) -> anyhow::Result<Query> {
    Ok(Query::discover(machine)?.with(&[(53, &[1]), (77, b"iPXE")]))
}

/// Returns the URL that a reply names.
fn url(reply: &Reply) -> String {
    String::from_utf8_lossy(reply.option(67).unwrap_or_default()).into_owned()
}

/// Returns the replies to a question that is asked twice.
fn twice(plug: &crate::plug::Plug, question: &Query, probe: &Machine) -> anyhow::Result<Vec<Reply>> {
    let replies = plug.replies_to(&[question.frame(), question.frame()], &Query::discover(probe)?)?;
    Ok(replies.into_iter().filter(|reply| reply.xid() == question.xid).collect())
}

/// Answers to all go to the machine that asked. Only a repeated question gets one in a frame to all, too.
pub(crate) fn for_the_machine_alone(datapath: Datapath) -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let (machine, other) = (number(1, ""), number(2, ""));
    let spec = cluster(&[machine.clone(), other.clone()]);
    let annotated = with_annotation(&spec, &format!("pxed.dev/dhcp-answers.{}: broadcast", other.address));
    let _pxed = bench.pxed_with(datapath, &annotated, &["--machine-rate", "0"])?;
    let plug = bench.plug()?;
    for (flags, first) in [(FLAG, Ipv4Addr::BROADCAST), (0, machine.address.parse()?)] {
        let question = Query { flags, ..Query::discover(&machine)? };
        let replies = twice(&plug, &question, &machine)?;
        let to = |reply: &Reply| (reply.ethernet_destination, *reply.destination.ip());
        let seen: Vec<_> = replies.iter().map(to).collect();
        let own = (question.chaddr, first);
        ensure!(seen == [own, own, (BROADCAST, Ipv4Addr::BROADCAST)], "{datapath:?} {flags:#x}: {replies:?}");
        ensure!(replies.iter().all(|reply| reply.kind() == Some(OFFER) && reply.message == replies[0].message));
        // A bridge that puts its own address into frames does not forward what goes to the machine's.
        let through = Query { ethernet_source: ATTACKER, flags, ..Query::discover(&machine)? };
        let reply = plug.ask(&through)?;
        let expected = if flags == FLAG { BROADCAST } else { question.chaddr };
        ensure!(reply.ethernet_destination == expected, "{reply:?}");
        // Firmware that takes nothing else.
        let reply = plug.ask(&Query { flags, ..Query::discover(&other)? })?;
        ensure!(to(&reply) == (BROADCAST, Ipv4Addr::BROADCAST), "{reply:?}");
    }
    Ok(())
}

/// The URL of a script with secrets goes to the machine's hardware address, in answer to a frame from there.
pub(crate) fn urls(datapath: Datapath) -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let secret = "talos.config.inline=czNjcjN0";
    let (machine, annotated, plain) = (number(1, secret), number(2, secret), number(3, "console=ttyS0"));
    let spec = cluster(&[machine.clone(), annotated.clone(), plain.clone()]);
    let spec = with_annotation(&spec, &format!("pxed.dev/dhcp-answers.{}: broadcast", annotated.address));
    let pxed = bench.pxed_with(datapath, &spec, &["--machine-rate", "0"])?;
    let plug = bench.plug()?;
    let path = |machine: &Machine| format!("/boot/{}", machine.mac.replace(':', "-"));
    let mut seen = Vec::new();
    for machine in [&machine, &annotated] {
        for flags in [0, FLAG] {
            let question = Query { flags, ..ipxe(machine)? };
            let replies = twice(&plug, &question, &plain)?;
            ensure!(replies.len() >= 3, "{replies:?}");
            for reply in &replies {
                ensure!(reply.ethernet_destination == mac(&machine.mac)?, "a token in a frame to others: {reply:?}");
                let url = url(reply);
                let token = url.strip_prefix(&format!("http://10.99.0.1:8000{}/", path(machine)));
                let token = token.and_then(|rest| rest.strip_suffix(".ipxe")).with_context(|| url.clone())?;
                ensure!(token.len() == 32 && url.len() < 128, "{url}");
                seen.push(token.to_owned());
            }
        }
    }
    // Whoever is not the machine, or not provably, learns nothing.
    let frames = [
        Query { ethernet_source: ATTACKER, ..ipxe(&machine)? },
        Query { ethernet_source: ATTACKER, flags: FLAG, ..ipxe(&machine)? },
        Query { ethernet_source: ATTACKER, giaddr: Ipv4Addr::new(10, 99, 0, 66), ..ipxe(&machine)? },
        Query { ethernet_source: ATTACKER, giaddr: Ipv4Addr::new(10, 99, 0, 254), ..ipxe(&machine)? },
        Query { giaddr: Ipv4Addr::new(10, 99, 0, 66), ..ipxe(&machine)? },
    ];
    for question in frames {
        let url = url(&plug.ask(&question)?);
        ensure!(url == format!("http://10.99.0.1:8000{}.ipxe", path(&machine)), "{url} for {question:?}");
    }
    ensure!(url(&plug.ask(&ipxe(&plain)?)?) == format!("http://10.99.0.1:8000{}.ipxe", path(&plain)));
    let log = pxed.process.output();
    ensure!(log.contains("secrets: 2 machines may have secrets"), "{log}");
    ensure!(!seen.iter().any(|token| log.contains(token)) && !log.contains("czNjcjN0"), "{log}");
    Ok(())
}
