//! The configuration files that GRUB and U-Boot look for: whose a file is, who may have it, and what it says.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{grub, u_boot, waiting};
use crate::model::{
    config_files::{ConfigFile, ConfigReader, Owner},
    event::EventKind,
    failure::ASKED_FROM,
    images::Images,
    inventory::{Inventory, Machine},
    policy::Disposition,
    policy_book::PolicyBook,
    secrets::{self, Secret, Secrets},
};

/// The protocol that the program fetched its configuration by. It fetches kernel and initramfs in the same way, since it may have
/// been built without the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// TFTP.
    Tftp,
    /// HTTP on this port, below `/assets/`.
    Http {
        /// The port.
        port: u16,
    },
}

/// A request for a configuration, with what answers it.
#[derive(Clone, Copy, Debug)]
pub struct ConfigRequest<'a> {
    /// The file.
    pub file: ConfigFile,
    /// The address that asks.
    pub peer: IpAddr,
    /// The address that it asks: the configuration leads back there.
    pub server: Ipv4Addr,
    /// The fleet.
    pub inventory: &'a Inventory,
    /// The policies in force.
    pub policies: &'a PolicyBook,
    /// The state of the machines' files.
    pub images: &'a Images,
    /// Set if a configuration is given only to the machine's own address.
    pub check_source: bool,
    /// The protocol.
    pub files: Files,
    /// The time.
    pub now: SystemTime,
}

/// The answer to such a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The machine's configuration.
    Config {
        /// The machine.
        machine: Arc<Machine>,
        /// The place that the configuration boots from.
        disposition: Disposition,
        /// The configuration.
        text: String,
    },
    /// A file that the machine boots is not there yet.
    Waits {
        /// The machine.
        machine: Arc<Machine>,
        /// The event that says so.
        event: EventKind,
        /// A configuration that asks again. Without one there is no answer, and the program asks again by itself.
        text: Option<String>,
        /// The time after which it asks again.
        pause: Duration,
    },
    /// There is no such file, since the machine is to boot from its disk: the program goes on to the next way to boot.
    ToDisk(Arc<Machine>),
    /// The file belongs to a machine with another address, or may hold secrets.
    NotTheirs {
        /// The machine.
        machine: Arc<Machine>,
        /// The reason for the refusal, in words for a person.
        reason: String,
    },
    /// No machine has this file.
    NoMachine,
}

impl ConfigRequest<'_> {
    /// Returns the answer.
    #[must_use]
    pub fn answer(&self) -> Answer {
        let by_address = |address: IpAddr| match address {
            IpAddr::V4(address) => self.inventory.by_address(address),
            IpAddr::V6(_) => None,
        };
        let machine = match self.file.owner {
            Owner::Asker => by_address(self.peer),
            Owner::Mac(mac) => self.inventory.by_mac(mac),
            Owner::Address(address) => self.inventory.by_address(address),
        };
        let Some(machine) = machine.map(Arc::clone) else { return Answer::NoMachine };
        if let Some(reason) = refusal(&machine, self.peer, self.check_source) {
            return Answer::NotTheirs { machine, reason };
        }
        let disposition = self.policies.disposition(&machine);
        if disposition == Disposition::Network && self.check_source && machine.secrets == Secrets::Guarded {
            let reason = unguarded("configuration of its boot loader", &machine);
            return Answer::NotTheirs { machine, reason };
        }
        let bootable = self.images.as_bootable(&machine);
        if disposition == Disposition::Network
            && let Some(awaited) = self.images.awaited(bootable)
        {
            let text = match self.file.reader {
                ConfigReader::Grub => Some(waiting::grub_config(bootable, awaited, &self.grub_root(), self.now)),
                ConfigReader::UBoot => None,
            };
            let (event, pause) = (awaited.event(), awaited.pause());
            return Answer::Waits { machine, event, text, pause };
        }
        match self.text(bootable, disposition) {
            Some(text) => Answer::Config { machine, disposition, text },
            None => Answer::ToDisk(machine),
        }
    }

    /// Returns the place of the artifacts in GRUB's notation.
    fn grub_root(&self) -> String {
        let server = self.server;
        match self.files {
            Files::Tftp => format!("(tftp,{server})"),
            Files::Http { port } => format!("(http,{server}:{port})/assets"),
        }
    }

    fn text(&self, machine: &Machine, disposition: Disposition) -> Option<String> {
        let server = self.server;
        match (self.file.reader, self.files) {
            (ConfigReader::Grub, _) => grub::config(machine, server, &self.grub_root(), disposition),
            // U-Boot's `localboot` runs a command that few boards have. Without a file, it tries its next way to boot.
            (ConfigReader::UBoot, _) if disposition == Disposition::Disk => None,
            (ConfigReader::UBoot, Files::Tftp) => Some(u_boot::config(machine, server, "")),
            (ConfigReader::UBoot, Files::Http { port }) => {
                Some(u_boot::config(machine, server, &format!("http://{server}:{port}/assets/")))
            }
        }
    }
}

