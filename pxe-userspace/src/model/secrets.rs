//! Finds the machines whose kernel arguments or machine configuration may hold secrets. Pure.
//!
//! The rule is conservative: what is not known to be harmless may be a secret.
//!
//! | part of a machine | may hold a secret |
//! |---|---|
//! | a machine configuration from pxed (`--talos-config`) | yes |
//! | an argument without a value (`nomodeset`) | no, if it is a word of at most 24 letters, digits, `.`, `_` and `-` |
//! | an argument whose name is known not to take one (`console`, `ip`, `talos.platform`, …) | no |
//! | an argument whose value is a switch (`on`, `never`, …) or small numbers (`4`, `1024M`, `0-3,8`) | no |
//! | every other argument (`talos.config=…`, `talos.config.inline=…`, `siderolink.api=…`, …) | yes |

use serde::Serialize;

/// The longest argument without a value that is taken for a switch.
const LONGEST_SWITCH: usize = 24;
/// The longest list of numbers.
const LONGEST_NUMBERS: usize = 24;
/// The most digits of a number.
const MOST_DIGITS: usize = 6;

/// Parameters whose values are no secrets, as the kernel compares names: with `_` for `-`. What ends in `.` or `_` is the beginning of names.
const HARMLESS: [&str; 98] = [
    "BOOT_IMAGE",
    "acpi",
    "acpi.",
    "acpi_",
    "amd_iommu",
    "amd_pstate",
    "amdgpu.",
    "apparmor",
    "arm_smmu.",
    "ast.",
    "biosdevname",
    "bond",
    "bridge",
    "cgroup_disable",
    "cgroup_no_v1",
    "clocksource",
    "console",
    "consoleblank",
    "cpufreq.",
    "cpuidle.",
    "crashkernel",
    "debugfs",
    "default_hugepagesz",
    "drm.",
    "drm_kms_helper.",
    "dyndbg",
    "earlycon",
    "earlyprintk",
    "efi",
    "efi_pstore.",
    "fbcon",
    "hugepages",
    "hugepagesz",
    "i915.",
    "ifname",
    "ima_appraise",
    "ima_hash",
    "ima_template",
    "init",
    "init_on_alloc",
    "init_on_free",
    "initcall_blacklist",
    "initrd",
    "intel_idle.",
    "intel_iommu",
    "intel_pstate",
    "iommu",
    "iommu.",
    "ip",
    "irqaffinity",
    "isolcpus",
    "kvm.",
    "kvm_amd.",
    "kvm_intel.",
    "libata.",
    "lockdown",
    "log_buf_len",
    "loglevel",
    "lsm",
    "mem",
    "memmap",
    "mitigations",
    "modprobe.blacklist",
    "module.",
    "module_blacklist",
    "nohz_full",
    "nvme.",
    "nvme_core.",
    "panic",
    "pci",
    "pcie_aspm",
    "pcie_ports",
    "printk.",
    "proc_mem.",
    "processor.",
    "rcu_nocbs",
    "rcupdate.",
    "rcutree.",
    "rdinit",
    "root",
    "rootfstype",
    "scsi_mod.",
    "security",
    "spectre_v2",
    "sysctl.net.",
    "talos.board",
    "talos.dashboard.disabled",
    "talos.device.",
    "talos.experimental.wipe",
    "talos.halt_if_installed",
    "talos.hostname",
    "talos.interface",
    "talos.network.interface.ignore",
    "talos.platform",
    "talos.shutdown",
    "usbcore.",
    "video",
    "vlan",
];

/// Values that switch something.
const SWITCHES: [&str; 25] = [
    "active", "all", "always", "auto", "default", "disable", "disabled", "enable", "enabled", "false", "force", "full",
    "guided", "n", "never", "no", "none", "off", "on", "passive", "strict", "true", "warn", "y", "yes",
];

