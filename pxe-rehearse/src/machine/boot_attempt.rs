//! The firmware's next boot attempt, if the server is gone in the middle of the last one.

use std::time::Duration;

use super::{Machine, Output, failure::Failure};
use crate::{
    firmware::Client,
    report::{Again, Direction, Stage},
};

/// The most times that the firmware begins to boot. Real firmware goes on for as long as it has boot entries, or for ever.
const BOOT_ATTEMPTS: u32 = 3;

impl Machine {
    /// Begins the boot with the client that runs right after power-on.
    pub(super) fn begin_boot(&mut self, now: Duration) {
        self.boot_attempts += 1;
        self.script = None;
        self.script_configures = false;
        self.loaders = 0;
        let client = self.setup.firmware.first_client();
        let stage = match client {
            Client::System => Stage::System,
            Client::Ipxe(_) => Stage::IpxeDhcp,
            _ => Stage::Dhcp,
        };
        self.begin_dhcp(now, client, stage);
    }

    /// Handles a failure that ends an attempt to boot: the firmware begins again if the server was lost, and otherwise the boot has failed.
    pub(super) fn end_attempt(&mut self, now: Duration, failure: Failure) {
        match failure {
            Failure::Lost(reason) if self.boot_attempts < BOOT_ATTEMPTS => {
                self.note(now, Direction::Said, |_| format!("the firmware boots again: {reason}"));
                self.outputs.push(Output::Again(Again::Boot));
                self.begin_boot(now);
            }
            failure => self.fail(now, failure.into_reason()),
        }
    }
}
