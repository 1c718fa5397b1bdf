//! The files that a machine fetches, and what it does with each.

use std::time::Duration;

use super::{Machine, Output, failure::Failure, want::Want};
use crate::{
    firmware::{Client, Platform},
    report::{Direction, Milestone, Stage, Step},
    script::{
        self, Interpreter,
        url::{Scheme, Url},
    },
};

impl Machine {
    /// Requests a file.
    pub(super) fn fetch(&mut self, now: Duration, url: Url, want: Want) {
        self.fetching = now;
        match url.scheme {
            Scheme::Tftp => self.request_tftp(now, url, want),
            Scheme::Http => self.request_http(now, url, want, 0, None),
        }
    }

    /// Handles a file that has arrived, as its length and its first bytes, or the reason why it has not.
    pub(super) fn on_file(&mut self, now: Duration, want: Want, result: Result<(u64, Vec<u8>), Failure>) {
        if let (Ok((bytes, _)), Some(stage)) = (&result, self.stages.last_mut()) {
            stage.bytes += bytes;
        }
        // The script that iPXE looks for next to its binary is usually missing, which takes time as well.
        if result.is_ok() || want == Want::Autoexec {
            let is_kernel = matches!(want, Want::LoaderSize | Want::Loader) && self.has_kernel_image();
            let step = if is_kernel { Step::Kernel } else { want.step() };
            self.outputs.push(Output::Took(step, now.saturating_sub(self.fetching)));
        }
        match (want, result) {
            (Want::LoaderSize | Want::Loader | Want::BootFile, Err(failure)) => self.end_attempt(now, failure),
            (Want::LoaderSize | Want::Loader, Ok(_)) if self.has_kernel_image() => self.start_kernel_image(now),
            (Want::LoaderSize | Want::Loader, Ok(_)) => self.start_loader(now),
            (Want::Autoexec, Ok((_, text))) if Interpreter::is_script(&text) => self.begin_script(now, &text),
            (Want::Autoexec, _) => self.begin_ipxe(now),
            (Want::BootFile, Ok((_, text))) if Interpreter::is_script(&text) => self.begin_script(now, &text),
            (Want::BootFile, Ok(_)) => {
                // iPXE was given a loader. A ROM loads it once; more often, it is an endless loop.
                self.loaders += 1;
                if self.loaders > 2 {
                    let reason = "iPXE is given a loader again and again: the server does not recognise it (option 77)";
                    return self.fail(now, reason.to_owned());
                }
                self.begin_ipxe(now);
            }
            (Want::Image(_), Ok((_, body))) => self.run_script(now, script::Answer::Fetched(body)),
            (Want::Image(_), Err(failure)) => {
                let reason = failure.into_reason();
                self.note(now, Direction::Said, |_| reason.clone());
                self.run_script(now, script::Answer::Failed(reason));
            }
        }
    }

    /// Returns `true` if the file that was requested last is a unified kernel image.
    fn has_kernel_image(&self) -> bool {
        self.url.as_ref().is_some_and(Url::is_kernel_image)
    }

    /// Starts a unified kernel image, which has kernel, initramfs and arguments in it.
    fn start_kernel_image(&mut self, now: Duration) {
        self.note(now, Direction::Said, |_| "starts the unified kernel image");
        if !self.reach(now, Milestone::Loader) && !self.reach(now, Milestone::Kernel) {
            self.begin_dhcp(now, Client::System, Stage::System);
        }
    }

    /// Starts the loader, which is taken to be iPXE.
    fn start_loader(&mut self, now: Duration) {
        if self.reach(now, Milestone::Loader) {
            return;
        }
        let is_efi = matches!(self.setup.firmware.platform(), Platform::Efi { .. });
        let autoexec = self.url.as_ref().and_then(|url| url.resolve("autoexec.ipxe").ok());
        match autoexec.filter(|_| is_efi) {
            Some(url) => {
                self.enter(now, Stage::Script);
                self.fetch(now, url, Want::Autoexec);
            }
            None => self.begin_ipxe(now),
        }
    }

    fn begin_ipxe(&mut self, now: Duration) {
        self.begin_dhcp(now, Client::Ipxe(self.setup.firmware.platform()), Stage::IpxeDhcp);
    }
}
