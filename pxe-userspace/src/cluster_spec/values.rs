//! Parses single values of a spec. Pure functions; the error is the sentence that people read.

use std::net::Ipv4Addr;

use pxe_common::MacAddr;

use crate::model::{
    architecture::Architecture,
    boot_method::BootMethod,
    dhcp_answers::DhcpAnswers,
    policy::{BootPolicy, DiskRoute},
    secrets::SecretsSetting,
};

/// The length of kernel arguments that is warned of. The kernel's command line has 2048 bytes on x86 and ARM64, including a NUL
/// (`COMMAND_LINE_SIZE`). Talos' own arguments take about 250 of them.
const KERNEL_ARGS_WARNING: usize = 1800;

/// The longest name of a file on Linux (`NAME_MAX`).
const FILE_NAME_LIMIT: usize = 255;

/// The longest name of a machine configuration, with its directories.
const TALOS_CONFIG_LIMIT: usize = 1024;

pub(crate) fn mac(text: &str) -> Result<MacAddr, String> {
    let mac: MacAddr = text.trim().parse().map_err(|_| {
        format!("{text:?} is not a MAC address: write twelve hexadecimal digits, such as 52:54:00:12:34:56")
    })?;
    if mac.is_zero() {
        return Err(format!("{mac} is the zero address: write the address of the network card that boots"));
    }
    if mac == MacAddr::BROADCAST {
        return Err(format!("{mac} is the broadcast address: write the address of the network card that boots"));
    }
    Ok(mac)
}

/// Parses an address that a network card can have.
///
/// # Errors
///
/// The reason for which no card has it, and what to write.
pub fn machine_mac(text: &str) -> Result<MacAddr, String> {
    let mac = mac(text)?;
    mac_warning(mac).map_or(Ok(mac), Err)
}

/// Returns a warning for an address that no network card has, such as the placeholder bb:bb:bb:bb:bb:bb of the operator's
/// documentation. It does no harm, since nothing asks with it.
pub(crate) fn mac_warning(mac: MacAddr) -> Option<String> {
    mac.is_group().then(|| {
        format!(
            "{mac} is a multicast address, which no network card has, so this machine will not boot: write the address of the \
             card that boots, whose second digit is even"
        )
    })
}

/// Parses an address that one host can have.
pub(crate) fn host_address(text: &str) -> Result<Ipv4Addr, String> {
    let address = ipv4(text)?;
    let why = match address.octets() {
        [0, ..] => "does not name a host",
        [127, ..] => "is a loopback address",
        [224..=239, ..] => "is a multicast address",
        [240..=255, ..] => "is a broadcast or reserved address",
        _ => return Ok(address),
    };
    Err(format!("{address} {why}: write the address of one host"))
}

pub(crate) fn ipv4(text: &str) -> Result<Ipv4Addr, String> {
    text.trim().parse().map_err(|_| match text.split_once('/') {
        Some((address, _)) if address.parse::<Ipv4Addr>().is_ok() => {
            format!("{text:?} has a prefix length: write {address} here, and the length in machineSpec.meta.subnet")
        }
        _ => format!("{text:?} is not an IPv4 address: write four numbers from 0 to 255, such as 10.0.0.11"),
    })
}

pub(crate) fn architecture(text: &str) -> Result<Architecture, String> {
    match text {
        "amd64" => Ok(Architecture::Amd64),
        "arm64" => Ok(Architecture::Arm64),
        _ => Err(match text.to_ascii_lowercase().as_str() {
            "x86_64" | "x86-64" | "x64" | "amd64" => format!("is {text:?}: write amd64"),
            "aarch64" | "armv8" | "arm64" => format!("is {text:?}: write arm64"),
            _ => format!("is {text:?}: write amd64 or arm64"),
        }),
    }
}

/// Checks a Talos version by the pattern of the operator's schema: `^v\d+\.\d+\.\d+(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?$`.
pub(crate) fn version(text: &str) -> Result<&str, String> {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let is_identifier =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let (core, suffix) = match text.split_once('-') {
        Some((core, suffix)) => (core, Some(suffix)),
        None => (text, None),
    };
    let valid =
        core.strip_prefix('v').is_some_and(|core| core.split('.').count() == 3 && core.split('.').all(is_number))
            && suffix.is_none_or(|suffix| suffix.split('.').all(is_identifier));
    if valid { Ok(text) } else { Err(format!("{text:?} is not a Talos version: write it like v1.13.0")) }
}

/// Checks an interface name as Linux does (`dev_valid_name()`). `IFNAMSIZ` leaves 15 bytes.
pub(crate) fn interface(text: &str) -> Result<&str, String> {
    let valid = matches!(text.len(), 1..=15)
        && !matches!(text, "." | "..")
        && !text
            .bytes()
            .any(|byte| matches!(byte, b'/' | b':') || byte.is_ascii_whitespace() || byte.is_ascii_control());
    if valid {
        Ok(text)
    } else {
        Err(format!("{text:?} is not a Linux interface name: write one that `ip link` shows"))
    }
}

