//! `pxed strangers` and `pxed adopt`: who asks by DHCP without being in the spec, and the YAML that changes that.

use std::{collections::BTreeSet, fmt::Write as _, net::Ipv4Addr};

use anyhow::{Context as _, bail};
use jiff::{SignedDuration, Timestamp};
use pxe_common::MacAddr;
use serde::Deserialize;

use super::{
    client::AdminClient,
    colour::Colours,
    format::Format,
    free_address::{self, Member},
    output::{print, print_json},
    select::check,
    table::{Cell, elapsed, header, table},
    yaml as as_yaml,
};
use crate::{
    cli::{
        exit::{Exit, status_of},
        shown::Shown,
    },
    model::{architecture::Architecture, client_architecture::ClientArchitecture},
};

/// The time for which a stranger is worth a line beside the fleet.
const RECENT: SignedDuration = SignedDuration::from_mins(10);

/// Somebody who asks by DHCP and is not in the spec.
#[derive(Debug, Deserialize)]
pub(super) struct Stranger {
    mac: Shown,
    interface: Shown,
    vlan: Option<u16>,
    relay: Option<Ipv4Addr>,
    firmware: Option<Shown>,
    architecture: Option<u16>,
    problem: Option<Shown>,
    first_seen: Timestamp,
    last_seen: Timestamp,
    count: u64,
    nearest: Option<Nearest>,
}

#[derive(Debug, Deserialize)]
struct Nearest {
    mac: Shown,
    hostname: Option<Shown>,
    cluster: Shown,
    text: Shown,
    source: Shown,
}

impl Nearest {
    fn in_words(&self) -> String {
        let Self { mac, hostname, cluster, text, source } = self;
        let name = hostname.as_ref().map(|name| format!("{name}, ")).unwrap_or_default();
        format!("{text}: {mac} ({name}{cluster}, {source})")
    }
}

/// Prints the strangers, the one that asked last first.
pub(super) fn list(client: &AdminClient, format: Format) -> anyhow::Result<()> {
    let text = client.get("/api/v1/strangers", &[])?;
    let strangers: Vec<Stranger> = serde_json::from_str(&text).context("the answer is not pxed's")?;
    match format {
        Format::Json => print_json(&text)?,
        Format::Yaml => print(&as_yaml::of_json(&text)?)?,
        Format::Name if strangers.is_empty() => true,
        Format::Name => print(&strangers.iter().map(|stranger| format!("{}\n", stranger.mac)).collect::<String>())?,
        Format::Text | Format::Wide => {
            print(&render(&strangers, format == Format::Wide, Colours::of_stdout(), Timestamp::now()))?
        }
    };
    Ok(())
}

/// Returns the line about those who asked in the last minutes, if there are any.
pub(super) fn recent(strangers: &[Stranger], now: Timestamp) -> Option<String> {
    let is_recent = |stranger: &&Stranger| now.duration_since(stranger.last_seen) <= RECENT;
    let found: Vec<_> = strangers.iter().filter(is_recent).collect();
    let near = found.iter().filter(|stranger| stranger.nearest.is_some()).count();
    let who = match found.len() {
        0 => return None,
        1 => "1 machine that no spec names".to_owned(),
        count => format!("{count} machines that no spec names"),
    };
    let near = match near {
        0 => String::new(),
        near => format!(", {near} of them a slip away from one that it names"),
    };
    Some(format!("{who} asked in the last {} minutes{near}: pxed strangers\n", RECENT.as_mins()))
}

