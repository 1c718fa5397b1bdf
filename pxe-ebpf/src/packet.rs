//! The bytes of the received frame.

use core::{hint::black_box, marker::PhantomData};

use aya_ebpf::programs::XdpContext;
use pxe_common::Bytes;

/// The received frame, between the two pointers that the kernel gives.
pub struct Packet<'a> {
    start: usize,
    end: usize,
    frame: PhantomData<&'a XdpContext>,
}

impl<'a> Packet<'a> {
    /// The frame that the program was called for.
    #[inline(always)]
    pub fn of(ctx: &'a XdpContext) -> Self {
        Self { start: ctx.data(), end: ctx.data_end(), frame: PhantomData }
    }
}

impl Bytes for Packet<'_> {
    #[inline(always)]
    fn length(&self) -> usize {
        // Without the barrier the compiler proves from this length that a later read is within bounds and
        // leaves out the comparison of pointers that the verifier insists on.
        black_box(self.end - self.start)
    }

    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let bytes = self.start + offset;
        if bytes + N > self.end {
            return None;
        }
        // SAFETY: the N bytes lie between the kernel's two pointers, as just checked (and as the verifier
        // checks again); an array of bytes needs no alignment and every bit pattern is one. The frame
        // stays where it is while the program runs, which never moves it.
        Some(unsafe { *(bytes as *const [u8; N]) })
    }
}
