//! The answers on Matchbox's routes, for a machine of the cluster spec or for a group and a profile of a Matchbox directory.
//! Pure.
//!
//! A setup that points a DHCP server at Matchbox can point it here: the paths, the queries and the lines are the same.
//! Matchbox names files by paths below its own root, and so do these answers; iPXE resolves them against the URL of the
//! script.

use std::{fmt::Write as _, net::SocketAddrV4, sync::Arc};

use serde_json::{Map, Value};

use crate::{
    boot::{
        grub, ipxe,
        talos::{self, INITRD_NAME},
    },
    cluster_spec::matchbox::{Group, Labels, NetBoot, text_of},
    model::{
        architecture::Architecture,
        artifact_names,
        inventory::{Inventory, Machine},
    },
};

/// The script at `/boot.ipxe`. With it, iPXE reports what it knows about the machine in another request.
pub const BOOTSTRAP: &str = "#!ipxe\n\
    chain ipxe?uuid=${uuid}&mac=${mac:hexhyp}&domain=${domain}&hostname=${hostname}&serial=${serial}&arch=${buildarch:uristring}\n";

/// Returns the machine that a query names by its first `mac`, in any spelling. The other labels select nothing, since a
/// cluster spec distinguishes machines only by their MACs.
#[must_use]
pub fn machine_of(labels: &[(String, String)], inventory: &Inventory) -> Option<Arc<Machine>> {
    let mac = label(labels, "mac")?.parse().ok()?;
    inventory.by_mac(mac).map(Arc::clone)
}

/// Returns `true` if firmware with the query's `arch` (iPXE's `buildarch`) cannot start a kernel of this architecture. A
/// BIOS runs iPXE as `i386` on 64-bit processors too. Without an `arch`, returns `false`.
#[must_use]
pub fn is_wrong_architecture(labels: &[(String, String)], architecture: Architecture) -> bool {
    match (label(labels, "arch").unwrap_or_default(), architecture) {
        ("", _) => false,
        (firmware, Architecture::Amd64) => !matches!(firmware, "x86_64" | "i386"),
        (firmware, Architecture::Arm64) => firmware != "arm64",
    }
}

fn label<'a>(labels: &'a [(String, String)], name: &str) -> Option<&'a str> {
    labels.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// Returns the script at `/ipxe?mac=…` of `server` for a machine.
#[must_use]
pub fn ipxe(machine: &Machine, server: SocketAddrV4) -> String {
    let ipxe::Arguments { settings, words } = ipxe::arguments(&talos::kernel_arguments(machine, *server.ip(), None));
    let (kernel, initramfs) = (artifact_names::kernel_path(machine), artifact_names::initramfs_path(machine));
    format!(
        "#!ipxe\n\
         {settings}kernel /assets/{kernel} {words}\n\
         initrd --name {INITRD_NAME} /assets/{initramfs}\n\
         boot\n"
    )
}

/// Returns the path at which iPXE gets that script.
#[must_use]
pub fn ipxe_path(machine: &Machine) -> String {
    format!("/ipxe?mac={}&arch=${{buildarch:uristring}}", machine.mac)
}

/// Returns the configuration at `/grub?mac=…` of `server` for a machine. GRUB does not expand `${uuid}` inside quotes; Talos expands it
/// itself.
#[must_use]
pub fn grub(machine: &Machine, server: SocketAddrV4) -> String {
    let root = format!("(http,{server})/assets");
    let (kernel, initramfs) = (artifact_names::kernel_path(machine), artifact_names::initramfs_path(machine));
    let arguments = grub::quoted(&talos::kernel_arguments(machine, *server.ip(), None));
    let mut config = "default=0\nfallback=1\ntimeout=1\n".to_owned();
    for (title, linux, initrd) in [("EFI", "linuxefi", "initrdefi"), ("BIOS", "linux", "initrd")] {
        let _ = write!(
            config,
            "menuentry \"Talos ({title})\" {{\n\
             echo \"Loading kernel\"\n\
             {linux} \"{root}/{kernel}\" {arguments}\n\
             echo \"Loading initrd\"\n\
             {initrd} \"{root}/{initramfs}\"\n\
             }}\n"
        );
    }
    config
}