/// The protection of a machine's secrets that the spec asks for (`pxed.dev/secrets`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecretsSetting {
    /// As the rule of this module says.
    #[default]
    Auto,
    /// It has secrets, which are given only at URLs with an unguessable part.
    Guarded,
    /// What it has is given to its IP address.
    ByAddress,
}

impl SecretsSetting {
    /// All settings.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Guarded, Self::ByAddress];

    /// Returns the name in the spec.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Guarded => "guarded",
            Self::ByAddress => "by-address",
        }
    }
}

/// The protection of a machine's secrets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Secrets {
    /// It has none.
    #[default]
    None,
    /// It may have some, and the spec says that its IP address suffices.
    ByAddress,
    /// It may have some, or the spec says so: they are given only at URLs with an unguessable part.
    Guarded,
}

/// The part of a machine that may hold a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secret<'a> {
    /// Its machine configuration.
    Config,
    /// The kernel argument of this name.
    Argument(&'a str),
}

impl Secrets {
    /// Returns the protection of a machine with this setting, these kernel arguments, and a machine configuration from pxed or none.
    #[must_use]
    pub fn of(setting: SecretsSetting, kernel_args: &str, has_config: bool) -> Self {
        match (setting, secret(kernel_args, has_config)) {
            (SecretsSetting::Guarded, _) | (SecretsSetting::Auto, Some(_)) => Self::Guarded,
            (SecretsSetting::ByAddress, Some(_)) => Self::ByAddress,
            (SecretsSetting::Auto | SecretsSetting::ByAddress, None) => Self::None,
        }
    }
}

/// Returns the first part of a machine that may hold a secret.
#[must_use]
pub fn secret(kernel_args: &str, has_config: bool) -> Option<Secret<'_>> {
    if has_config {
        return Some(Secret::Config);
    }
    words(kernel_args).find_map(|word| match word.split_once('=') {
        None => (!is_switch(word)).then_some(Secret::Argument("(without a name)")),
        Some((name, value)) => {
            let name = name.trim_start_matches('"');
            let is_harmless = is_harmless(name) || is_plain(value.trim_end_matches('"'));
            (!is_harmless).then_some(Secret::Argument(name))
        }
    })
}

/// Returns kernel arguments for people to read: `***` stands for each value that may be a secret.
#[must_use]
pub fn masked_arguments(kernel_args: &str) -> String {
    let masked = |word: &str| match word.split_once('=') {
        _ if secret(word, false).is_none() => word.to_owned(),
        Some((name, _)) => format!("{name}=***"),
        None => "***".to_owned(),
    };
    words(kernel_args).map(masked).collect::<Vec<_>>().join(" ")
}

/// Returns the values of kernel arguments that may be secrets.
pub fn secret_values(kernel_args: &str) -> impl Iterator<Item = &str> {
    let secrets = words(kernel_args).filter(|word| secret(word, false).is_some());
    secrets.map(|word| word.split_once('=').map_or(word, |(_, value)| value).trim_matches('"'))
}

/// Splits kernel arguments as Linux does: at white space outside of double quotes.
fn words(arguments: &str) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    let ends = move |c: char| {
        is_quoted ^= c == '"';
        c.is_ascii_whitespace() && !is_quoted
    };
    arguments.split(ends).filter(|word| !word.is_empty())
}

