//! A mirror of the servers that publish Talos, its Image Factory's images, and iPXE, with faults on demand.
//!
//! The paths are those of the upstreams:
//!
//! ```text
//! /talos/<version>/{vmlinuz-<arch>,initramfs-<arch>.xz,sha256sum.txt,sha512sum.txt}
//! /factory/image/<schematic>/<version>/{kernel-<arch>,initramfs-<arch>.xz,metal-<arch>-uki.efi,…}
//! /ipxe/{ipxe.efi,arm64-efi/ipxe.efi,…}
//! /ipxe-releases/{shim/releases/latest/download/ipxe-shimx64.efi,ipxe/releases/latest/download/ipxeboot.tar.gz,…}
//! ```
//!
//! Like the upstreams, it answers a GET below `/talos/` and `/factory/` with a redirection to a storage server, whose URLs have a
//! signature as their query, and the files there have an ETag and can be asked for by Range.

mod certificate;
mod connection;
mod content;
mod fault;
mod head;
mod log;
mod site;

use std::{
    net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener},
    os::fd::AsRawFd as _,
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::Context as _;

pub use certificate::Certificate;
use certificate::Identity;
use connection::Door;
pub use content::Content;
pub use fault::Fault;
pub use log::Request;
use site::Site;

use crate::namespace::Namespace;

/// A running mirror. It ends when it is dropped, with its connections.
#[derive(Debug)]
pub struct Mirror {
    site: Arc<Site>,
    listener: TcpListener,
    address: SocketAddrV4,
    identity: Option<Identity>,
}

impl Mirror {
    /// Starts an HTTP server on the caller's loopback interface.
    ///
    /// # Errors
    ///
    /// Fails if it cannot listen.
    pub fn start() -> anyhow::Result<Self> {
        Self::serve(listen(Ipv4Addr::LOCALHOST)?, None)
    }

    /// Starts an HTTPS server on the caller's loopback interface. Its certificate is of a new authority ([`Self::authority`]).
    ///
    /// # Errors
    ///
    /// Fails if it cannot listen, or if no certificate can be made.
    pub fn start_tls(certificate: Certificate) -> anyhow::Result<Self> {
        Self::serve(listen(Ipv4Addr::LOCALHOST)?, Some(Identity::new(certificate)?))
    }

    /// Starts an HTTP server on the loopback interface of a namespace.
    ///
    /// # Errors
    ///
    /// Fails if it cannot listen.
    pub fn start_in(namespace: &Namespace) -> anyhow::Result<Self> {
        Self::serve(namespace.enter(|| listen(Ipv4Addr::LOCALHOST))??, None)
    }

    /// Starts an HTTPS server on the loopback interface of a namespace, like [`Self::start_tls`].
    ///
    /// # Errors
    ///
    /// Fails like [`Self::start_tls`].
    pub fn start_tls_in(namespace: &Namespace, certificate: Certificate) -> anyhow::Result<Self> {
        Self::serve(namespace.enter(|| listen(Ipv4Addr::LOCALHOST))??, Some(Identity::new(certificate)?))
    }

    fn serve(listener: TcpListener, identity: Option<Identity>) -> anyhow::Result<Self> {
        let SocketAddr::V4(address) = listener.local_addr()? else { anyhow::bail!("not an IPv4 address") };
        let site = Arc::new(Site::default());
        let door = Door {
            site: Arc::clone(&site),
            tls: identity.as_ref().map(Identity::server),
            origin: origin(identity.is_some(), address),
        };
        let accepting = listener.try_clone()?;
        thread::spawn(move || door.accept(&accepting));
        Ok(Self { site, listener, address, identity })
    }

