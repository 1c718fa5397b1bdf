//! The kernel arguments that Talos needs, by version and architecture.

use std::net::Ipv4Addr;

use crate::model::{
    architecture::Architecture,
    inventory::Machine,
    machine_path::{CONFIG_FILE, MachinePath},
    talos_config::TalosConfig,
    token::Token,
};

/// The name of the initramfs in iPXE. The kernel's EFI stub looks for the file that `initrd=` names, so the script gives the
/// download this name.
pub const INITRD_NAME: &str = "initramfs.xz";

/// Returns the release of a version as (major, minor), or `None` if the text is not a version. A pre-release
/// (`v1.13.0-beta.0`) counts as its release, since it is built in the same way.
#[must_use]
pub fn release(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.strip_prefix('v')?.split('.');
    let major = numbers.next()?.parse().ok()?;
    let minor = numbers.next()?.parse().ok()?;
    Some((major, minor))
}

/// Returns the whole kernel command line of a machine that boots by iPXE: the name of the initramfs, then [`arguments`].
#[must_use]
pub fn kernel_arguments(machine: &Machine, server: Ipv4Addr, config_token: Option<Token>) -> String {
    format!("initrd={INITRD_NAME} {}", arguments(machine, server, config_token))
}

/// Returns the arguments that the machine's Talos version needs on its architecture, then the URL of its machine configuration if it gets
/// one from pxed at `server`, with this token, then the machine's own arguments, byte for byte. Linux lets the later of two arguments win, so the machine's own take
/// precedence. Of two machine configurations Talos takes the first, so ours is left out if the machine's own arguments name one.
#[must_use]
pub fn arguments(machine: &Machine, server: Ipv4Addr, config_token: Option<Token>) -> String {
    let mut line = talos_arguments(&machine.version, machine.architecture).join(" ");
    if let Some(config) = &machine.talos_config
        && !has_config(&machine.kernel_args)
    {
        line.push(' ');
        line.push_str(CONFIG_PARAMETER);
        line.push_str(&config_url(machine, config, server, config_token));
    }
    if !machine.kernel_args.is_empty() {
        line.push(' ');
        line.push_str(&machine.kernel_args);
    }
    line
}

/// The argument by which Talos finds its machine configuration.
const CONFIG_PARAMETER: &str = "talos.config=";

/// The same, for a configuration in the argument itself.
const INLINE_CONFIG_PARAMETER: &str = "talos.config.inline=";

/// Returns the URL of the machine configuration that pxed serves to a machine at `server`.
#[must_use]
pub fn config_url(machine: &Machine, config: &TalosConfig, server: Ipv4Addr, token: Option<Token>) -> String {
    let path = MachinePath { mac: machine.mac, token };
    format!("http://{server}:{}{path}/{CONFIG_FILE}", config.http_port)
}

/// Returns `true` if kernel arguments name a machine configuration.
#[must_use]
pub fn has_config(arguments: &str) -> bool {
    let mut words = arguments.split_ascii_whitespace().map(|word| word.trim_start_matches('"'));
    words.any(|word| word.starts_with(CONFIG_PARAMETER) || word.starts_with(INLINE_CONFIG_PARAMETER))
}

