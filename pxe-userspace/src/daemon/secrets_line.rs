//! The line on how the machines' secrets are guarded. Pure.

use crate::{
    dhcp::Mode,
    model::{
        inventory::Inventory,
        secrets::{self, Secrets},
    },
};

/// Returns the sentence, for the log and `pxed status`.
pub(super) fn sentence(inventory: &Inventory, mode: Mode) -> String {
    let with = |wanted| inventory.machines().iter().filter(|machine| machine.secrets == wanted).count();
    let (guarded, by_address) = (with(Secrets::Guarded), with(Secrets::ByAddress));
    if guarded + by_address == 0 {
        return "no machine has kernel arguments or a machine configuration that may be secret".to_owned();
    }
    if mode == Mode::Proxy {
        let has_config = inventory.machines().iter().any(|machine| machine.talos_config.is_some());
        let configs = if has_config { ", and machine configurations to the machine's IP address" } else { "" };
        let machines = count(guarded + by_address);
        return format!("{machines} may have secrets; --mode proxy gives scripts to whoever asks{configs}");
    }
    let mut parts = Vec::new();
    if guarded > 0 {
        let first = inventory.machines().iter().find(|machine| machine.secrets == Secrets::Guarded);
        let why = first.and_then(|machine| secrets::secret(&machine.kernel_args, machine.talos_config.is_some()));
        let example = match (first, why) {
            (Some(machine), Some(secrets::Secret::Argument(name))) => {
                let name: String = name.chars().filter(|c| !c.is_control()).take(48).collect();
                format!(" (such as {name} of {})", machine.mac)
            }
            (Some(machine), Some(secrets::Secret::Config)) => {
                format!(" (such as the configuration of {})", machine.mac)
            }
            _ => String::new(),
        };
        parts.push(format!(
            "{} may have secrets{example}, which are given only at URLs with an unguessable part, never by TFTP",
            count(guarded)
        ));
    }
    if by_address > 0 {
        let machines = count(by_address);
        parts.push(format!(
            "{machines} may have secrets that whoever takes the IP address gets (pxed.dev/secrets: by-address)"
        ));
    }
    parts.join("; ")
}

fn count(machines: usize) -> String {
    if machines == 1 { "1 machine".to_owned() } else { format!("{machines} machines") }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{architecture::Architecture, inventory::Machine, secrets::SecretsSetting, testing::machine};

    fn fleet(machines: &[(&str, SecretsSetting)]) -> Inventory {
        let machine = |(number, &(kernel_args, setting)): (u8, &(&str, SecretsSetting))| {
            let secrets = Secrets::of(setting, kernel_args, false);
            let plain = machine(number, Architecture::Amd64, "v1.13.0", None);
            Arc::new(Machine { kernel_args: kernel_args.into(), secrets, ..Machine::clone(&plain) })
        };
        Inventory::new((1..).zip(machines).map(machine).collect())
    }

    #[test]
    fn sentence_says_who_has_secrets_and_how_they_are_guarded() {
        use SecretsSetting::{Auto, ByAddress, Guarded};
        let secret = "quiet join.token=hunter2-hunter2";
        for (machines, mode, parts) in [
            (&[("quiet", Auto)][..], Mode::Server, &["no machine has"][..]),
            (
                &[(secret, Auto), ("quiet", Auto)],
                Mode::Server,
                &["1 machine may", "join.token of 02:00:00:00:00:01", "TFTP"],
            ),
            (&[(secret, Auto), ("", Guarded)], Mode::Server, &["2 machines may have secrets (such as join.token of"]),
            (&[("", Guarded)], Mode::Server, &["1 machine may have secrets, which"]),
            (&[(secret, ByAddress), (secret, Auto)], Mode::Server, &["1 machine may", "; 1 machine may", "by-address"]),
            (
                &[(secret, Auto)],
                Mode::Proxy,
                &["1 machine may have secrets; --mode proxy gives scripts to whoever asks"],
            ),
            (&[("", Auto)], Mode::Proxy, &["no machine has"]),
        ] {
            let text = sentence(&fleet(machines), mode);
            assert!(parts.iter().all(|part| text.contains(part)), "{machines:?} {mode:?}: {text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}
