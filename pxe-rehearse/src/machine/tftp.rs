//! Fetching a file over TFTP.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use super::{Activity, Machine, failure::Failure, want::Want};
use crate::{
    firmware::Client,
    report::{Bytes, Direction},
    script::url::Url,
    tftp::{Action, Style, Transfer},
};

impl Machine {
    /// Requests a file.
    pub(super) fn request_tftp(&mut self, now: Duration, url: Url, want: Want) {
        let is_firmware = matches!(want, Want::LoaderSize | Want::Loader);
        let style = match self.client {
            Client::EdkPxe { .. } | Client::EdkHttp { .. } if is_firmware => Style::Edk,
            Client::BootAgent if is_firmware => Style::BootAgent,
            _ => Style::Ipxe,
        };
        // The leading slash was added by the URL. EDK2 and iPXE send the file name as DHCP gave it.
        let file = url.path.trim_start_matches('/');
        self.note(now, Direction::Asked, |_| format!("TFTP {}:{file}", url.host));
        let ports = [self.port(), self.port()];
        let (transfer, actions) = Transfer::begin(now, url.host, file, style, ports, want.keeps());
        let server = url.host;
        self.url = Some(url);
        self.activity = Activity::Tftp { transfer: Box::new(transfer), want };
        self.act(now, want, server, actions);
    }

    /// Returns the next of the simulator's ports.
    fn port(&mut self) -> u16 {
        self.next_port += 1;
        let ports = &self.setup.ports;
        ports.get(self.next_port % ports.len().max(1)).copied().unwrap_or(1580)
    }

    /// Does what the transfer says.
    pub(super) fn act(&mut self, now: Duration, want: Want, server: Ipv4Addr, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send { from, to, bytes } => self.send(now, from, SocketAddrV4::new(server, to), &bytes),
                Action::Done(received) => {
                    self.note(now, Direction::Answered, |_| format!("{} received", Bytes(received.bytes)));
                    self.on_file(now, want, Ok((received.bytes, received.kept)));
                }
                Action::Failed(reason) => {
                    self.note(now, Direction::Answered, |_| reason.clone());
                    self.on_file(now, want, Err(Failure::Refused(reason)));
                }
                Action::Lost(reason) => {
                    self.note(now, Direction::Said, |_| reason.clone());
                    self.on_file(now, want, Err(Failure::Lost(reason)));
                }
            }
        }
    }
}