/// Returns the arguments that this version of Talos needs on this architecture. A version that cannot be parsed counts as the
/// newest.
fn talos_arguments(version: &str, architecture: Architecture) -> Vec<&'static str> {
    let release = release(version).unwrap_or((u32::MAX, 0));
    let since = |minor| release >= (1, minor);
    let until = |minor| release <= (1, minor);

    let mut arguments = vec!["talos.platform=metal", "slab_nomerge", "pti=on"];
    // The last console becomes /dev/console.
    arguments.extend_from_slice(match architecture {
        // A ttyS0 without a UART hangs the machine, so newer releases do not use it.
        Architecture::Amd64 if since(8) => &["console=tty0"],
        Architecture::Amd64 => &["console=ttyS0", "console=tty0"],
        Architecture::Arm64 => &["console=ttyAMA0", "console=tty0"],
    });
    arguments.extend_from_slice(&["consoleblank=0", "printk.devkmsg=on"]);
    let by_version: [(bool, &[&str]); 5] = [
        (until(13), &["init_on_alloc=1", "nvme_core.io_timeout=4294967295"]),
        (until(10), &["ima_template=ima-ng", "ima_appraise=fix", "ima_hash=sha512"]),
        (since(10), &["selinux=1"]),
        (since(12), &["module.sig_enforce=1"]),
        (since(13), &["proc_mem.force_override=never"]),
    ];
    for (wanted, of_version) in by_version {
        if wanted {
            arguments.extend_from_slice(of_version);
        }
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::machine;

    /// Not the address of the machine's site.
    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 7);

    #[test]
    fn version_is_compared_by_its_numbers() {
        for (version, expected) in [
            ("v1.13.0", Some((1, 13))),
            ("v1.9.5", Some((1, 9))),
            ("v1.13.0-beta.0", Some((1, 13))),
            ("v2.0.0-alpha.1", Some((2, 0))),
            ("1.13.0", None),
            ("v1", None),
            ("v1.x.0", None),
            ("v99999999999.1.0", None),
            ("", None),
        ] {
            assert_eq!(release(version), expected, "{version}");
        }
        assert!(release("v1.9.0") < release("v1.10.0"));
    }

    #[test]
    fn configuration_is_named_unless_the_machine_names_one() {
        let plain = machine(1, Architecture::Amd64, "v1.13.0", None);
        let with = |kernel_args: &str, talos_config| {
            arguments(
                &Machine { kernel_args: kernel_args.into(), talos_config, ..Machine::clone(&plain) },
                SERVER,
                None,
            )
        };
        let config = || Some(TalosConfig { file: None, http_port: 8080 });
        let url = "talos.config=http://10.9.0.7:8080/boot/02-00-00-00-00-01/config.yaml";
        assert_eq!(with("", None).matches("talos.config").count(), 0);
        assert!(with("", config()).ends_with(&format!(" {url}")));
        assert!(with("a=b  c", config()).ends_with(&format!(" {url} a=b  c")));
        // Talos takes the first one alone.
        for own in [
            "talos.config=http://x",
            "a talos.config=none b",
            "talos.config.inline=e+/==",
            "\"talos.config=http://x/ y\"",
        ] {
            let line = with(own, config());
            assert!(line.ends_with(&format!(" {own}")) && !line.contains(url), "{line}");
        }
        // These are others.
        for own in [
            "talos.config.early=x",
            "talos.configs=x",
            "xtalos.config=x",
            "talos.config",
            "talos.config.oauth.client_id=x",
        ] {
            assert!(with(own, config()).contains(url), "{own}");
        }
    }

    /// Lists for each argument that depends on the version one version with it and one without.
    #[test]
    fn arguments_change_at_the_releases_that_changed_them() {
        for (argument, with, without) in [
            ("init_on_alloc=1", "v1.13.9", "v1.14.0-alpha.0"),
            ("nvme_core.io_timeout=4294967295", "v1.13.9", "v1.14.0"),
            ("ima_template=ima-ng", "v1.10.8", "v1.11.0"),
            ("ima_appraise=fix", "v1.10.8", "v1.11.0"),
            ("ima_hash=sha512", "v1.10.8", "v1.11.0"),
            ("selinux=1", "v1.10.0-beta.0", "v1.9.9"),
            ("module.sig_enforce=1", "v1.12.0", "v1.11.6"),
            ("proc_mem.force_override=never", "v1.13.0", "v1.12.4"),
            ("console=ttyS0", "v1.7.7", "v1.8.0"),
        ] {
            assert!(talos_arguments(with, Architecture::Amd64).contains(&argument), "{argument} in {with}");
            assert!(!talos_arguments(without, Architecture::Amd64).contains(&argument), "{argument} in {without}");
        }
    }

    #[test]
    fn arguments_that_every_talos_needs_are_always_there() {
        for version in ["v1.7.0", "v1.10.0", "v1.13.0", "v2.0.0", "latest"] {
            for architecture in [Architecture::Amd64, Architecture::Arm64] {
                let arguments = talos_arguments(version, architecture);
                for needed in ["talos.platform=metal", "slab_nomerge", "pti=on", "console=tty0", "printk.devkmsg=on"] {
                    assert!(arguments.contains(&needed), "{needed} for {version} {architecture}");
                }
                assert_eq!(arguments.contains(&"console=ttyAMA0"), architecture == Architecture::Arm64);
                assert!(!arguments.iter().any(|argument| argument.starts_with("talos.config")));
            }
        }
    }
}
