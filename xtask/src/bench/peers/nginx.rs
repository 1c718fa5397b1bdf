//! nginx, tuned for large files.

use std::{
    fs,
    net::{SocketAddrV4, TcpStream},
    path::Path,
    time::Duration,
};

use anyhow::Context as _;
use pxe_lab::{Namespace, Process, suite};
use tempfile::TempDir;

use super::unpacked::Unpacked;

/// A running nginx. It is stopped when it is dropped.
pub(crate) struct Nginx {
    process: Process,
    _prefix: TempDir,
}

impl Nginx {
    /// Starts nginx on the files below `root`.
    ///
    /// # Errors
    ///
    /// Fails if nginx cannot be fetched or does not start; the error holds its last lines.
    pub(crate) fn start(namespace: &Namespace, listen: SocketAddrV4, root: &Path) -> anyhow::Result<Self> {
        let prefix = TempDir::with_prefix("nginx-")?;
        let configuration = prefix.path().join("nginx.conf");
        fs::write(&configuration, self::configuration(listen, root))?;
        let mut command = Unpacked::of(&["nginx"])?.command(namespace, "nginx")?;
        command.arg("-p").arg(prefix.path()).arg("-c").arg(&configuration).args(["-e", "stderr"]);
        let process = Process::spawn("nginx", &mut command)?;
        let nginx = Self { process, _prefix: prefix };
        suite::eventually("nginx to listen", Duration::from_secs(10), || {
            Ok(namespace.enter(|| TcpStream::connect(listen))?.is_ok())
        })
        .with_context(|| nginx.process.last_lines())?;
        Ok(nginx)
    }
}

/// Returns the configuration: one worker per processor, as `auto` would start, and limits for a whole fleet at once.
fn configuration(listen: SocketAddrV4, root: &Path) -> String {
    let root = root.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("  {kind}_temp_path {kind};\n"))
        .concat();
    format!(
        "daemon off;
user root;
pid nginx.pid;
worker_processes auto;
worker_rlimit_nofile 20000;
error_log stderr error;
events {{ worker_connections 20000; }}
http {{
{temporary}  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000;
  default_type application/octet-stream;
  open_file_cache max=1000 inactive=60s;
  server {{
    listen {listen} backlog=16384;
    root {root};
  }}
}}
"
    )
}
