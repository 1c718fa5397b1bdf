//! The capabilities (capabilities(7)) of this process: which ones pxed needs, which are missing, and how to grant them.

use std::{fmt, io};

use nix::sys::resource::{Resource, getrlimit};
use rustix::{
    process::geteuid,
    thread::{
        CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, no_new_privs,
        remove_capability_from_bounding_set, set_capabilities,
    },
};

/// The capabilities that loading and attaching the XDP program needs. The verifier accepts a packet's fields behind a header of
/// variable length from holders of `CAP_PERFMON` alone.
pub const FOR_XDP_PROGRAM: Capabilities =
    Capabilities(CapabilitySet::NET_ADMIN.union(CapabilitySet::BPF).union(CapabilitySet::PERFMON));

/// The capability that AF_XDP and packet sockets need.
pub const FOR_RAW_SOCKETS: Capabilities = Capabilities(CapabilitySet::NET_RAW);

/// The capability without which the memory of AF_XDP sockets counts against `RLIMIT_MEMLOCK`.
pub const FOR_LOCKED_MEMORY: Capabilities = Capabilities(CapabilitySet::IPC_LOCK);

/// All that `pxed run` needs with packet sockets; the second is for TFTP's port.
pub const WITHOUT_XDP: Capabilities = Capabilities(FOR_RAW_SOCKETS.0.union(CapabilitySet::NET_BIND_SERVICE));

/// All that `pxed run` needs with XDP, as long as it runs: an interface that comes back gets the program and its sockets again.
pub const WITH_XDP: Capabilities = Capabilities(FOR_XDP_PROGRAM.0.union(FOR_LOCKED_MEMORY.0).union(WITHOUT_XDP.0));

const ALL: CapabilitySet = WITH_XDP.0;

/// The names of these capabilities, in the order in which messages list them.
const NAMES: [(CapabilitySet, &str); 6] = [
    (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
    (CapabilitySet::NET_RAW, "CAP_NET_RAW"),
    (CapabilitySet::NET_BIND_SERVICE, "CAP_NET_BIND_SERVICE"),
    (CapabilitySet::BPF, "CAP_BPF"),
    (CapabilitySet::PERFMON, "CAP_PERFMON"),
    (CapabilitySet::IPC_LOCK, "CAP_IPC_LOCK"),
];

/// A set of capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities(CapabilitySet);

impl Capabilities {
    /// No capability.
    pub const NONE: Self = Self(CapabilitySet::empty());

    /// Returns those that this thread does not have in effect.
    #[must_use]
    pub fn missing(self) -> Self {
        // If the kernel does not tell, nothing is blamed.
        capabilities(None).map_or(Self::NONE, |sets| self.missing_in(sets.effective))
    }

    fn missing_in(self, effective: CapabilitySet) -> Self {
        let mut held = effective;
        if effective.contains(CapabilitySet::SYS_ADMIN) {
            held |= CapabilitySet::BPF | CapabilitySet::PERFMON;
        }
        Self(self.0.difference(held))
    }

    /// Returns the capabilities that this thread has in effect, of those that pxed may need.
    #[must_use]
    pub fn held() -> Self {
        Self(capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective & ALL))
    }

    /// Gives up all capabilities but these, in every set of this thread, and for the threads that it starts later. Those of the bounding
    /// set can be given up by a holder of `CAP_SETPCAP` alone, and mean nothing under `no_new_privs`.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn keep_alone(self) -> io::Result<()> {
        self.bound();
        // Old kernels have no ambient set.
        let _ = clear_ambient_capability_set();
        let permitted = capabilities(None)?.permitted;
        let mut kept = permitted & self.0;
        let newer = self.0 & (CapabilitySet::BPF | CapabilitySet::PERFMON);
        if !kept.contains(newer) {
            // The runtime of a container may be too old for these two, which this one includes.
            kept |= permitted & CapabilitySet::SYS_ADMIN;
        }
        let inheritable = CapabilitySet::empty();
        Ok(set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable })?)
    }

    /// Removes all others from the bounding set, if the kernel lets this thread.
    fn bound(self) {
        // It is no longer in effect once root has become another user.
        if let Ok(mut sets) = capabilities(None) {
            sets.effective |= sets.permitted & CapabilitySet::SETPCAP;
            let _ = set_capabilities(None, sets);
        }
        for number in 0..u64::BITS {
            let one = CapabilitySet::from_bits_retain(1 << number);
            if !self.0.contains(one) && remove_capability_from_bounding_set(one).is_err() {
                // The kernel has no more, or does not let this thread.
                break;
            }
        }
    }

    /// Returns `true` if there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }
}