/// Returns the reason why a client without the machine's address does not get its boot script or configuration, which may contain
/// the machine's secrets. Returns `None` for the machine itself, and if sources are not checked.
#[must_use]
pub fn refusal(machine: &Machine, peer: IpAddr, check_source: bool) -> Option<String> {
    refusal_of("boot script", machine, peer, check_source)
}

/// Returns the same for something else of the machine's own.
#[must_use]
pub fn refusal_of(noun: &str, machine: &Machine, peer: IpAddr, check_source: bool) -> Option<String> {
    let Machine { mac, address, .. } = machine;
    let is_theirs = !check_source || peer == *address;
    (!is_theirs).then(|| format!("{ASKED_FROM} {peer}, but only {address} may get the {noun} of {mac}"))
}

/// Returns the reason why something of a machine's own is not given at a URL without an unguessable part, and what to do.
#[must_use]
pub fn unguarded(noun: &str, machine: &Machine) -> String {
    let why = match secrets::secret(&machine.kernel_args, machine.talos_config.is_some()) {
        Some(Secret::Config) => "its machine configuration has secrets".to_owned(),
        Some(Secret::Argument(name)) => format!("its kernel argument {} may be a secret", shown(name)),
        None => "the spec says that it has secrets".to_owned(),
    };
    let mac = machine.mac;
    format!(
        "the {noun} of {mac} is not given to its IP address alone, which others can take: {why}. iPXE and UEFI HTTP boot get a URL with an \
         unguessable part in the DHCP answer to the machine itself; for other ways, set pxed.dev/secrets: by-address"
    )
}

/// Returns the name of a kernel argument, cut off if it is none that a person would write.
fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(48).collect()
}

