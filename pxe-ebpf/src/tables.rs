//! The BPF maps. Their names and layouts are in `pxe_common::layout`.

use core::net::Ipv4Addr;

use aya_ebpf::{
    bindings::xdp_action,
    helpers::bpf_ktime_get_coarse_ns,
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, XskMap},
    programs::XdpContext,
};
use pxe_common::{
    Bucket, Buckets, MachineKey, SenderKey, Settings, Tables,
    counter::{self, Counter},
    layout::{ADDRESSES_CAPACITY, MACHINES_CAPACITY, QUEUES_CAPACITY, SENDERS_CAPACITY, STRAYS_CAPACITY, VLAN_NUMBERS},
};

#[map]
static MACHINES: HashMap<MachineKey, Bucket> = HashMap::with_max_entries(MACHINES_CAPACITY, 0);

#[map]
static ADDRESSES: HashMap<[u8; 4], u8> = HashMap::with_max_entries(ADDRESSES_CAPACITY, 0);

#[map]
static VLANS: Array<u8> = Array::with_max_entries(VLAN_NUMBERS, 0);

#[map]
static STRAYS: HashMap<MachineKey, u16> = HashMap::with_max_entries(STRAYS_CAPACITY, 0);

#[map]
static SENDERS: LruHashMap<SenderKey, Bucket> = LruHashMap::with_max_entries(SENDERS_CAPACITY, 0);

#[map]
static ELSEWHERE: PerCpuArray<Bucket> = PerCpuArray::with_max_entries(1, 0);

#[map]
static XSKS: XskMap = XskMap::with_max_entries(QUEUES_CAPACITY, 0);

#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(counter::COUNTERS, 0);

#[map]
static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);

/// The maps as the receive queue of one frame sees them.
pub struct Kernel<'a> {
    ctx: &'a XdpContext,
}

impl<'a> Kernel<'a> {
    /// For the frame that the program was called for.
    #[inline(always)]
    pub fn of(ctx: &'a XdpContext) -> Self {
        Self { ctx }
    }
}

impl Buckets for Kernel<'_> {
    #[inline(always)]
    fn settings(&self) -> Settings {
        // The one entry of an array is always there.
        SETTINGS.get(0).copied().unwrap_or_default()
    }

    #[inline(always)]
    fn is_known(&self, machine: MachineKey) -> bool {
        MACHINES.get_ptr(machine).is_some()
    }

    #[inline(always)]
    fn update_machine<R>(&self, machine: MachineKey, step: impl FnOnce(Bucket) -> (Bucket, R)) -> Option<R> {
        let state = MACHINES.get_ptr_mut(machine)?;
        // SAFETY: the kernel returned a pointer to a value of this map, which lives until the program ends
        // (RCU). Another CPU, or a machine that userspace puts into a removed one's place, may use it at the
        // same time: it is one aligned word, so the worst is one token more or less.
        let before = unsafe { state.read_volatile() };
        let (after, result) = step(before);
        // SAFETY: as above.
        unsafe { state.write_volatile(after) };
        Some(result)
    }

    #[inline(always)]
    fn sender(&self, key: SenderKey) -> Bucket {
        // SAFETY: a pointer to a value of this map, which is read at once. Another CPU may write it, or put another sender into its place, at the
        // same time: it is one aligned word, so the worst is one token more or less.
        SENDERS.get_ptr(key).map_or_else(Bucket::default, |bucket| unsafe { bucket.read_volatile() })
    }

    #[inline(always)]
    fn set_sender(&self, key: SenderKey, bucket: Bucket) {
        // To write the value in its place is quicker than an insertion.
        if let Some(slot) = SENDERS.get_ptr_mut(key) {
            // SAFETY: as for reading it.
            unsafe { slot.write_volatile(bucket) };
            return;
        }
        // It fails if another CPU holds the map's list. The sender then has a token more.
        let _ = SENDERS.insert(key, bucket, 0);
    }

    #[inline(always)]
    fn elsewhere(&self) -> Bucket {
        ELSEWHERE.get(0).copied().unwrap_or_default()
    }

    #[inline(always)]
    fn set_elsewhere(&self, bucket: Bucket) {
        if let Some(slot) = ELSEWHERE.get_ptr_mut(0) {
            // SAFETY: a pointer to this CPU's value of the map; programs are not preempted by themselves.
            unsafe { *slot = bucket };
        }
    }

    #[inline(always)]
    fn now_ns(&self) -> u64 {
        // Exact to a tick of the kernel, a few milliseconds: enough for a bucket, and 20 ns quicker than the
        // exact clock. Since Linux 5.11.
        // SAFETY: the helper has no precondition.
        unsafe { bpf_ktime_get_coarse_ns() }
    }
}

impl Tables for Kernel<'_> {
    #[inline(always)]
    fn is_ours(&self, address: Ipv4Addr) -> bool {
        ADDRESSES.get_ptr(address.octets()).is_some()
    }

    #[inline(always)]
    fn serves_vlan(&self, vlan: u16) -> bool {
        VLANS.get(vlan.into()).is_some_and(|&served| served != 0)
    }

    #[inline(always)]
    fn note_stray(&self, machine: MachineKey, vlan: u16) {
        if MACHINES.get_ptr(machine).is_some() {
            // It fails when the map is full, until userspace has emptied it.
            let _ = STRAYS.insert(machine, vlan, 0);
        }
    }

    #[inline(always)]
    fn redirect(&self) -> bool {
        XSKS.redirect(self.ctx.rx_queue_index(), u64::from(xdp_action::XDP_PASS)).is_ok()
    }
}

/// Counts a frame.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(slot) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: a pointer to this CPU's value of the map; programs are not preempted by themselves.
        unsafe { *slot += 1 };
    }
}