/// Writes the names, as in a sentence: `CAP_BPF and CAP_PERFMON`.
impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = NAMES.iter().filter(|(one, _)| self.0.contains(*one)).map(|&(_, name)| name).collect();
        match names.split_last() {
            None => Ok(()),
            Some((last, [])) => f.write_str(last),
            Some((last, others)) => write!(f, "{} and {last}", others.join(", ")),
        }
    }
}

/// Puts the permitted capabilities that pxed needs into effect, for this thread and those that it starts later.
///
/// A file capability without the effective bit (`setcap …=p`) only permits. With that bit the kernel would refuse to start pxed
/// wherever one of them is missing, for example in a container, instead of leaving the choice of another datapath to pxed.
pub fn raise() {
    let Ok(mut sets) = capabilities(None) else { return };
    let raised = sets.effective | (sets.permitted & ALL);
    if raised != sets.effective {
        sets.effective = raised;
        // If it fails, what needs them tells which are missing.
        let _ = set_capabilities(None, sets);
    }
}

/// Returns the ways to grant capabilities, to follow "Grant capabilities by", with the datapath that needs fewer.
#[must_use]
pub fn remedy() -> String {
    // If the kernel does not tell, it is not mentioned.
    let is_limited = !geteuid().is_root() && no_new_privs().unwrap_or(false);
    remedy_if(is_limited)
}

fn remedy_if(is_limited: bool) -> String {
    let limit = match is_limited {
        true => {
            ". File capabilities, such as the container image's, have no effect under no_new_privs (allowPrivilegeEscalation: false)"
        }
        false => "",
    };
    let setcap: Vec<_> = NAMES.iter().map(|(_, name)| name.to_lowercase()).collect();
    format!(
        "AmbientCapabilities= and CapabilityBoundingSet= of the systemd unit, securityContext.capabilities.add of the pod, --cap-add of \
         the container, or `setcap {}=p $(command -v pxed)`, or start pxed as root; --datapath socket needs CAP_NET_RAW and \
         CAP_NET_BIND_SERVICE alone{limit}",
        setcap.join(",")
    )
}

/// Returns the limit of locked memory in bytes (`RLIMIT_MEMLOCK`), or `None` if there is none.
#[must_use]
pub fn locked_memory_limit() -> Option<u64> {
    getrlimit(Resource::RLIMIT_MEMLOCK).ok().map(|(soft, _)| soft).filter(|&soft| soft != u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_capabilities_are_named() {
        let held = CapabilitySet::NET_ADMIN | CapabilitySet::NET_RAW;
        assert_eq!(FOR_XDP_PROGRAM.missing_in(held).to_string(), "CAP_BPF and CAP_PERFMON");
        assert_eq!(
            FOR_XDP_PROGRAM.missing_in(CapabilitySet::empty()).to_string(),
            "CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON"
        );
        assert_eq!(FOR_LOCKED_MEMORY.missing_in(held).to_string(), "CAP_IPC_LOCK");
        assert!(FOR_RAW_SOCKETS.missing_in(held).is_empty());
    }

    #[test]
    fn sys_admin_implies_bpf_and_perfmon_alone() {
        let held = CapabilitySet::SYS_ADMIN;
        assert_eq!(FOR_XDP_PROGRAM.missing_in(held).to_string(), "CAP_NET_ADMIN");
        assert_eq!(FOR_LOCKED_MEMORY.missing_in(held).to_string(), "CAP_IPC_LOCK");
    }

    #[test]
    fn every_needed_capability_has_a_name() {
        let named = NAMES.iter().fold(CapabilitySet::empty(), |all, (one, _)| all | *one);
        assert_eq!(named, ALL);
        assert!(
            remedy()
                .contains("`setcap cap_net_admin,cap_net_raw,cap_net_bind_service,cap_bpf,cap_perfmon,cap_ipc_lock=p ")
        );
    }

    #[test]
    fn file_capabilities_without_effect_are_mentioned() {
        assert!(remedy_if(true).contains("allowPrivilegeEscalation: false"));
        assert!(!remedy_if(false).contains("allowPrivilegeEscalation"));
    }

    #[test]
    fn raising_keeps_what_is_in_effect() {
        let before = capabilities(None).unwrap();
        raise();
        let after = capabilities(None).unwrap();
        assert!(after.effective.contains(before.effective));
        assert_eq!((after.permitted, after.inheritable), (before.permitted, before.inheritable));
    }
}
