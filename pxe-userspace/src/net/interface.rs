//! The kernel's view of a network interface, and the conditions for serving on it.

use std::{
    io,
    net::{Ipv4Addr, UdpSocket},
};

use nix::{
    ifaddrs::{InterfaceAddress, getifaddrs},
    net::if_::InterfaceFlags,
};
use pxe_common::MacAddr;

use super::{networks::Networks, prefix};

/// A network interface as the kernel reports it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Its hardware address.
    pub mac: MacAddr,
    /// The largest IP packet, in bytes.
    pub mtu: u16,
    /// Its IPv4 addresses, each with its prefix length.
    pub addresses: Vec<(Ipv4Addr, u8)>,
    /// True if a person has set it up (`IFF_UP`).
    pub up: bool,
    /// True if the link has a carrier (`IFF_RUNNING`).
    pub running: bool,
    /// The number of receive queues, each of which gets a worker.
    pub queues: u32,
    /// True if it joins several interfaces, as a bond does. There the driver's own XDP runs on the members, and their frames
    /// never reach a socket that is bound to the aggregate.
    pub aggregate: bool,
    /// True if it takes VLAN tags out of frames (`rxvlan`), so that XDP does not see them.
    pub strips_tags: bool,
    /// True if this host has an interface on one of its VLANs, such as `eth1.100`.
    pub has_vlans: bool,
}

/// An interface cannot serve, or could not be looked up; with what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    /// The interface does not exist.
    #[error(
        "interface {name} (pxeServerSpec.interface) does not exist here; there are: {present}. Correct the spec, or \
         create the interface"
    )]
    Missing {
        /// The interface.
        name: String,
        /// The names of the interfaces that exist.
        present: String,
    },
    /// It is not up.
    #[error("interface {name} is down: `ip link set dev {name} up`")]
    Down {
        /// The interface.
        name: String,
    },
    /// The interface lacks the server's address.
    #[error(
        "interface {name} does not have the address {address} of pxeServerSpec.address (it has: {present}): \
         `ip address add {address}/24 dev {name}`, with your network's prefix length"
    )]
    NoAddress {
        /// The interface.
        name: String,
        /// The address in the spec.
        address: Ipv4Addr,
        /// The addresses of the interface.
        present: String,
    },
    /// The interface lacks the server's address, but is in its network: another host may have the address at the moment.
    #[error(
        "interface {name} does not have the address {address} of pxeServerSpec.address now (it has: {present}). It is \
         served as soon as the interface has it: if no other host has it for now (keepalived), \
         `ip address add {address}/{prefix_length} dev {name}`"
    )]
    AddressElsewhere {
        /// The interface.
        name: String,
        /// The address in the spec.
        address: Ipv4Addr,
        /// The prefix length of the network.
        prefix_length: u8,
        /// The addresses of the interface.
        present: String,
    },
    /// The interface has no address at which a node could serve a site.
    #[error(
        "interface {name} has no address of this node's own in the network of {address} (pxeServerSpec.address; it has: {present}): \
         give it one with `ip address add ADDRESS/PREFIX dev {name}`, or choose one that it has with --advertise ADDRESS"
    )]
    NoOwnAddress {
        /// The interface.
        name: String,
        /// The address in the spec.
        address: Ipv4Addr,
        /// The addresses of the interface.
        present: String,
    },
    /// A machine of the spec has an address that a node has.
    #[error(
        "the machine {mac} has the address {address} in the spec, which {owner} has: it gets no answer until one of the two \
         is given another address"
    )]
    MachineHasOurs {
        /// The machine.
        mac: MacAddr,
        /// The address.
        address: Ipv4Addr,
        /// The interface or the other node that has it.
        owner: String,
    },
    /// The interface is not an Ethernet interface.
    #[error("interface {name} has no Ethernet address; pxed serves Ethernet networks only")]
    NotEthernet {
        /// The interface.
        name: String,
    },
    /// The kernel could not be asked, so nothing is known about the interface.
    #[error("interface {name} cannot be looked up: {what}: {error}")]
    Unreadable {
        /// The interface.
        name: String,
        /// The request to the kernel.
        what: &'static str,
        /// Its answer.
        error: io::Error,
    },
}

impl InterfaceError {
    /// Returns `true` if the kernel said that the interface does not exist or cannot be served. Returns `false` if the error
    /// leaves open whether it exists.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        match self {
            Self::Missing { .. } | Self::NotEthernet { .. } => true,
            Self::Down { .. }
            | Self::NoAddress { .. }
            | Self::AddressElsewhere { .. }
            | Self::NoOwnAddress { .. }
            | Self::MachineHasOurs { .. }
            | Self::Unreadable { .. } => false,
        }
    }

    /// Returns `true` if another host may have the missing address, so that waiting for it is all that there is to do.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::AddressElsewhere { .. })
    }
}

