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
    let name = name.trim();
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

/// Returns `true` for what was probably meant as a MAC address: no other name has a colon, and few are long and hexadecimal.
fn resembles_a_mac(name: &str) -> bool {
    let digits = name.bytes().filter(u8::is_ascii_hexdigit).count();
    name.contains(':') || digits >= 8 && name.bytes().all(|byte| byte.is_ascii_hexdigit() || b"-.".contains(&byte))
}

/// Returns `true` for what was probably meant as an IP address.
fn resembles_an_address(name: &str) -> bool {
    name.contains('.') && name.split('.').all(|part| part.len() <= 3 && part.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Returns the error of a name that no machine has. It lists what resembles it.
pub(super) fn unknown(machines: &[&Machine], name: &str) -> Ended {
    let (what, known): (_, Vec<&str>) =
        if name.parse::<MacAddr>().is_ok() || !resembles_an_address(name) && resembles_a_mac(name) {
            ("MAC addresses", machines.iter().flat_map(|machine| machine.all_macs()).collect())
        } else if name.parse::<Ipv4Addr>().is_ok() || resembles_an_address(name) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slip_in_an_address_is_compared_with_addresses() {
        let json = r#"{"mac":"52:54:00:00:00:01","address":"10.0.0.1","cluster":"lab","role":"worker","architecture":"amd64","version":"v1",
            "policy":"auto","boots_from":"network","stage":"failed","stage_since":"2026-01-01T00:00:00Z","boots":1,"last_error":null,
            "hostname":"n1"}"#;
        let machine: Machine = serde_json::from_str(json).unwrap();
        for (name, nearest) in [
            ("52:54:00:00:00", "MAC addresses are 52:54:00:00:00:01"),
            ("52:54:00:00:00:0g", "MAC addresses are 52:54:00:00:00:01"),
            ("5254.0000.000", "MAC addresses are 52:54:00:00:00:01"),
            ("52-54-00-00-00", "MAC addresses are 52:54:00:00:00:01"),
            ("10.0.0.01", "addresses are 10.0.0.1"),
            ("10.000.000.012", "addresses are 10.0.0.1"),
            ("n2", "host names are n1"),
            ("dead-beef", "MAC addresses are 52:54:00:00:00:01"),
            ("bad-cafe-1.lab", "host names are n1"),
        ] {
            let error = find(&[&machine], name).unwrap_err().to_string();
            assert!(error.ends_with(&format!("the nearest {nearest}")), "{name}: {error}");
        }
        // A name that was pasted.
        assert!(find(&[&machine], " 52:54:00:00:00:01\n").is_ok());
    }
}
