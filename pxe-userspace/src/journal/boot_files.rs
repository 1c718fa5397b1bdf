//! What a machine has of the two files that it boots, or of the one that has both.
//!
//! iPXE and GRUB load the kernel first, so that the initramfs completes a boot. U-Boot loads the initramfs first in some versions (2023.01)
//! and last in others (2025.01).

use crate::model::{
    config_files::ConfigReader,
    event::{ArtifactKind, ClientKind, EventKind},
};

/// The files that a machine has since its script.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct BootFiles {
    in_any_order: bool,
    has_kernel: bool,
    has_initramfs: bool,
}

impl BootFiles {
    /// Takes an event into account. Returns `true` if it completes what the machine boots.
    pub(super) fn apply(&mut self, event: &EventKind) -> bool {
        match event {
            EventKind::Discover { client: ClientKind::Pxe | ClientKind::HttpBoot | ClientKind::Ipxe, .. } => {
                *self = Self::default();
            }
            EventKind::Requested { artifact: ArtifactKind::Script, path, .. } => {
                let in_any_order = ConfigReader::of(path.as_bytes()) == Some(ConfigReader::UBoot);
                *self = Self { in_any_order, ..Self::default() };
            }
            EventKind::Requested { artifact: ArtifactKind::Kernel, .. } => self.has_kernel = false,
            EventKind::Requested { artifact: ArtifactKind::Initramfs, .. } => self.has_initramfs = false,
            EventKind::Done { artifact: ArtifactKind::Kernel, .. } => {
                self.has_kernel = true;
                return self.in_any_order && self.has_initramfs;
            }
            EventKind::Done { artifact: ArtifactKind::Initramfs, .. } => {
                self.has_initramfs = true;
                return !self.in_any_order || self.has_kernel;
            }
            EventKind::Requested { artifact: ArtifactKind::Uki, .. } => {
                (self.has_kernel, self.has_initramfs) = (false, false);
            }
            EventKind::Done { artifact: ArtifactKind::Uki, .. } => {
                (self.has_kernel, self.has_initramfs) = (true, true);
                return true;
            }
            _ => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::journal::{fleet::Fleet, remembered::State, samples::*, stage::Stage};

    fn config() -> EventKind {
        let path = Arc::from("pxelinux.cfg/01-52-54-00-00-00-01");
        EventKind::Requested { artifact: Script, transport: Tftp, path }
    }

    /// Returns the stage and the boots after each of these events, and whether the machine counts as booted.
    fn story(events: &[EventKind]) -> Vec<(Stage, u32, bool)> {
        let mut fleet = Fleet::new(&State::new(), at(-60.0), 1);
        timed(MAC, events.iter().cloned())
            .iter()
            .map(|event| {
                fleet.apply(event);
                let record = fleet.machine(&Arc::new(machine(1)), usize::MAX);
                (record.stage, record.boots, fleet.book().booted.contains(&MAC))
            })
            .collect()
    }

    #[test]
    fn initramfs_before_its_kernel_is_no_boot() {
        let [kernel, got_kernel] = load(Kernel);
        let [initramfs, got_initramfs] = load(Initramfs);
        let first =
            [discover(Pxe), config(), initramfs.clone(), got_initramfs.clone(), kernel.clone(), got_kernel.clone()];
        assert_eq!(
            story(&first)[2..],
            [
                (Stage::LoadingInitramfs, 0, false),
                (Stage::LoadingInitramfs, 0, false),
                (Stage::LoadingKernel, 0, false),
                (Stage::Booting, 1, true),
            ]
        );
        let last = [discover(Pxe), config(), kernel, got_kernel, initramfs, got_initramfs];
        assert_eq!(
            story(&last)[2..],
            [
                (Stage::LoadingKernel, 0, false),
                (Stage::KernelDone, 0, false),
                (Stage::LoadingInitramfs, 0, false),
                (Stage::Booting, 1, true),
            ]
        );
        for order in [first, last] {
            let booted = story(&[&order[..], &dora(Plain)].concat());
            assert_eq!(booted.last(), Some(&(Stage::Running, 1, true)));
        }
    }

    #[test]
    fn unified_kernel_image_is_a_boot_by_itself() {
        let [requested_uki, got_uki] = load(Uki);
        let first = [discover(HttpBoot), requested_uki.clone(), got_uki];
        assert_eq!(
            story(&first),
            [(Stage::Discovering, 0, false), (Stage::LoadingKernel, 0, false), (Stage::Booting, 1, true)]
        );
        let running = story(&[&first[..], &dora(Plain)].concat());
        assert_eq!(running.last(), Some(&(Stage::Running, 1, true)));
        let lost = [discover(HttpBoot), requested_uki, failed(Uki, "reset")];
        assert_eq!(story(&lost).last(), Some(&(Stage::Failed, 0, false)));
        // Nor does it complete with what was loaded before.
        let half = [&load(Kernel)[..], &[requested(Uki), failed(Uki, "reset")], &load(Kernel)].concat();
        assert_eq!(story(&half).last(), Some(&(Stage::KernelDone, 0, false)));
    }

    #[test]
    fn end_that_is_reported_after_the_systems_address_is_no_second_boot() {
        let script = [discover(Ipxe), requested(Script)];
        let ipxe = [&script[..], &load(Kernel), &load(Initramfs)].concat();
        let u_boot = [&[discover(Pxe), config()][..], &load(Initramfs), &load(Kernel)].concat();
        let uki = [&[discover(HttpBoot)][..], &load(Uki)].concat();
        for mut late in [ipxe, u_boot, uki] {
            let end = late.pop().unwrap();
            late.extend(dora(Plain));
            late.push(end.clone());
            assert_eq!(story(&late).last(), Some(&(Stage::Running, 1, true)), "{end:?}");
            // It counts when it boots again.
            let again = [&late[..], &late[..]].concat();
            assert_eq!(story(&again).last(), Some(&(Stage::Running, 2, true)), "{end:?}");
        }
    }

    #[test]
    fn kernel_that_fails_after_the_initramfs_is_no_boot() {
        let lost =
            [&[discover(Pxe), config()][..], &load(Initramfs), &[requested(Kernel), failed(Kernel, "reset")]].concat();
        assert_eq!(story(&lost).last(), Some(&(Stage::Failed, 0, false)));
        let again = [&lost[..], &load(Initramfs), &load(Kernel)].concat();
        assert_eq!(story(&again).last(), Some(&(Stage::Booting, 1, true)));
        // An initramfs of the attempt before does not count for the next.
        let next = [&lost[..], &[discover(Pxe), config()], &load(Kernel)].concat();
        assert_eq!(story(&next).last(), Some(&(Stage::KernelDone, 0, false)));
    }
}