fn render(strangers: &[Stranger], is_wide: bool, colours: Colours, now: Timestamp) -> String {
    if strangers.is_empty() {
        return "No stranger has asked by DHCP since pxed started.\n".to_owned();
    }
    let mut names = header(["MAC", "INTERFACE", "RELAY", "FIRMWARE", "ASKED", "AGO", "MEANT IN THE SPEC"]);
    if is_wide {
        names.extend(header(["FIRST ASKED"]));
    }
    let rows = strangers.iter().map(|stranger| {
        let vlan = stranger.vlan.map(|vlan| format!(", VLAN {vlan}")).unwrap_or_default();
        let firmware = stranger.firmware.as_ref().or(stranger.problem.as_ref());
        let mut row: Vec<Cell> = vec![
            stranger.mac.to_string().into(),
            format!("{}{vlan}", stranger.interface).into(),
            stranger.relay.map(|relay| relay.to_string()).unwrap_or_default().into(),
            firmware.map(ToString::to_string).unwrap_or_default().into(),
            stranger.count.to_string().into(),
            elapsed(stranger.last_seen, now).into(),
            stranger.nearest.as_ref().map(Nearest::in_words).unwrap_or_default().into(),
        ];
        if is_wide {
            row.push(stranger.first_seen.to_string().into());
        }
        row
    });
    let rows: Vec<Vec<Cell>> = std::iter::once(names).chain(rows).collect();
    format!("{}\npxed adopt MAC --cluster NAME prints what to write into the spec.\n", table(&rows, colours))
}

/// Returns the YAML that makes a stranger a machine of a cluster.
pub(super) fn adopted(
    client: &AdminClient,
    mac: MacAddr,
    cluster: &str,
    address: Option<Ipv4Addr>,
) -> anyhow::Result<String> {
    match client.get(&format!("/api/v1/machines/{mac}"), &[]) {
        Ok(_) => bail!("{mac} is a machine of the spec already: pxed explain {mac}"),
        Err(error) if status_of(&error) != Exit::NotFound || error.to_string().contains("is left out") => {
            return Err(error);
        }
        Err(_) => {}
    }
    let stranger = stranger(client, mac)?;
    let members = client.get("/api/v1/machines", &[("events", "0".to_owned())])?;
    let mut members: Vec<Member> = serde_json::from_str(&members).context("the answer is not pxed's")?;
    let known: BTreeSet<&str> = members.iter().map(|member| &*member.cluster).collect();
    check("cluster", "cluster", &[cluster.to_owned()], &known)?;
    let (address, is_proposed) = match address {
        Some(address) => {
            free_address::check(address, cluster, &members)?;
            (address, false)
        }
        None => {
            let free = free_address::next_free(cluster, &members);
            let free =
                free.with_context(|| format!("cluster {cluster} has no free address: name one with --address"))?;
            (free, true)
        }
    };
    members.retain(|member| *member.cluster == *cluster);
    let architecture = architecture(stranger.as_ref(), &members);
    Ok(yaml(mac, cluster, (address, is_proposed), &architecture, stranger.as_ref()))
}

