//! The kernel arguments that Talos needs, by version and architecture.

use crate::model::{architecture::Architecture, inventory::Machine};

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
pub fn kernel_arguments(machine: &Machine) -> String {
    format!("initrd={INITRD_NAME} {}", arguments(machine))
}

/// Returns the arguments that the machine's Talos version needs on its architecture, then the machine's own arguments, byte for
/// byte. Linux lets the later of two arguments win, so the machine's own take precedence.
#[must_use]
pub fn arguments(machine: &Machine) -> String {
    let mut line = talos_arguments(&machine.version, machine.architecture).join(" ");
    if !machine.kernel_args.is_empty() {
        line.push(' ');
        line.push_str(&machine.kernel_args);
    }
    line
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
