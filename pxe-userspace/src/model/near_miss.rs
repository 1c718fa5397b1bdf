//! MAC addresses that differ by a slip: the spec names one, and another one asks.

use pxe_common::MacAddr;

use super::inventory::{Inventory, Machine};

/// The distance up to which two addresses of one vendor are taken for cards next to each other.
const NEXT_TO: u32 = 8;

/// The slip that turns one MAC address into another, the likelier first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slip {
    /// One hexadecimal digit differs.
    OneDigit,
    /// Two digits next to each other, or two bytes, are swapped.
    Swapped,
    /// Another network card of the same vendor, this many addresses further.
    NextCard(u32),
}

impl Slip {
    /// Returns the slip between two addresses, if there is one.
    #[must_use]
    pub fn between(one: MacAddr, other: MacAddr) -> Option<Self> {
        let (a, b) = (digits(one), digits(other));
        let differing: Vec<usize> = (0..a.len()).filter(|&at| a[at] != b[at]).collect();
        let swapped = |first: usize, second: usize| a[first] == b[second] && a[second] == b[first];
        match *differing.as_slice() {
            [] => return None,
            [_] => return Some(Self::OneDigit),
            [first, second] if second == first + 1 && swapped(first, second) => return Some(Self::Swapped),
            _ => {}
        }
        let bytes: Vec<usize> = (0..6).filter(|&at| one.0[at] != other.0[at]).collect();
        if let [first, second] = *bytes.as_slice()
            && one.0[first] == other.0[second]
            && one.0[second] == other.0[first]
        {
            return Some(Self::Swapped);
        }
        let distance = number(one).abs_diff(number(other));
        (one.0[..3] == other.0[..3] && distance <= NEXT_TO).then_some(Self::NextCard(distance))
    }

    /// Returns the slip in words, after an address.
    #[must_use]
    pub fn in_words(self) -> &'static str {
        match self {
            Self::OneDigit => "one digit off",
            Self::Swapped => "two digits swapped",
            Self::NextCard(_) => "the address of a card next to it",
        }
    }
}

/// Returns how many digits of two addresses differ.
#[must_use]
pub fn digits_off(one: MacAddr, other: MacAddr) -> usize {
    digits(one).iter().zip(digits(other)).filter(|(one, other)| **one != *other).count()
}

/// A machine of the spec whose address is a slip away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NearMiss<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// The address of it that is meant.
    pub mac: MacAddr,
    /// The slip.
    pub slip: Slip,
}

/// Returns the machine whose address is nearest to a stranger's, among those that `may_be_meant`. Of equally likely ones it is the one with the
/// nearest number.
pub fn nearest(
    stranger: MacAddr,
    inventory: &Inventory,
    may_be_meant: impl Fn(&Machine) -> bool,
) -> Option<NearMiss<'_>> {
    let found = variants(stranger).filter_map(|mac| {
        let machine = inventory.by_mac(mac)?;
        let slip = Slip::between(stranger, mac)?;
        may_be_meant(machine).then_some(NearMiss { machine, mac, slip })
    });
    found.min_by_key(|near| (near.slip, whole(near.mac).abs_diff(whole(stranger)), near.mac))
}

/// Returns the addresses that are a slip away.
fn variants(mac: MacAddr) -> impl Iterator<Item = MacAddr> {
    let base = digits(mac);
    let one_digit = (0..12).flat_map(move |at| {
        (0..16).map(move |digit| {
            let mut digits = base;
            digits[at] = digit;
            of_digits(digits)
        })
    });
    let swapped = (0..11).map(move |at| {
        let mut digits = base;
        digits.swap(at, at + 1);
        of_digits(digits)
    });
    let bytes = (0..6).flat_map(move |first| {
        (first + 1..6).map(move |second| {
            let mut bytes = mac.0;
            bytes.swap(first, second);
            MacAddr(bytes)
        })
    });
    let [a, b, c, ..] = mac.0;
    let beside = (1..=NEXT_TO)
        .flat_map(move |step| [number(mac).checked_sub(step), number(mac).checked_add(step)].into_iter().flatten());
    let beside = beside.filter(|number| *number <= 0x00ff_ffff).map(move |number| {
        let [_, d, e, f] = number.to_be_bytes();
        MacAddr([a, b, c, d, e, f])
    });
    one_digit.chain(swapped).chain(bytes).chain(beside)
}