fn stranger(client: &AdminClient, mac: MacAddr) -> anyhow::Result<Option<Stranger>> {
    match client.get(&format!("/api/v1/strangers/{mac}"), &[]) {
        Ok(text) => Ok(Some(serde_json::from_str(&text).context("the answer is not pxed's")?)),
        Err(error) if status_of(&error) == Exit::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the architecture that the firmware names, or else that of the cluster's first machine.
fn architecture(stranger: Option<&Stranger>, members: &[Member]) -> String {
    let loader = stranger.and_then(|stranger| ClientArchitecture::of(stranger.architecture?).loader);
    let starts = [Architecture::Amd64, Architecture::Arm64]
        .into_iter()
        .find(|&architecture| loader.is_some_and(|loader| loader.starts_kernels_of(architecture)));
    starts.map_or_else(
        || members.first().map(|member| member.architecture.to_string()).unwrap_or_default(),
        |architecture| architecture.to_string(),
    )
}

fn yaml(
    mac: MacAddr,
    cluster: &str,
    (address, is_proposed): (Ipv4Addr, bool),
    architecture: &str,
    stranger: Option<&Stranger>,
) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail, here and below.
    match stranger {
        None => _ = writeln!(text, "# {mac} has not asked since pxed started."),
        Some(Stranger { nearest: Some(nearest), .. }) => {
            let _ = writeln!(text, "# {mac} is {}. If it is that machine, change its", nearest.in_words());
            let _ = writeln!(text, "# line there instead:\n#   macAddress: {mac}");
        }
        Some(_) => {}
    }
    let _ = writeln!(
        text,
        "# Into spec.worker.metalSpec.machines, or controlPlane's, of the cluster {cluster}:\n- address: {}{}\n  pxeClientSpec:\n    \
         macAddress: \"{mac}\"\n    cpuArchitecture: {architecture}",
        address,
        if is_proposed {
            " # free in the spec; see that no other host has it, and no DHCP server assigns it"
        } else {
            ""
        },
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strangers() -> Vec<Stranger> {
        let json = r#"[{"mac": "52:54:00:aa:10:09", "interface": "prov0", "vlan": 7, "relay": null, "firmware": "ARM64 UEFI, PXE",
            "architecture": 11, "problem": null, "first_seen": "2026-01-01T00:00:00Z", "last_seen": "2026-01-01T00:00:48Z", "count": 3,
            "nearest": {"mac": "52:54:00:aa:10:08", "machine": "52:54:00:aa:10:08", "address": "10.0.0.8", "hostname": "node-8",
            "cluster": "lab", "digits": 1, "text": "one digit off", "source": "lab.yaml line 12"}},
            {"mac": "06:00:00:00:00:01", "interface": "eth0", "vlan": null, "relay": "10.9.0.1", "firmware": null, "architecture": null,
            "problem": "the packet is BOOTP without DHCP", "first_seen": "2026-01-01T00:00:00Z", "last_seen": "2026-01-01T00:00:00Z",
            "count": 1, "nearest": null}]"#;
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn recent_strangers_are_counted_in_a_line() {
        let seen = |now: &str| recent(&strangers(), now.parse().unwrap());
        let one = "1 machine that no spec names asked in the last 10 minutes, 1 of them a slip away from one that it names: pxed strangers\n";
        assert_eq!(seen("2026-01-01T00:10:30Z").as_deref(), Some(one));
        let two = seen("2026-01-01T00:01:00Z").unwrap();
        assert!(two.starts_with("2 machines that no spec names asked in the last 10 minutes, 1 of them"), "{two}");
        assert_eq!(seen("2026-01-01T00:11:00Z"), None);
        let far: Vec<_> = strangers().into_iter().filter(|stranger| stranger.nearest.is_none()).collect();
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        let line = "1 machine that no spec names asked in the last 10 minutes: pxed strangers\n";
        assert_eq!(recent(&far, now).as_deref(), Some(line));
    }

    #[test]
    fn strangers_are_listed_with_the_machine_that_is_meant() {
        let text = render(&strangers(), false, Colours::Off, "2026-01-01T00:01:00Z".parse().unwrap());
        for part in [
            "prov0, VLAN 7",
            "ARM64 UEFI, PXE",
            "12s",
            "one digit off: 52:54:00:aa:10:08 (node-8, lab, lab.yaml line 12)",
        ] {
            assert!(text.contains(part), "no {part} in\n{text}");
        }
        assert!(text.contains("10.9.0.1") && text.contains("BOOTP without DHCP"), "{text}");
        assert!(render(&[], false, Colours::Off, Timestamp::now()).contains("No stranger"));
    }

    #[test]
    fn adopted_machine_is_yaml() {
        let members: Vec<Member> = serde_json::from_str(
            r#"[{"mac": "52:54:00:aa:10:01", "cluster": "lab", "address": "10.0.0.11", "architecture": "amd64"}]"#,
        )
        .unwrap();
        let strangers = strangers();
        let mac: MacAddr = "52:54:00:aa:10:09".parse().unwrap();
        let of = |stranger: Option<&Stranger>, address| {
            yaml(mac, "lab", address, &architecture(stranger, &members), stranger)
        };
        let near = of(strangers.first(), (Ipv4Addr::new(10, 0, 0, 12), true));
        assert!(near.contains("#   macAddress: 52:54:00:aa:10:09") && near.contains("lab.yaml line 12"), "{near}");
        assert!(
            near.contains("cpuArchitecture: arm64") && near.contains("- address: 10.0.0.12 # free in the spec;"),
            "{near}"
        );
        let unheard = of(None, (Ipv4Addr::new(10, 0, 0, 77), false));
        assert!(unheard.contains("has not asked") && unheard.contains("cpuArchitecture: amd64"), "{unheard}");
        assert!(unheard.contains("- address: 10.0.0.77\n"), "{unheard}");
    }
}