/// Returns the reason why a client without the machine's address does not get its machine configuration. `None` for the machine itself.
#[must_use]
pub fn config_refusal(machine: &Machine, peer: IpAddr) -> Option<String> {
    refusal_of("machine configuration", machine, peer, true)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::model::{architecture::Architecture, policy::DiskRoute, testing::machine};

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    /// Not the address of the machines' site.
    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 7);

    fn fleet() -> Inventory {
        let not_found =
            Machine { disk_route: DiskRoute::NotFound, ..(*machine(3, Architecture::Amd64, "v1.13.0", None)).clone() };
        Inventory::new(vec![
            machine(1, Architecture::Amd64, "v1.13.0", None),
            machine(2, Architecture::Arm64, "v1.13.0", None),
            Arc::new(not_found),
        ])
    }

    /// Returns the answer in short, with the last digit of the machine.
    fn answer(path: &str, peer: &str, check_source: bool, on_disk: &[u8]) -> String {
        let inventory = fleet();
        let on_disk = inventory.machines().iter().filter(|machine| on_disk.contains(&machine.mac.0[5]));
        let reached_disk: HashSet<_> = on_disk.map(|machine| machine.mac).collect();
        let policies = PolicyBook { reached_disk, ..PolicyBook::default() };
        let file = ConfigFile::parse(path.as_bytes()).unwrap();
        let peer = peer.parse().unwrap();
        let (inventory, policies, images) = (&inventory, &policies, &Images::default());
        let asked = ConfigRequest {
            file,
            peer,
            server: SERVER,
            inventory,
            policies,
            images,
            check_source,
            files: Files::Tftp,
            now: NOW,
        };
        match asked.answer() {
            Answer::Config { machine, disposition, text } => {
                let kind = if text.starts_with("# GRUB") { "grub" } else { "u-boot" };
                format!("{kind} {disposition:?} {}", machine.mac.0[5])
            }
            Answer::Waits { machine, text, .. } => format!("waits {}{}", machine.mac.0[5], text.unwrap_or_default()),
            Answer::ToDisk(machine) => format!("to disk {}", machine.mac.0[5]),
            Answer::NotTheirs { machine, reason } => format!("refused {}: {reason}", machine.mac.0[5]),
            Answer::NoMachine => "none".to_owned(),
        }
    }

    #[test]
    fn machine_with_secrets_gets_no_file_unless_it_boots_from_its_disk_or_the_spec_allows_it() {
        let with = |secrets, kernel_args: &str| {
            let plain = Machine::clone(&machine(1, Architecture::Amd64, "v1.13.0", None));
            Inventory::new(vec![Arc::new(Machine { secrets, kernel_args: kernel_args.into(), ..plain })])
        };
        let secret = "join.token=hunter2-hunter2";
        for (secrets, check_source, is_on_disk, expected) in [
            (Secrets::Guarded, true, false, "refused"),
            (Secrets::Guarded, true, true, "disk"),
            // Another server assigns the addresses.
            (Secrets::Guarded, false, false, "given"),
            (Secrets::ByAddress, true, false, "given"),
            (Secrets::None, true, false, "given"),
        ] {
            for path in [
                "grub.cfg",
                "grub.cfg-01-02-00-00-00-00-01",
                "pxelinux.cfg/7F000001",
                "pxelinux.cfg/01-02-00-00-00-00-01",
            ] {
                let inventory = with(secrets, secret);
                let reached_disk =
                    inventory.machines().iter().filter(|_| is_on_disk).map(|machine| machine.mac).collect();
                let asked = ConfigRequest {
                    file: ConfigFile::parse(path.as_bytes()).unwrap(),
                    peer: "127.0.0.1".parse().unwrap(),
                    server: SERVER,
                    inventory: &inventory,
                    policies: &PolicyBook { reached_disk, ..PolicyBook::default() },
                    images: &Images::default(),
                    check_source,
                    files: Files::Tftp,
                    now: NOW,
                };
                let answer = asked.answer();
                let found = match &answer {
                    Answer::NotTheirs { reason, .. } => {
                        assert!(reason.contains("join.token") && reason.contains("by-address"), "{reason}");
                        "refused"
                    }
                    Answer::ToDisk(_) | Answer::Config { disposition: Disposition::Disk, .. } => "disk",
                    Answer::Config { text, .. } if text.contains(secret) => "given",
                    other => panic!("{other:?}"),
                };
                assert_eq!(found, expected, "{path} {secrets:?} {check_source}");
                assert!(expected == "given" || !format!("{answer:?}").replace(secret, "").contains("hunter2"));
            }
        }
    }

    #[test]
    fn machine_gets_its_own_file_only() {
        let refused =
            "refused 1: asked from 127.0.0.2, but only 127.0.0.1 may get the boot script of 02:00:00:00:00:01";
        for (path, peer, expected) in [
            ("/grub/grub.cfg", "127.0.0.1", "grub Network 1"),
            ("/grub/grub.cfg", "127.0.0.2", "grub Network 2"),
            ("/grub/grub.cfg", "127.0.0.9", "none"),
            ("/grub/grub.cfg", "::1", "none"),
            ("grub.cfg-01-02-00-00-00-00-01", "127.0.0.1", "grub Network 1"),
            ("grub.cfg-01-02-00-00-00-00-01", "127.0.0.2", refused),
            ("grub.cfg-01-02-00-00-00-00-09", "127.0.0.1", "none"),
            ("grub.cfg-7F000001", "127.0.0.1", "grub Network 1"),
            ("pxelinux.cfg/7F000001", "127.0.0.2", refused),
            ("pxelinux.cfg/7F000009", "127.0.0.1", "none"),
            ("pxelinux.cfg/01-02-00-00-00-00-02", "127.0.0.2", "u-boot Network 2"),
            ("pxelinux.cfg/01-02-00-00-00-00-01", "127.0.0.2", refused),
            ("pxelinux.cfg/01-02-00-00-00-00-01", "127.0.0.9", &refused.replace("0.0.2,", "0.0.9,")),
        ] {
            assert_eq!(answer(path, peer, true, &[]), expected, "{path} for {peer}");
        }
    }

    #[test]
    fn file_is_given_to_anybody_if_another_server_assigns_the_addresses() {
        assert_eq!(answer("grub.cfg-01-02-00-00-00-00-01", "127.0.0.9", false, &[]), "grub Network 1");
        assert_eq!(answer("pxelinux.cfg/01-02-00-00-00-00-02", "127.0.0.9", false, &[]), "u-boot Network 2");
        assert_eq!(answer("grub.cfg", "127.0.0.9", false, &[]), "none");
    }

    #[test]
    fn machine_configuration_is_for_its_machine_alone() {
        let machine = machine(1, Architecture::Amd64, "v1.13.0", None);
        assert_eq!(config_refusal(&machine, "127.0.0.1".parse().unwrap()), None);
        for other in ["127.0.0.2", "::1", "::ffff:127.0.0.1"] {
            let expected = format!(
                "asked from {other}, but only 127.0.0.1 may get the machine configuration of 02:00:00:00:00:01"
            );
            assert_eq!(config_refusal(&machine, other.parse().unwrap()), Some(expected));
        }
    }

    #[test]
    fn machine_that_boots_from_its_disk_is_sent_there() {
        assert_eq!(answer("grub.cfg", "127.0.0.1", true, &[1]), "grub Disk 1");
        assert_eq!(answer("grub.cfg", "127.0.0.3", true, &[3]), "to disk 3");
        assert_eq!(answer("pxelinux.cfg/01-02-00-00-00-00-02", "127.0.0.2", true, &[2]), "to disk 2");
        assert!(answer("pxelinux.cfg/01-02-00-00-00-00-02", "127.0.0.1", true, &[2]).starts_with("refused 2"));
    }

    #[test]
    fn kernel_is_fetched_as_the_configuration_was() {
        let (inventory, policies) = (fleet(), PolicyBook::default());
        for (path, files, kernel) in [
            ("grub.cfg", Files::Tftp, "linux (tftp,10.9.0.7)/vmlinuz-v1.13.0-amd64 "),
            ("grub.cfg", Files::Http { port: 8000 }, "linux (http,10.9.0.7:8000)/assets/vmlinuz-v1.13.0-amd64 "),
            ("pxelinux.cfg/7F000001", Files::Tftp, "\n kernel vmlinuz-v1.13.0-amd64\n"),
            (
                "pxelinux.cfg/7F000001",
                Files::Http { port: 8000 },
                "\n kernel http://10.9.0.7:8000/assets/vmlinuz-v1.13.0-amd64\n",
            ),
        ] {
            let (file, peer) = (ConfigFile::parse(path.as_bytes()).unwrap(), "127.0.0.1".parse().unwrap());
            let (inventory, policies, images) = (&inventory, &policies, &Images::default());
            let asked = ConfigRequest {
                file,
                peer,
                server: SERVER,
                inventory,
                policies,
                images,
                check_source: true,
                files,
                now: NOW,
            };
            let Answer::Config { text, .. } = asked.answer() else { panic!("no configuration at {path}") };
            assert!(text.contains(kernel), "{path}: {text}");
        }
    }
}