    /// Returns the address that it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// Returns the URL of a path: `http://127.0.0.1:4711/talos`.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", origin(self.identity.is_some(), self.address))
    }

    /// Returns the file with the certificate of the authority, in PEM, or `None` for a server without TLS.
    #[must_use]
    pub fn authority(&self) -> Option<&Path> {
        self.identity.as_ref().map(Identity::authority)
    }

    /// Returns the options of `pxed run` and `pxed fetch` that have them ask this server and no other, and trust its authority.
    #[must_use]
    pub fn options(&self) -> Vec<String> {
        let mut options = Vec::new();
        for (option, path) in [
            ("--talos-url", "/talos"),
            ("--factory-url", "/factory"),
            ("--ipxe-url", "/ipxe"),
            ("--ipxe-releases-url", "/ipxe-releases"),
        ] {
            options.extend([option.to_owned(), self.url(path)]);
        }
        if let Some(file) = self.authority() {
            options.extend(["--ca-certificates".to_owned(), file.display().to_string()]);
        }
        options
    }

    /// Publishes a file, or other content for it. Its ETag is a hash of the content.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read.
    pub fn put(&self, path: &str, content: impl Into<Content>) -> anyhow::Result<()> {
        let content = content.into();
        let file = content.published().with_context(|| format!("cannot publish {path}"))?;
        self.site.lock().files.insert(path.to_owned(), file);
        Ok(())
    }

    /// Publishes a file of a Talos release, and its checksums in `sha256sum.txt` and `sha512sum.txt`.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read.
    pub fn release(&self, version: &str, name: &str, content: impl Into<Content>) -> anyhow::Result<()> {
        let directory = format!("/talos/{version}/");
        self.put(&format!("{directory}{name}"), content)?;
        let (sha256, sha512) = self.site.lock().checksums(&directory);
        self.put(&format!("{directory}sha256sum.txt"), sha256.into_bytes())?;
        self.put(&format!("{directory}sha512sum.txt"), sha512.into_bytes())
    }

    /// Publishes a file of the Image Factory.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read.
    pub fn factory(
        &self,
        schematic: &str,
        version: &str,
        name: &str,
        content: impl Into<Content>,
    ) -> anyhow::Result<()> {
        self.put(&format!("/factory/image/{schematic}/{version}/{name}"), content)
    }

    /// Takes a file away: from now on its path is answered with 404.
    pub fn remove(&self, path: &str) {
        self.site.lock().files.remove(path);
    }

    /// Answers requests for this path with a fault from now on, in place of any other fault there.
    pub fn fail(&self, path: &str, fault: Fault) {
        self.site.arm(path, fault, u32::MAX);
    }

    /// Answers the next requests for this path with a fault, as many as `times`.
    pub fn fail_times(&self, path: &str, fault: Fault, times: u32) {
        self.site.arm(path, fault, times);
    }

    /// Takes the fault of a path away. Answers that it stalls or slows down go on.
    pub fn heal(&self, path: &str) {
        self.site.disarm(path);
    }

    /// Returns the requests so far, in the order in which their heads were read.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.site.lock().log.clone()
    }

    /// Returns the GETs of this path that were answered with content or a fault, not with a redirection.
    #[must_use]
    pub fn gets(&self, path: &str) -> Vec<Request> {
        let is_it = |request: &Request| request.method == "GET" && request.path == path && !request.is_redirected();
        self.requests().into_iter().filter(is_it).collect()
    }

    /// Waits until this path has been asked for, and returns the first request.
    ///
    /// # Errors
    ///
    /// Fails if the time is up; the error lists what was asked for.
    pub fn wait_until_asked(&self, path: &str, within: Duration) -> anyhow::Result<Request> {
        self.wait_for(&format!("a request for {path}"), within, |requests| {
            requests.iter().find(|request| request.path == path).cloned()
        })
    }

    /// Waits until `found` returns something of the requests so far. It is asked again whenever a request begins or ends, and whenever an
    /// answer begins to stall.
    ///
    /// # Errors
    ///
    /// Fails if the time is up; the error holds `what` and lists what was asked for.
    pub fn wait_for<T>(
        &self,
        what: &str,
        within: Duration,
        found: impl Fn(&[Request]) -> Option<T>,
    ) -> anyhow::Result<T> {
        self.site.wait_for(what, within, found)
    }

    /// Returns the largest number of answers with content that were being sent at the same time.
    #[must_use]
    pub fn most_at_once(&self) -> usize {
        self.site.lock().most_at_once
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        // On Linux this ends an accept(2), too.
        let _ = nix::sys::socket::shutdown(self.listener.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        for stream in self.site.stop() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn listen(address: Ipv4Addr) -> anyhow::Result<TcpListener> {
    TcpListener::bind((address, 0)).with_context(|| format!("cannot listen on {address}"))
}

fn origin(is_tls: bool, address: SocketAddrV4) -> String {
    format!("{}://{address}", if is_tls { "https" } else { "http" })
}

#[cfg(test)]
mod tests;