impl Interface {
    /// Reads an interface from the kernel.
    ///
    /// # Errors
    ///
    /// [`InterfaceError::Missing`] or [`InterfaceError::NotEthernet`] if the kernel's list of interfaces says so;
    /// [`InterfaceError::Unreadable`] if the kernel could not be asked, whatever the reason.
    pub fn read(name: &str) -> Result<Self, InterfaceError> {
        let unreadable = |what| move |error| InterfaceError::Unreadable { name: name.to_owned(), what, error };
        let entries: Vec<_> = getifaddrs().map_err(|error| unreadable("getifaddrs")(error.into()))?.collect();
        let Link { index, mac, addresses, up, running } = find(name, &entries)?;
        let device = std::path::Path::new("/sys/class/net").join(name);
        Ok(Self {
            name: name.to_owned(),
            index,
            mac,
            mtu: sys::mtu(name).map_err(unreadable("SIOCGIFMTU"))?,
            addresses,
            up,
            running,
            queues: queues(sys::receive_channels(name), || listed_queues(&device))
                .map_err(unreadable("counting receive queues"))?,
            aggregate: device.join("bonding").exists() || device.join("team").exists(),
            // Neither stops an interface from being served, so an error counts as a no.
            strips_tags: sys::strips_tags(name).unwrap_or(false),
            has_vlans: has_vlans(&device).unwrap_or(false),
        })
    }

    /// Returns the prefix length of one of its addresses.
    #[must_use]
    pub fn prefix_length(&self, address: Ipv4Addr) -> Option<u8> {
        self.addresses.iter().find(|(present, _)| *present == address).map(|&(_, prefix_length)| prefix_length)
    }

    /// Returns the addresses besides 255.255.255.255 at which the kernel takes packets for this host: its own and the
    /// broadcast addresses of its networks, sorted.
    #[must_use]
    pub fn reached_at(&self) -> Vec<Ipv4Addr> {
        let broadcasts = self.addresses.iter().filter_map(|&(address, length)| prefix::broadcast(address, length));
        let mut reached: Vec<_> = self.addresses.iter().map(|&(address, _)| address).chain(broadcasts).collect();
        reached.sort_unstable();
        reached.dedup();
        reached
    }

    /// Returns true if the kernel now has another device under this name, or has reconfigured it.
    #[must_use]
    pub fn is_replaced_by(&self, now: &Self) -> bool {
        let of = |interface: &Self| (interface.index, interface.mac, interface.mtu, interface.queues);
        of(self) != of(now)
    }

    /// Returns the prefix length of one of its addresses, if a server can serve there.
    ///
    /// # Errors
    ///
    /// If the interface is down or does not have the address.
    pub fn serves(&self, address: Ipv4Addr) -> Result<u8, InterfaceError> {
        if !self.up {
            return Err(self.is_down());
        }
        self.prefix_length(address).ok_or_else(|| self.lacks(address))
    }

    /// Returns the error for an interface that is down.
    #[must_use]
    pub fn is_down(&self) -> InterfaceError {
        InterfaceError::Down { name: self.name.clone() }
    }

    /// Returns the error for an interface without any address at which a node could serve a site.
    #[must_use]
    pub fn has_none_for(&self, site: Ipv4Addr) -> InterfaceError {
        InterfaceError::NoOwnAddress { name: self.name.clone(), address: site, present: listed(&self.addresses) }
    }

    /// Returns the error for an interface without this address.
    #[must_use]
    pub fn lacks(&self, address: Ipv4Addr) -> InterfaceError {
        let (name, present) = (self.name.clone(), listed(&self.addresses));
        match Networks::around(address, &self.addresses).holding(address) {
            Some((_, prefix_length)) => InterfaceError::AddressElsewhere { name, address, prefix_length, present },
            None => InterfaceError::NoAddress { name, address, present },
        }
    }
}

/// Returns addresses with their prefix lengths as text, or "none".
#[must_use]
pub fn listed(addresses: &[(Ipv4Addr, u8)]) -> String {
    let listed: Vec<_> = addresses.iter().map(|(address, length)| format!("{address}/{length}")).collect();
    if listed.is_empty() { "none".to_owned() } else { listed.join(", ") }
}

/// An interface in the kernel's list.
struct Link {
    index: u32,
    mac: MacAddr,
    addresses: Vec<(Ipv4Addr, u8)>,
    up: bool,
    running: bool,
}

