//! Who asks by DHCP and is not answered: strangers, which no cluster spec names, and machines of the spec that ask where they are not served.
//!
//! Anybody can send such questions, with any MAC address, so both tables are bounded. When the table of strangers is full, one that asked once
//! makes room before one that asked again: a flood of made-up addresses does not push out the machine with a mistake in its spec.

use std::{
    collections::{BTreeSet, HashMap},
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use pxe_common::MacAddr;

use super::{client_architecture::ClientArchitecture, event::ClientKind, inventory::AddressHashBuilder};

/// The most strangers that are remembered.
pub const STRANGER_LIMIT: usize = 1024;

/// One question by DHCP that was overheard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The time at which it came.
    pub at: SystemTime,
    /// The hardware address of the client.
    pub mac: MacAddr,
    /// The interface that it came to.
    pub interface: Arc<str>,
    /// The VLAN of its outermost tag.
    pub vlan: Option<u16>,
    /// The relay that forwarded it.
    pub relay: Option<Ipv4Addr>,
    /// The program that asks, if the message can be read.
    pub client: Option<ClientKind>,
    /// The firmware's processor architecture type (IANA), if it names one.
    pub architecture: Option<u16>,
    /// What keeps the message from being answered, whoever sends it.
    pub problem: Option<&'static str>,
}

impl Question {
    /// Returns the program and its architecture in words, `None` if the message does not say.
    #[must_use]
    pub fn firmware(&self) -> Option<String> {
        let architecture = self.architecture.map(|number| ClientArchitecture::of(number).name);
        let program = match self.client? {
            ClientKind::Pxe => "PXE",
            ClientKind::HttpBoot => "HTTP boot",
            ClientKind::Ipxe => "iPXE",
            ClientKind::Plain => return architecture.map(str::to_owned),
        };
        Some(match architecture {
            Some(name) if name.contains(program) => name.to_owned(),
            Some(name) => format!("{name}, {program}"),
            None => program.to_owned(),
        })
    }
}

/// A client whose questions were overheard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overheard {
    /// The last question.
    pub last: Question,
    /// The time of the first.
    pub first_seen: SystemTime,
    /// The number of questions.
    pub count: u64,
}

/// Those who ask and are not answered.
#[derive(Debug, Default)]
pub struct Strangers {
    strangers: HashMap<MacAddr, Overheard>,
    /// The order in which strangers make room: those that asked once first, then by age.
    order: BTreeSet<(bool, SystemTime, MacAddr)>,
    /// Questions of machines of the spec, by network card.
    astray: HashMap<MacAddr, Overheard, AddressHashBuilder>,
}

impl Strangers {
    /// Remembers the question of a stranger.
    pub fn note_stranger(&mut self, question: Question) {
        let mac = question.mac;
        let known = self.strangers.remove(&mac);
        if let Some(known) = &known {
            self.order.remove(&place(mac, known));
        } else if self.strangers.len() >= STRANGER_LIMIT
            && let Some((_, _, first)) = self.order.pop_first()
        {
            self.strangers.remove(&first);
        }
        let stranger = overheard(known, question);
        self.order.insert(place(mac, &stranger));
        self.strangers.insert(mac, stranger);
    }

    /// Remembers the question of a machine of the spec that was not answered. There are at most `machines` of them, and `is_machine` says which
    /// are still in the spec.
    pub fn note_astray(&mut self, question: Question, machines: usize, is_machine: impl Fn(MacAddr) -> bool) {
        let known = self.astray.remove(&question.mac);
        if known.is_none() && self.astray.len() >= machines {
            self.astray.retain(|&mac, _| is_machine(mac));
        }
        if known.is_some() || self.astray.len() < machines {
            self.astray.insert(question.mac, overheard(known, question));
        }
    }

    /// Returns the strangers, the one that asked last first.
    pub fn iter(&self) -> impl Iterator<Item = &Overheard> {
        let mut strangers: Vec<_> = self.strangers.values().collect();
        strangers.sort_by_key(|stranger| (std::cmp::Reverse(stranger.last.at), stranger.last.mac));
        strangers.into_iter()
    }