fn is_switch(word: &str) -> bool {
    word.len() <= LONGEST_SWITCH && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn is_harmless(name: &str) -> bool {
    let name = name.replace('-', "_");
    HARMLESS.iter().any(|known| match known.ends_with(['.', '_']) {
        true => name.starts_with(known),
        false => name == *known,
    })
}

/// Returns `true` for a value that switches something, and for small numbers.
fn is_plain(value: &str) -> bool {
    let is_number = |text: &str| {
        let digits = text.trim_end_matches(['k', 'K', 'm', 'M', 'g', 'G', 't', 'T']);
        text.len() - digits.len() <= 1
            && (1..=MOST_DIGITS).contains(&digits.len())
            && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    let value_in_lower_case = value.to_ascii_lowercase();
    value.is_empty()
        || SWITCHES.contains(&&*value_in_lower_case)
        || value.len() <= LONGEST_NUMBERS && value.split([',', '-', ':', '.']).all(is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_that_are_not_known_to_be_harmless_may_be_secrets() {
        for harmless in [
            "",
            "  ",
            "quiet nomodeset --flag -x --",
            "console=ttyS1,115200n8 console=tty0 earlycon=uart8250,io,0x3f8",
            "ip=10.0.0.5::10.0.0.1:255.255.255.0:node-1:eth0:off vlan=eth0.5:eth0 bond=bond0:eth0,eth1:mode=802.3ad",
            "talos.platform=metal talos.hostname=node-1 talos.board=rpi_generic talos.experimental.wipe=system",
            "net.ifnames=0 mitigations=off hugepages=1024 hugepagesz=1G isolcpus=0-3,8 mem=512M a=",
            "nvme-core.io-timeout=4294967295 NVME=1 modprobe.blacklist=a,b,c",
            r#"dyndbg="file drivers/net/* +p""#,
            "x.y=on x.z=NEVER a=123456",
        ] {
            assert_eq!(secret(harmless, false), None, "{harmless}");
            assert_eq!(Secrets::of(SecretsSetting::Auto, harmless, false), Secrets::None, "{harmless}");
        }
        for (arguments, name) in [
            ("talos.config=http://10.0.0.1/c?mac=${mac}", "talos.config"),
            ("console=tty0 talos.config.inline=eJw= x=1", "talos.config.inline"),
            ("talos.config.oauth.client_secret=x", "talos.config.oauth.client_secret"),
            ("siderolink.api=grpc://10.0.0.1?jointoken=abc", "siderolink.api"),
            ("talos.environment=http_proxy=http://u:p@10.0.0.1/", "talos.environment"),
            ("talos.logging.kernel=tcp://10.0.0.1:5044/", "talos.logging.kernel"),
            (r#""password=a b" quiet"#, "password"),
            (r#"password="a b""#, "password"),
            ("PASSWORD=hunter2", "PASSWORD"),
            ("pin=1234567", "pin"),
            ("key=deadbeef", "key"),
            ("consoles=x", "consoles"),
            ("xconsole=x", "xconsole"),
            ("net.ifnames=hunter2", "net.ifnames"),
            ("=x", ""),
            ("0123456789abcdef0123456789abcdef", "(without a name)"),
            ("pass:word", "(without a name)"),
            ("\u{e9}", "(without a name)"),
        ] {
            assert_eq!(secret(arguments, false), Some(Secret::Argument(name)), "{arguments}");
            assert_eq!(Secrets::of(SecretsSetting::Auto, arguments, false), Secrets::Guarded, "{arguments}");
        }
        assert_eq!(secret("quiet", true), Some(Secret::Config));
    }

    #[test]
    fn setting_decides_over_the_rule_in_both_directions() {
        use SecretsSetting::{Auto, ByAddress, Guarded};
        for (setting, arguments, has_config, expected) in [
            (Auto, "quiet", false, Secrets::None),
            (Auto, "quiet", true, Secrets::Guarded),
            (Auto, "a.b=secret", false, Secrets::Guarded),
            (Guarded, "quiet", false, Secrets::Guarded),
            (Guarded, "", true, Secrets::Guarded),
            (ByAddress, "quiet", false, Secrets::None),
            (ByAddress, "a.b=secret", false, Secrets::ByAddress),
            (ByAddress, "", true, Secrets::ByAddress),
        ] {
            assert_eq!(Secrets::of(setting, arguments, has_config), expected, "{setting:?} {arguments} {has_config}");
        }
    }

    #[test]
    fn names_of_harmless_parameters_are_sorted_and_spelt_as_the_kernel_compares_them() {
        assert!(HARMLESS.is_sorted() && SWITCHES.is_sorted());
        assert!(HARMLESS.iter().all(|name| !name.contains('-')));
    }
}