/// Checks a host name by RFC 1123 §2.1, as DHCP's option 12 requires (RFC 2132 §3.14).
pub(crate) fn hostname(text: &str) -> Result<&str, String> {
    let is_label = |label: &str| {
        matches!(label.len(), 1..=63)
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.len() <= 253 && text.split('.').all(is_label) {
        Ok(text)
    } else {
        Err(format!("{text:?} is not a host name: write letters, digits and hyphens, at most 63 between dots"))
    }
}

/// Parses the number of bits in a network mask. 0 means that there is none, as in the operator's schema.
pub(crate) fn prefix_length(text: &str) -> Result<Option<u8>, String> {
    match text.trim().parse() {
        Ok(0) => Ok(None),
        Ok(length @ 1..=32) => Ok(Some(length)),
        _ => Err(format!("{text:?} is not a prefix length: write the number of bits in the mask, such as 24")),
    }
}

pub(crate) fn boot_policy(text: &str) -> Result<BootPolicy, String> {
    match text {
        "auto" => Ok(BootPolicy::Auto),
        "always" => Ok(BootPolicy::Always),
        "once" => Ok(BootPolicy::Once),
        "hold" => Ok(BootPolicy::Hold),
        _ => Err(format!("{text:?} is not a boot policy: write auto, always, once or hold")),
    }
}

pub(crate) fn disk_route(text: &str) -> Result<DiskRoute, String> {
    match text {
        "auto" => Ok(DiskRoute::Auto),
        "exit" => Ok(DiskRoute::Exit),
        "sanboot" => Ok(DiskRoute::Sanboot),
        "not-found" => Ok(DiskRoute::NotFound),
        _ => Err(format!("{text:?} is not a disk route: write auto, exit, sanboot or not-found")),
    }
}

pub(crate) fn dhcp_answers(text: &str) -> Result<DhcpAnswers, String> {
    let found = DhcpAnswers::ALL.into_iter().find(|answers| answers.name() == text);
    found.ok_or_else(|| format!("{text:?} is not a kind of DHCP answers: write unicast or broadcast"))
}

pub(crate) fn secrets(text: &str) -> Result<SecretsSetting, String> {
    let found = SecretsSetting::ALL.into_iter().find(|setting| setting.name() == text);
    found.ok_or_else(|| format!("{text:?} is not a way to guard secrets: write auto, guarded or by-address"))
}

pub(crate) fn boot_method(text: &str) -> Result<BootMethod, String> {
    BootMethod::ALL.into_iter().find(|method| method.name() == text).ok_or_else(|| {
        let [others @ .., last] = BootMethod::ALL.map(BootMethod::name);
        format!("{text:?} is not a way to boot: write {} or {last}", others.join(", "))
    })
}

/// Checks the name of a machine configuration: a path below the directory of `--talos-config`.
pub(crate) fn talos_config(text: &str) -> Result<&str, String> {
    const ADVICE: &str = "write the path of a file below the directory of --talos-config, such as talos-1.yaml";
    let name = text.trim();
    if name.is_empty() {
        return Err(format!("is empty: {ADVICE}"));
    }
    if name.contains("://") {
        return Err(format!(
            "is a URL: {ADVICE}; to let Talos ask another server, write talos.config=URL into kernelCmdlineArgs"
        ));
    }
    if name.len() > TALOS_CONFIG_LIMIT {
        return Err(format!("is {} bytes long, and {TALOS_CONFIG_LIMIT} are allowed: {ADVICE}", name.len()));
    }
    if let Some(control) = name.chars().find(|char| char.is_control()) {
        return Err(format!("has the control character U+{:04X}: remove it", u32::from(control)));
    }
    if name.contains('\\') {
        return Err("has a backslash: separate directories by slashes".to_owned());
    }
    if name.starts_with('/') {
        return Err(format!("is an absolute path: {ADVICE}"));
    }
    for part in name.split('/') {
        match part {
            ".." => return Err(format!("leaves its directory: {ADVICE}")),
            "" | "." => return Err(format!("has an empty part: {ADVICE}")),
            part if part.len() > FILE_NAME_LIMIT => {
                return Err(format!(
                    "has a file name of {} bytes, and Linux allows {FILE_NAME_LIMIT}: shorten it",
                    part.len()
                ));
            }
            _ => {}
        }
    }
    Ok(name)
}

/// Checks that kernel arguments can be passed on unchanged. Returns a warning if they are very long.
///
/// # Errors
///
/// They have a control character, such as a line break, which would end or change the line of a boot script.
pub(crate) fn check_kernel_args(text: &str) -> Result<Option<String>, String> {
    if let Some(control) = text.chars().find(|char| char.is_control()) {
        return Err(match control {
            '\n' | '\r' => {
                "has a line break: write it in one line, or as a folded block that begins with `>-`".to_owned()
            }
            '\t' => "has a tab: separate arguments with spaces".to_owned(),
            _ => format!("has the control character U+{:04X}: remove it", u32::from(control)),
        });
    }
    let length = text.len();
    Ok((length > KERNEL_ARGS_WARNING).then(|| {
        format!(
            "is {length} bytes long: with Talos' own arguments it may exceed the 2048 bytes that the kernel reads, and the \
             kernel silently ignores the rest; serve the configuration by URL instead (talos.config=http://…)"
        )
    }))
}

/// Returns the Image Factory schematic of an installer image: `factory…/<installer>/<schematic>:<version>`.
///
/// # Errors
///
/// It looks like an image of the factory, but its schematic is not 64 hexadecimal digits.
pub(crate) fn schematic(image: &str) -> Result<Option<&str>, String> {
    let name = image.split_once('@').map_or(image, |(name, _digest)| name);
    let Some((rest, last)) = name.rsplit_once('/') else { return Ok(None) };
    let id = last.split_once(':').map_or(last, |(id, _tag)| id);
    let (host, repository) = rest.split_once('/').unwrap_or((rest, ""));
    let of_installer = repository.rsplit('/').next().is_some_and(|segment| segment.contains("installer"));
    if !of_installer {
        return Ok(None);
    }
    if id.len() == 64 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Ok(Some(id));
    }
    if host.starts_with("factory.") {
        return Err(format!("{image:?} has no schematic: write 64 hexadecimal digits after the installer"));
    }
    Ok(None)
}
