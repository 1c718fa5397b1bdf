//! The machine that a person names: by hardware address, IP address or host name.

use std::net::Ipv4Addr;

use pxe_common::MacAddr;

use super::{machines::Machine, select::nearest_first};
use crate::cli::{
    exit::{Ended, Exit},
    shown::{Shown, harmless},
};

/// The most machines that an error lists.
const LISTED: usize = 20;

/// Returns the machine with this name. A host name may be cut off at a dot, if that fits one machine alone.
pub(super) fn find<'m>(machines: &[&'m Machine], name: &str) -> Result<&'m Machine, Ended> {
    let found = matches(machines, name);
    match found[..] {
        [machine] => Ok(machine),
        [] => Err(unknown(machines, name)),
        _ => {
            let lines: Vec<_> = found.iter().take(LISTED).map(|machine| line(machine)).collect();
            let more = found.len().saturating_sub(LISTED);
            let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
            let name = harmless(name);
            let count = found.len();
            let message =
                format!("{name} fits {count} machines: name one by its MAC address\n{}{more}", lines.join("\n"));
            Err(Ended::new(Exit::Usage, message))
        }
    }
}

fn line(machine: &Machine) -> String {
    let Machine { mac, address, cluster, role, hostname, stage, .. } = machine;
    let hostname = hostname.as_deref().unwrap_or("-");
    format!("  {mac}  {address}  {hostname}  {role} of {cluster}  {stage}")
}

fn matches<'m>(machines: &[&'m Machine], name: &str) -> Vec<&'m Machine> {
    let all = |fits: &dyn Fn(&Machine) -> bool| machines.iter().copied().filter(|machine| fits(machine)).collect();
    let mut found: Vec<_> = Vec::new();
    if let Ok(mac) = name.parse::<MacAddr>() {
        let mac = Shown::of(&mac.to_string());
        found = all(&|machine| machine.mac == mac || machine.additional_macs.contains(&mac));
    }
    if found.is_empty() && name.parse::<Ipv4Addr>().is_ok() {
        found = all(&|machine| *machine.address == *name);
    }
    let has_name = |machine: &Machine, name: &str, whole: bool| {
        machine.hostname.as_deref().is_some_and(|hostname| {
            let short = hostname.split('.').next().unwrap_or_default();
            (if whole { hostname } else { short }).eq_ignore_ascii_case(name)
        })
    };
    if found.is_empty() {
        found = all(&|machine| has_name(machine, name.trim_end_matches('.'), true));
    }
    if found.is_empty() {
        found = all(&|machine| has_name(machine, name, false));
    }
    found
}

/// Returns the error of a name that no machine has. It lists what resembles it.
pub(super) fn unknown(machines: &[&Machine], name: &str) -> Ended {
    let (what, known): (_, Vec<&str>) = if name.parse::<MacAddr>().is_ok() {
        ("MAC addresses", machines.iter().flat_map(|machine| machine.all_macs()).collect())
    } else if name.parse::<Ipv4Addr>().is_ok() {
        ("addresses", machines.iter().map(|machine| &*machine.address).collect())
    } else {
        ("host names", machines.iter().filter_map(|machine| machine.hostname.as_deref()).collect())
    };
    let typed = name.parse::<MacAddr>().map_or_else(|_| harmless(name).into_owned(), |mac| mac.to_string());
    let known = match () {
        () if machines.is_empty() => "the spec has no machines".to_owned(),
        () if known.is_empty() => "no machine of the spec has a host name".to_owned(),
        () => format!("the nearest {what} are {}", nearest_first(&typed, known)),
    };
    Ended::new(Exit::NotFound, format!("{typed} is not a machine of the spec; {known}"))
}