/// Finds an interface in the kernel's list. The index is taken from there too: a separate request for it could fail, which
/// would not mean that there is no such interface.
fn find(name: &str, entries: &[InterfaceAddress]) -> Result<Link, InterfaceError> {
    // An address with a label (ip-address(8)) is listed under `name:label`.
    let of_ours = |entry: &&InterfaceAddress| entry.interface_name.split(':').next() == Some(name);
    if !entries.iter().any(|entry| of_ours(&entry)) {
        let mut present: Vec<_> = entries.iter().map(|entry| entry.interface_name.as_str()).collect();
        present.sort_unstable();
        present.dedup();
        return Err(InterfaceError::Missing { name: name.to_owned(), present: present.join(", ") });
    }
    let mut device = None;
    let mut addresses = Vec::new();
    let mut flags = InterfaceFlags::empty();
    for entry in entries.iter().filter(of_ours) {
        flags |= entry.flags;
        let Some(address) = entry.address else { continue };
        if let Some(link) = address.as_link_addr()
            && let Some(mac) = link.addr()
        {
            device = u32::try_from(link.ifindex()).ok().map(|index| (index, MacAddr(mac)));
        }
        if let Some(ipv4) = address.as_sockaddr_in() {
            let mask = entry.netmask.and_then(|mask| mask.as_sockaddr_in().map(nix::sys::socket::SockaddrIn::ip));
            let prefix = mask.map_or(32, |mask| mask.to_bits().leading_ones());
            addresses.push((ipv4.ip(), u8::try_from(prefix).unwrap_or(32)));
        }
    }
    let is_ethernet = |mac: &MacAddr| !mac.is_zero() || flags.contains(InterfaceFlags::IFF_LOOPBACK);
    match device.filter(|(_, mac)| is_ethernet(mac)) {
        Some((index, mac)) => Ok(Link {
            index,
            mac,
            addresses,
            up: flags.contains(InterfaceFlags::IFF_UP),
            running: flags.contains(InterfaceFlags::IFF_RUNNING),
        }),
        None => Err(InterfaceError::NotEthernet { name: name.to_owned() }),
    }
}

/// Returns the number of receive queues in use: the driver's channels, or the queues that sysfs lists if the driver has no
/// channels. Only EOPNOTSUPP means that: a driver may also be unable to answer for a moment, while it resets its card.
fn queues(channels: io::Result<u32>, listed: impl FnOnce() -> io::Result<u32>) -> io::Result<u32> {
    let count = match channels {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => listed(),
        channels => channels,
    };
    Ok(count?.max(1))
}

/// Returns `true` if one of the interfaces on top of this one is a VLAN, as sysfs lists them.
fn has_vlans(device: &std::path::Path) -> io::Result<bool> {
    for entry in std::fs::read_dir(device)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b"upper_")
            && std::fs::read_to_string(entry.path().join("uevent"))?.lines().any(|line| line == "DEVTYPE=vlan")
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn listed_queues(device: &std::path::Path) -> io::Result<u32> {
    let mut count = 0;
    for entry in std::fs::read_dir(device.join("queues"))? {
        count += u32::from(entry?.file_name().as_encoded_bytes().starts_with(b"rx-"));
    }
    Ok(count)
}

/// Returns the hardware address of a neighbour on an interface, if the kernel knows it (arp(7), SIOCGARP).
///
/// # Errors
///
/// If the kernel refuses, or no interface has this name.
pub(super) fn neighbour(socket: &UdpSocket, name: &str, address: Ipv4Addr) -> io::Result<Option<MacAddr>> {
    match sys::neighbour(socket, name, address) {
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
        found => found,
    }
}

#[expect(unsafe_code, reason = "these facts come by ioctl alone, and no crate here wraps them")]
mod sys {
    use std::{
        ffi::CString,
        io,
        net::{Ipv4Addr, UdpSocket},
        os::fd::AsRawFd as _,
    };

    use pxe_common::MacAddr;

    /// Returns the MTU of an interface in the caller's network namespace (netdevice(7), SIOCGIFMTU).
    pub(super) fn mtu(name: &str) -> io::Result<u16> {
        let mut request = request(name)?;
        ioctl(libc::SIOCGIFMTU, &mut request)?;
        // SAFETY: SIOCGIFMTU has filled in this member of the union.
        let mtu = unsafe { request.ifr_ifru.ifru_mtu };
        Ok(u16::try_from(mtu).unwrap_or(u16::MAX))
    }

