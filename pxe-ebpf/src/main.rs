//! pxed's XDP program: maps and entry point. What it decides is in `pxe_common::classify`.
#![no_std]
#![no_main]

mod packet;
mod tables;
mod tracing;

use aya_ebpf::{Global, bindings::xdp_action, macros::xdp, programs::XdpContext};
use aya_log_ebpf::{debug, warn};
use pxe_common::{
    Action, Verdict, classify,
    counter::{Class, Counter},
    layout::{LOG_DEBUG, LOG_SILENT, LOG_WARN},
};

use crate::{packet::Packet, tables::Kernel};

/// `pxe_common::layout::LOG_LEVEL`. While it is silent the verifier removes every remark.
#[unsafe(no_mangle)]
static LOG_LEVEL: Global<u8> = Global::new(LOG_SILENT);

#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Judges one received frame.
#[xdp]
pub fn pxed(ctx: XdpContext) -> u32 {
    let packet = Packet::of(&ctx);
    let verdict = classify(&packet, &Kernel::of(&ctx));
    tables::count(verdict.counter);
    remark(&ctx, &verdict);
    tracing::trace(&ctx, &packet, &verdict);
    match verdict.counter.action() {
        Action::Pass => xdp_action::XDP_PASS,
        Action::Drop => xdp_action::XDP_DROP,
        Action::Redirect => xdp_action::XDP_REDIRECT,
    }
}

#[inline(always)]
fn remark(ctx: &XdpContext, verdict: &Verdict) {
    let level = LOG_LEVEL.load();
    if level >= LOG_WARN && matches!(verdict.counter, Counter::RateLimited) {
        warn!(ctx, "{:mac} asks too often: its request was dropped", verdict.machine.0);
    }
    if level >= LOG_DEBUG && matches!(verdict.counter.class(), Class::Malformed) {
        debug!(ctx, "a malformed frame was passed on: counter {}", verdict.counter as u32);
    }
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