fn digits(mac: MacAddr) -> [u8; 12] {
    std::array::from_fn(|at| {
        let byte = mac.0[at / 2];
        if at % 2 == 0 { byte >> 4 } else { byte & 0x0f }
    })
}

fn of_digits(digits: [u8; 12]) -> MacAddr {
    MacAddr(std::array::from_fn(|at| digits[2 * at] << 4 | digits[2 * at + 1]))
}

/// Returns the number that the vendor gave a card.
fn number(mac: MacAddr) -> u32 {
    u32::from_be_bytes([0, mac.0[3], mac.0[4], mac.0[5]])
}

fn whole(mac: MacAddr) -> u64 {
    let [a, b, c, d, e, f] = mac.0;
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{architecture::Architecture, testing::machine};

    fn mac(text: &str) -> MacAddr {
        text.parse().unwrap()
    }

    #[test]
    fn slip_between_addresses() {
        for (one, other, slip) in [
            ("52:54:00:aa:10:09", "52:54:00:aa:10:08", Some(Slip::OneDigit)),
            ("52:54:00:aa:10:09", "52:54:00:aa:18:09", Some(Slip::OneDigit)),
            ("52:54:00:aa:10:09", "52:54:00:aa:01:09", Some(Slip::Swapped)),
            ("52:54:00:aa:10:09", "52:54:00:aa:09:10", Some(Slip::Swapped)),
            ("52:54:00:aa:10:0f", "52:54:00:aa:10:10", Some(Slip::NextCard(1))),
            ("52:54:00:aa:10:0f", "52:54:00:aa:10:18", None),
            ("52:54:00:aa:10:0f", "52:54:01:aa:11:0f", None),
            ("52:54:00:aa:10:0f", "52:54:00:aa:10:0f", None),
            ("52:54:00:ff:ff:ff", "52:54:01:00:00:00", None),
        ] {
            assert_eq!(Slip::between(mac(one), mac(other)), slip, "{one} {other}");
            assert_eq!(Slip::between(mac(other), mac(one)), slip, "{other} {one}");
            let found = variants(mac(one)).any(|variant| variant == mac(other));
            assert!(slip.is_none() || found, "{one} {other}");
        }
    }

    #[test]
    fn nearest_machine_is_the_likeliest() {
        let with = |number, address: &str| {
            let machine = machine(number, Architecture::Amd64, "v1.13.0", None);
            Arc::new(Machine { mac: mac(address), ..(*machine).clone() })
        };
        let inventory = Inventory::new(vec![
            with(1, "52:54:00:aa:10:19"),
            with(2, "52:54:00:aa:10:08"),
            with(3, "52:54:00:aa:01:09"),
            with(4, "52:54:00:aa:10:07"),
        ]);
        let address = |without: &[u8]| {
            let may_be = |machine: &Machine| !without.contains(&machine.address.octets()[3]);
            nearest(mac("52:54:00:aa:10:09"), &inventory, may_be).map(|near| near.machine.address.octets()[3])
        };
        assert_eq!(address(&[]), Some(2));
        assert_eq!(address(&[2]), Some(4));
        assert_eq!(address(&[2, 4]), Some(1));
        assert_eq!(address(&[1, 2, 4]), Some(3));
        assert_eq!(address(&[1, 2, 3, 4]), None);
        assert_eq!(digits_off(mac("52:54:00:aa:10:09"), mac("52:54:00:aa:01:09")), 2);
    }
}
