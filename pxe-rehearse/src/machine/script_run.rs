//! Running a script of iPXE.

use std::time::Duration;

use super::{Activity, Machine, want::Want};
use crate::{
    firmware::{Client, Platform, uuid},
    report::{Direction, Milestone, Outcome, Stage},
    script::{self, Image, Interpreter, Step, settings::Settings},
};

impl Machine {
    /// Starts the script that was fetched last.
    pub(super) fn begin_script(&mut self, now: Duration, text: &[u8]) {
        let Some(url) = self.url.clone() else {
            return self.fail(now, "a script without an address".to_owned());
        };
        let mut settings = Settings::default();
        self.fill_settings(&mut settings);
        self.script = Some(Interpreter::new(settings, url, text));
        self.run_script(now, script::Answer::Done);
    }

    /// Resumes the script until it needs something again.
    pub(super) fn run_script(&mut self, now: Duration, answer: script::Answer) {
        let Some(interpreter) = &mut self.script else { return };
        let step = interpreter.resume(answer);
        for line in interpreter.take_screen() {
            self.note(now, Direction::Said, |_| format!("screen: {line}"));
        }
        match step {
            Step::Fetch { url, what } => {
                let stage = match what {
                    Image::Script => Stage::Script,
                    Image::Kernel => Stage::Kernel,
                    Image::Initramfs => Stage::Initramfs,
                    Image::Other => self.stage,
                };
                if self.stage != stage {
                    self.enter(now, stage);
                }
                self.fetch(now, url, Want::Image(what));
            }
            Step::Sleep(duration) => {
                self.note(now, Direction::Said, |_| format!("sleeps {} s", duration.as_secs()));
                self.activity = Activity::Sleep { until: now + duration };
            }
            Step::Configure => {
                self.script_configures = true;
                let platform = self.platform();
                self.begin_dhcp(now, Client::Ipxe(platform), Stage::IpxeDhcp);
            }
            Step::Boot { arguments } => {
                self.note(now, Direction::Said, |_| format!("starts the kernel: {arguments}"));
                self.kernel_arguments = Some(arguments);
                self.script = None;
                if self.reach(now, Milestone::Kernel) {
                    return;
                }
                self.begin_dhcp(now, Client::System, Stage::System);
            }
            Step::Exit | Step::Disk => {
                self.note(now, Direction::Said, |_| "DISK: the machine is sent to its own disk");
                self.end(now, Outcome::Disk);
            }
            Step::Failed(reason) => self.fail(now, reason),
        }
    }

    fn platform(&self) -> Platform {
        match self.client {
            Client::Ipxe(platform) => platform,
            _ => self.setup.firmware.platform(),
        }
    }

    /// Updates the settings of a running script after DHCP.
    pub(super) fn refresh_settings(&mut self) {
        if let Some(mut interpreter) = self.script.take() {
            self.fill_settings(interpreter.settings_mut());
            self.script = Some(interpreter);
        }
    }

    /// Fills in the settings that iPXE has by itself and from its lease.
    fn fill_settings(&self, settings: &mut Settings) {
        let platform = self.platform();
        let bytes = uuid(self.setup.mac);
        let hex =
            |range: std::ops::Range<usize>| bytes[range].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let uuid = [hex(0..4), hex(4..6), hex(6..8), hex(8..10), hex(10..16)].join("-");
        let mut set = |name: &str, value: String| settings.set(name, &value);
        set("mac", self.setup.mac.to_string());
        set("uuid", uuid);
        set("buildarch", platform.build_architecture().to_owned());
        set("platform", platform.name().to_owned());
        set("serial", format!("SIM{}", self.setup.mac.to_string().replace(':', "")));
        set("manufacturer", "pxed".to_owned());
        set("product", "rehearsal".to_owned());
        set("version", "1.21.1".to_owned());
        set("chip", "simulated".to_owned());
        set("ifname", "net0".to_owned());
        let Some(lease) = &self.lease else { return };
        let address =
            |address: Option<std::net::Ipv4Addr>| address.map_or_else(String::new, |address| address.to_string());
        let mask = u32::MAX.checked_shl(32 - u32::from(lease.prefix_length.min(32))).unwrap_or(0);
        set("ip", lease.address.to_string());
        set("netmask", std::net::Ipv4Addr::from_bits(mask).to_string());
        set("gateway", address(lease.router));
        set("dns", address(lease.dns));
        set("dhcp-server", lease.server.to_string());
        set("next-server", address(lease.next_server));
        set("filename", lease.boot_file.clone().unwrap_or_default());
        set("hostname", lease.hostname.clone().unwrap_or_default());
        set("domain", lease.domain.clone().unwrap_or_default());
    }
}
