//! The things that pxed's XDP program and its userspace must agree on: addresses, header offsets, the
//! classifier, and the layouts of the BPF maps. No allocation, no I/O, no `std`.
//!
//! A frame is read through [`Bytes`], bounds-checked at every access: a slice on the host, a pair of
//! pointers in the XDP program. So the code that the verifier accepts is the code that the host tests.
#![no_std]

#[cfg(any(test, feature = "testing"))]
extern crate std;

pub mod bootp;
pub mod bytes;
pub mod classify;
pub mod counter;
pub mod frame;
pub mod layout;
pub mod limit;
pub mod mac;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod trace;

pub use bytes::Bytes;
pub use classify::{Buckets, Tables, Verdict, classify};
pub use counter::{Action, Counter};
pub use frame::{Headers, Tags, VlanTag};
pub use layout::{Bucket, Limit, MachineKey, SenderKey, Settings, UnknownMachines};
pub use mac::MacAddr;
pub use trace::{Trace, Traced};
