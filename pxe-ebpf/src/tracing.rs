//! Hands frames to userspace through a ring, each with its verdict: those of the cards that somebody captures, and a few of those that are
//! dropped and heard in no other way.

use core::hint::black_box;

use aya_ebpf::{
    helpers::{bpf_ktime_get_coarse_ns, bpf_ktime_get_ns},
    macros::map,
    maps::{Array, HashMap, PerCpuArray, RingBuf},
    programs::XdpContext,
};
use pxe_common::{
    Bucket, Bytes as _, Counter, MacAddr, MachineKey, Trace, Verdict,
    layout::{TRACED_CAPACITY, TRACES_BYTES, UNSEEN_LIMIT},
    trace::{TRACE_BYTES, TRACED_CARD, UNSEEN_REQUEST},
};

use crate::packet::Packet;

#[map]
static TRACED: HashMap<MachineKey, u8> = HashMap::with_max_entries(TRACED_CAPACITY, 0);

#[map]
static TRACING: Array<u32> = Array::with_max_entries(1, 0);

#[map]
static TRACES: RingBuf = RingBuf::with_byte_size(TRACES_BYTES, 0);

#[map]
static TRACES_LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

#[map]
static UNSEEN: PerCpuArray<Bucket> = PerCpuArray::with_max_entries(1, 0);

/// Writes the frame and its verdict into the ring, if somebody captures its card, or if it is a dropped request that is heard in no other way.
#[inline(always)]
pub fn trace(ctx: &XdpContext, packet: &Packet<'_>, verdict: &Verdict) {
    let is_on = TRACING.get(0).is_some_and(|&cards| cards != 0);
    let is_unseen = matches!(verdict.counter, Counter::UnknownDropped | Counter::RateLimited);
    if !is_on && !is_unseen {
        return;
    }
    let mac = match (verdict.machine.is_zero(), packet.read(6)) {
        (true, Some(source)) => MacAddr(source),
        _ => verdict.machine,
    };
    let cause = if is_on && verdict.counter.is_of_dhcp() && TRACED.get_ptr(MachineKey::from(mac)).is_some() {
        TRACED_CARD
    } else if is_unseen && may_tell() {
        UNSEEN_REQUEST
    } else {
        return;
    };
    write(ctx, verdict.counter, mac, cause);
}

#[inline(always)]
fn may_tell() -> bool {
    let Some(slot) = UNSEEN.get_ptr_mut(0) else { return false };
    // SAFETY: the helper has no precondition. The pointer is to this CPU's value of the map; programs are not preempted by themselves.
    unsafe {
        let (bucket, admitted) = (*slot).take(bpf_ktime_get_coarse_ns(), UNSEEN_LIMIT);
        *slot = bucket;
        admitted
    }
}

/// The verifier follows the loop for each state of the program in which it is reached. So everything that it knows of the frame and the verdict is
/// written before, and the pointers to the frame are read again: what it knows is then the same for all of them.
#[inline(always)]
fn write(ctx: &XdpContext, counter: Counter, mac: MacAddr, cause: u8) {
    let Some(mut entry) = TRACES.reserve::<Trace>(0) else {
        if let Some(lost) = TRACES_LOST.get_ptr_mut(0) {
            // SAFETY: as for the bucket.
            unsafe { *lost += 1 };
        }
        return;
    };
    let trace = entry.as_mut_ptr();
    let ctx = black_box(ctx);
    let packet = Packet::of(ctx);
    let length = packet.length();
    let kept = if length < TRACE_BYTES { length } else { TRACE_BYTES };
    // SAFETY: the ring gave room for a `Trace`, which nobody reads before it is submitted. The verifier checks each of the writes again.
    unsafe {
        (&raw mut (*trace).at_ns).write(bpf_ktime_get_ns());
        (&raw mut (*trace).counter).write(counter as u32);
        (&raw mut (*trace).queue).write(ctx.rx_queue_index());
        (&raw mut (*trace).length).write(length as u32);
        (&raw mut (*trace).kept).write(kept as u32);
        (&raw mut (*trace).mac).write(mac);
        (&raw mut (*trace).cause).write(cause);
        (&raw mut (*trace).zero).write(0);
        let bytes = (&raw mut (*trace).bytes).cast::<u8>();
        let mut at = 0;
        while at + WORD <= TRACE_BYTES {
            let Some(word) = packet.read::<WORD>(at) else { break };
            bytes.add(at).cast::<[u8; WORD]>().write(word);
            at += WORD;
        }
        // The last word, of which the loop may have written a part. Behind the barrier the compiler compares the pointer that is read from.
        let last = black_box(kept.wrapping_sub(WORD));
        if last <= TRACE_BYTES - WORD
            && let Some(word) = packet.read::<WORD>(last)
        {
            bytes.add(last).cast::<[u8; WORD]>().write(word);
        }
    }
    entry.submit(0);
}

/// The bytes that are copied at a time.
const WORD: usize = 8;
