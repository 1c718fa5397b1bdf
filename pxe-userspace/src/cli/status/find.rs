//! Finds the admin API of the pxed on this host.

use std::{
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

use crate::cli::admin_address::AdminAddress;

/// The place that one source of options names, if any.
#[derive(Debug, Default)]
pub(super) struct Named {
    pub(super) admin: Option<AdminAddress>,
    pub(super) socket: Option<PathBuf>,
}

impl Named {
    fn place(self) -> Option<AdminAddress> {
        self.admin.or_else(|| self.socket.map(AdminAddress::of_socket))
    }
}

/// Returns the place of the admin API: the one that the command line or the environment names, or else the `--config` file, or else the
/// first of these sockets that answers, or else the usual address. An address leads to the socket where that is needed.
pub(super) fn find(given: Named, of_file: Named, sockets: [&Path; 2]) -> AdminAddress {
    let named = given.place().or_else(|| of_file.place());
    named.unwrap_or_else(|| {
        let answered = sockets.into_iter().find(|path| UnixStream::connect(path).is_ok());
        answered.map(|path| AdminAddress::of_socket(path.to_owned())).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn named(admin: &str, socket: &str) -> Named {
        Named {
            admin: (!admin.is_empty()).then(|| admin.parse().unwrap()),
            socket: (!socket.is_empty()).then(|| socket.into()),
        }
    }

    #[test]
    fn place_is_the_one_that_is_named_or_the_one_that_answers() {
        let directory = tempfile::tempdir().unwrap();
        let [first, second] = ["a.sock", "b.sock"].map(|name| directory.path().join(name));
        let usual = || AdminAddress::default().to_string();
        let socket = |path: &Path| format!("unix:{}", path.display());
        let found = |given, of_file| find(given, of_file, [&first, &second]).to_string();
        assert_eq!(found(named("", ""), named("", "")), usual());
        let live = UnixListener::bind(&second).unwrap();
        assert_eq!(found(named("", ""), named("", "")), socket(&second));
        // One that a killed process has left.
        drop(UnixListener::bind(&first).unwrap());
        assert_eq!(found(named("", ""), named("", "")), socket(&second));
        let also = UnixListener::bind(directory.path().join("c.sock")).unwrap();
        std::fs::rename(directory.path().join("c.sock"), &first).unwrap();
        assert_eq!(found(named("", ""), named("", "")), socket(&first));
        drop((live, also));
        assert_eq!(found(named("", ""), named("", "")), usual());
        for (given, of_file, expected) in [
            (named("10.0.0.1:1", "/e"), named("10.0.0.2:2", "/f"), "10.0.0.1:1"),
            (named("", "/e"), named("10.0.0.2:2", "/f"), "unix:/e"),
            (named("", ""), named("10.0.0.2:2", "/f"), "10.0.0.2:2"),
            (named("", ""), named("", "/f"), "unix:/f"),
            (named("unix:/s", ""), named("10.0.0.2:2", "/f"), "unix:/s"),
        ] {
            assert_eq!(found(given, of_file), expected);
        }
    }
}