    /// `struct ethtool_channels` of linux/ethtool.h.
    #[repr(C)]
    #[derive(Default)]
    struct Channels {
        cmd: u32,
        max_rx: u32,
        max_tx: u32,
        max_other: u32,
        max_combined: u32,
        rx_count: u32,
        tx_count: u32,
        other_count: u32,
        combined_count: u32,
    }

    const ETHTOOL_GCHANNELS: u32 = 0x3c;

    /// Returns the number of channels that receive, alone or combined with transmission (ETHTOOL_GCHANNELS).
    pub(super) fn receive_channels(name: &str) -> io::Result<u32> {
        let mut channels = Channels { cmd: ETHTOOL_GCHANNELS, ..Channels::default() };
        let mut request = request(name)?;
        request.ifr_ifru.ifru_data = (&raw mut channels).cast();
        ioctl(libc::SIOCETHTOOL, &mut request)?;
        Ok(channels.rx_count.saturating_add(channels.combined_count))
    }

    /// `struct ethtool_value` of linux/ethtool.h.
    #[repr(C)]
    struct Value {
        cmd: u32,
        data: u32,
    }

    const ETHTOOL_GFLAGS: u32 = 0x25;
    const ETH_FLAG_RXVLAN: u32 = 1 << 8;

    /// Returns `true` if the interface takes VLAN tags out of received frames (ETHTOOL_GFLAGS).
    pub(super) fn strips_tags(name: &str) -> io::Result<bool> {
        let mut flags = Value { cmd: ETHTOOL_GFLAGS, data: 0 };
        let mut request = request(name)?;
        request.ifr_ifru.ifru_data = (&raw mut flags).cast();
        ioctl(libc::SIOCETHTOOL, &mut request)?;
        Ok(flags.data & ETH_FLAG_RXVLAN != 0)
    }