    /// Returns the stranger with this address.
    #[must_use]
    pub fn stranger(&self, mac: MacAddr) -> Option<&Overheard> {
        self.strangers.get(&mac)
    }

    /// Forgets the stranger with this address, since the spec names it by now.
    pub fn forget(&mut self, mac: MacAddr) {
        if let Some(known) = self.strangers.remove(&mac) {
            self.order.remove(&place(mac, &known));
        }
    }

    /// Returns the unanswered questions of a network card of the spec.
    #[must_use]
    pub fn astray(&self, mac: MacAddr) -> Option<&Overheard> {
        self.astray.get(&mac)
    }
}

fn place(mac: MacAddr, stranger: &Overheard) -> (bool, SystemTime, MacAddr) {
    (stranger.count > 1, stranger.last.at, mac)
}

fn overheard(known: Option<Overheard>, question: Question) -> Overheard {
    match known {
        Some(known) => Overheard { last: question, count: known.count.saturating_add(1), ..known },
        None => Overheard { first_seen: question.at, last: question, count: 1 },
    }
}

/// The strangers, written by the thread that listens.
#[derive(Clone, Debug, Default)]
pub struct SharedStrangers(Arc<Mutex<Strangers>>);

impl SharedStrangers {
    /// Locks the tables.
    pub fn lock(&self) -> MutexGuard<'_, Strangers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn question(number: u32, seconds: u64) -> Question {
        let [a, b, c, d] = number.to_be_bytes();
        Question {
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
            mac: MacAddr([2, 0, a, b, c, d]),
            interface: "prov0".into(),
            vlan: None,
            relay: None,
            client: Some(ClientKind::Pxe),
            architecture: Some(7),
            problem: None,
        }
    }

    #[test]
    fn stranger_that_asks_again_is_counted() {
        let mut strangers = Strangers::default();
        for seconds in [1, 5, 9] {
            strangers.note_stranger(question(1, seconds));
        }
        strangers.note_stranger(question(2, 7));
        let list: Vec<_> = strangers.iter().map(|stranger| (stranger.last.mac.0[5], stranger.count)).collect();
        assert_eq!(list, [(1, 3), (2, 1)]);
        assert_eq!(strangers.iter().next().unwrap().first_seen, question(1, 1).at);
        strangers.forget(question(1, 0).mac);
        assert_eq!((strangers.iter().count(), strangers.order.len()), (1, 1));
    }

    #[test]
    fn flood_of_addresses_keeps_those_that_asked_again() {
        let mut strangers = Strangers::default();
        strangers.note_stranger(question(7, 1));
        strangers.note_stranger(question(7, 2));
        for number in 0..100_000 {
            strangers.note_stranger(question(1_000 + number, 3 + u64::from(number)));
        }
        assert_eq!((strangers.strangers.len(), strangers.order.len()), (STRANGER_LIMIT, STRANGER_LIMIT));
        assert_eq!(strangers.stranger(question(7, 0).mac).map(|stranger| stranger.count), Some(2));
    }

    #[test]
    fn machines_astray_are_as_many_as_the_spec_has() {
        let mut strangers = Strangers::default();
        for number in 0..10 {
            strangers.note_astray(question(number, 1), 4, |mac| mac.0[5] > 1);
        }
        let astray: Vec<_> = (0..10).filter(|&number| strangers.astray(question(number, 0).mac).is_some()).collect();
        assert_eq!(astray, [2, 3, 4, 5], "two of the first four have left the spec");
    }

    #[test]
    fn firmware_is_named_once() {
        let of = |client, architecture| Question { client, architecture, ..question(1, 1) }.firmware();
        assert_eq!(of(Some(ClientKind::Pxe), Some(7)).as_deref(), Some("x86-64 UEFI, PXE"));
        assert_eq!(of(Some(ClientKind::HttpBoot), Some(16)).as_deref(), Some("x86-64 UEFI, HTTP boot"));
        assert_eq!(of(Some(ClientKind::Ipxe), None).as_deref(), Some("iPXE"));
        assert_eq!((of(Some(ClientKind::Plain), None), of(None, Some(7))), (None, None));
    }
}