/// Returns the text at `/metadata?mac=…` for a machine: sorted lines `KEY=value` with the spec's facts about it and with the
/// query. The kernel arguments are left out, since they may contain secrets.
#[must_use]
pub fn metadata(machine: &Machine, labels: &[(String, String)], raw_query: &str) -> String {
    let Machine { mac, address, cluster, architecture, version, hostname, .. } = machine;
    let mut lines = vec![
        format!("ADDRESS={address}"),
        format!("ARCHITECTURE={architecture}"),
        format!("CLUSTER={cluster}"),
        format!("MAC={mac}"),
        format!("VERSION={version}"),
    ];
    lines.extend(hostname.iter().map(|hostname| format!("HOSTNAME={hostname}")));
    for (key, value) in labels {
        let value = if key == "mac" { mac.to_string() } else { value.clone() };
        lines.push(format!("REQUEST_QUERY_{}={value}", key.to_uppercase()));
    }
    lines.push(format!("REQUEST_RAW_QUERY={raw_query}"));
    // A line break in a value would start a line that the client made up.
    lines.retain(|line| !line.contains(char::is_control));
    lines.sort();
    lines.iter().fold(String::new(), |text, line| text + line + "\n")
}

/// Returns the script at `/ipxe` for a profile, with the words of the profile unchanged.
#[must_use]
pub fn profile_ipxe(boot: &NetBoot) -> String {
    let NetBoot { kernel, initrd, args } = boot;
    let mut script = format!("#!ipxe\nkernel {kernel}");
    for argument in args {
        let _ = write!(script, " {argument}");
    }
    for initrd in initrd {
        let _ = write!(script, "\ninitrd {initrd}");
    }
    script + "\nboot\n"
}

/// Returns the configuration at `/grub` for a profile.
#[must_use]
pub fn profile_grub(boot: &NetBoot) -> String {
    let NetBoot { kernel, initrd, args } = boot;
    let arguments = args.iter().fold(String::new(), |text, argument| text + " " + argument);
    let images = initrd.iter().fold(String::new(), |text, image| text + " \"" + image + "\"");
    let mut config = "default=0\nfallback=1\ntimeout=1\n".to_owned();
    for (title, linux, initrd) in [("EFI", "linuxefi", "initrdefi"), ("BIOS", "linux", "initrd")] {
        let _ = write!(
            config,
            "menuentry \"CoreOS ({title})\" {{\n\
             echo \"Loading kernel\"\n\
             {linux} \"{kernel}\"{arguments}\n\
             echo \"Loading initrd\"\n\
             {initrd} {images}\n\
             }}\n"
        );
    }
    config
}

/// Returns the variables of templates and `/metadata`: the group's metadata, overridden by its selectors, and the request.
#[must_use]
pub fn variables(group: &Group, labels: &Labels, raw_query: &str) -> Value {
    let mut variables = group.metadata.clone();
    variables.extend(group.selector.iter().map(|(key, value)| (key.to_lowercase(), value.as_str().into())));
    let query: Map<String, Value> = labels.iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
    let request = Map::from_iter([("query".to_owned(), query.into()), ("raw_query".to_owned(), raw_query.into())]);
    variables.insert("request".to_owned(), request.into());
    variables.into()
}

/// Returns the text at `/metadata` for a group: a sorted line `KEY=value` for each string, number and boolean. Keys of
/// nested objects are joined by `_`. Values of the request with a line break are left out, since they would start a line
/// that the client made up.
#[must_use]
pub fn group_metadata(group: &Group, labels: &Labels, raw_query: &str) -> String {
    let mut lines = Vec::new();
    env_lines("", &variables(group, labels, raw_query), &mut lines);
    lines.retain(|line| !(line.starts_with("REQUEST_") && line.contains(char::is_control)));
    lines.sort();
    lines.iter().fold(String::new(), |text, line| text + line + "\n")
}

fn env_lines(prefix: &str, value: &Value, lines: &mut Vec<String>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        let name = format!("{prefix}{key}");
        match text_of(value) {
            Some(text) => lines.push(format!("{}={text}", name.to_uppercase())),
            None => env_lines(&format!("{name}_"), value, lines),
        }
    }
}