    /// `ENXIO`: there is no entry.
    pub(super) fn neighbour(socket: &UdpSocket, name: &str, address: Ipv4Addr) -> io::Result<Option<MacAddr>> {
        // SAFETY: `arpreq` is plain data of the kernel's ABI, for which all zeroes is a valid value.
        let mut request: libc::arpreq = unsafe { std::mem::zeroed() };
        request.arp_pa.sa_family = libc::AF_INET as libc::sa_family_t;
        // `struct sockaddr_in`: two bytes of port, then the address.
        for (slot, byte) in request.arp_pa.sa_data[2..6].iter_mut().zip(address.octets()) {
            *slot = byte.cast_signed();
        }
        let length = request.arp_dev.len() - 1;
        for (slot, &byte) in request.arp_dev[..length].iter_mut().zip(name.as_bytes()) {
            *slot = byte.cast_signed();
        }
        // SAFETY: the descriptor is open, and SIOCGARP writes only within the `arpreq`.
        let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGARP as _, std::ptr::from_mut(&mut request)) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut mac = MacAddr::default();
        for (slot, byte) in mac.0.iter_mut().zip(request.arp_ha.sa_data) {
            *slot = byte.cast_unsigned();
        }
        // Without this flag, the kernel is still resolving the address.
        Ok((request.arp_flags & libc::ATF_COM != 0).then_some(mac))
    }

    fn request(name: &str) -> io::Result<libc::ifreq> {
        let name = CString::new(name)?;
        // SAFETY: `ifreq` is plain data of the kernel's ABI, for which all zeroes is a valid value.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        let bytes = name.as_bytes_with_nul();
        if bytes.len() > request.ifr_name.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        for (slot, &byte) in request.ifr_name.iter_mut().zip(bytes) {
            *slot = byte.cast_signed();
        }
        Ok(request)
    }

    fn ioctl(number: libc::c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        // SAFETY: the descriptor is open; the requests used here write only within the `ifreq`, or within the
        // `Channels` or the `Value` that it points to, which the caller keeps alive.
        let result = unsafe { libc::ioctl(socket.as_raw_fd(), number as _, std::ptr::from_mut(request)) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface() -> Interface {
        Interface {
            name: "eth1".to_owned(),
            index: 7,
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            addresses: vec![(Ipv4Addr::new(10, 0, 0, 1), 24)],
            up: true,
            running: true,
            queues: 1,
            aggregate: false,
            strips_tags: false,
            has_vlans: false,
        }
    }

    #[test]
    fn present_address_is_served() {
        assert_eq!(interface().serves(Ipv4Addr::new(10, 0, 0, 1)).unwrap(), 24);
    }

    #[test]
    fn interface_is_reached_at_its_addresses_and_the_broadcasts_of_its_networks() {
        let addresses =
            [([10, 0, 0, 1], 24), ([10, 0, 0, 5], 32), ([10, 0, 0, 9], 24), ([10, 1, 0, 0], 31), ([10, 2, 0, 1], 30)];
        let addresses = addresses.map(|(address, length)| (Ipv4Addr::from(address), length)).to_vec();
        let reached = Interface { addresses, ..interface() }.reached_at();
        let expected =
            [[10, 0, 0, 1], [10, 0, 0, 5], [10, 0, 0, 9], [10, 0, 0, 255], [10, 1, 0, 0], [10, 2, 0, 1], [10, 2, 0, 3]];
        assert_eq!(reached, expected.map(Ipv4Addr::from));
        assert!(Interface { addresses: Vec::new(), ..interface() }.reached_at().is_empty());
    }

    #[test]
    fn error_names_the_problem_and_the_fix() {
        let error = interface().serves(Ipv4Addr::new(10, 0, 1, 1)).unwrap_err().to_string();
        assert!(error.contains("it has: 10.0.0.1/24") && error.contains("ip address add 10.0.1.1"), "{error}");

        let error = interface().serves(Ipv4Addr::new(10, 0, 0, 5)).unwrap_err();
        assert!(error.may_pass() && !interface().lacks(Ipv4Addr::new(10, 0, 1, 1)).may_pass());
        let error = error.to_string();
        assert!(error.contains("keepalived") && error.contains("ip address add 10.0.0.5/24 dev eth1"), "{error}");

        let down = Interface { up: false, ..interface() };
        let error = down.serves(Ipv4Addr::new(10, 0, 0, 1)).unwrap_err().to_string();
        assert!(error.contains("ip link set dev eth1 up"), "{error}");

        let error = Interface::read("nosuch0").unwrap_err();
        assert!(error.is_gone());
        let error = error.to_string();
        assert!(error.contains("nosuch0") && error.contains("lo"), "{error}");
    }

    #[test]
    fn interface_on_a_vlan_is_told_apart_from_others_on_top() {
        let sysfs = tempfile::tempdir().unwrap();
        let add = |upper: &str, uevent: &str| {
            let upper = sysfs.path().join(upper);
            std::fs::create_dir(&upper).unwrap();
            std::fs::write(upper.join("uevent"), uevent).unwrap();
        };
        add("queues", "DEVTYPE=vlan\n");
        add("upper_br0", "DEVTYPE=bridge\nINTERFACE=br0\n");
        assert!(!has_vlans(sysfs.path()).unwrap());
        add("upper_eth1.100", "DEVTYPE=vlan\nINTERFACE=eth1.100\n");
        assert!(has_vlans(sysfs.path()).unwrap());
    }

    #[test]
    fn loopback_is_read_from_the_kernel() {
        let loopback = Interface::read("lo").unwrap();
        assert_eq!(loopback.serves(Ipv4Addr::LOCALHOST).unwrap(), 8);
        assert_eq!(loopback.index, nix::net::if_::if_nametoindex("lo").unwrap());
        assert!(loopback.queues >= 1);
    }

    #[test]
    fn interface_is_gone_only_if_missing_or_unsuitable() {
        let unreadable = |errno| InterfaceError::Unreadable {
            name: "eth1".to_owned(),
            what: "getifaddrs",
            error: io::Error::from_raw_os_error(errno),
        };
        for errno in [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENODEV, libc::EACCES] {
            assert!(!unreadable(errno).is_gone(), "errno {errno}");
        }
        assert!(!interface().is_down().is_gone());
        assert!(!interface().lacks(Ipv4Addr::LOCALHOST).is_gone());
        assert!(find("eth1", &[]).is_err_and(|error| error.is_gone()));
    }

    #[test]
    fn queue_count_comes_from_sysfs_only_if_the_driver_has_no_channels() {
        let errno = |errno| Err::<u32, _>(io::Error::from_raw_os_error(errno));
        assert_eq!(queues(Ok(8), || panic!("sysfs")).unwrap(), 8);
        assert_eq!(queues(Ok(0), || panic!("sysfs")).unwrap(), 1);
        assert_eq!(queues(errno(libc::EOPNOTSUPP), || Ok(4)).unwrap(), 4);
        for refusal in [libc::EMFILE, libc::ENODEV, libc::EBUSY] {
            assert_eq!(queues(errno(refusal), || Ok(4)).unwrap_err().raw_os_error(), Some(refusal));
        }
        assert_eq!(
            queues(errno(libc::EOPNOTSUPP), || errno(libc::EMFILE)).unwrap_err().raw_os_error(),
            Some(libc::EMFILE)
        );
    }
}
