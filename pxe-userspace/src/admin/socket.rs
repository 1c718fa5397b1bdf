//! The Unix socket of the admin API: whoever its permissions let in may hold and release machines.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{task::spawn_blocking, time::sleep};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::second_pxed::SecondPxed;

/// The socket unless another one is named.
pub const SOCKET: &str = "/run/pxed/admin.sock";
/// Its name in the state directory, where it is if nobody can make it in [`SOCKET`]'s.
pub const SOCKET_NAME: &str = "admin.sock";

/// The permissions: the user that pxed runs as, and its group.
const MODE: u32 = 0o660;

/// The interval at which the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The reason why a socket cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process answers there.
    #[error("{}: another pxed answers there{}", .0.display(), named())]
    Taken(PathBuf),
    /// Something else has the name.
    #[error("{}: there is something that is not a socket; remove it", .0.display())]
    NotASocket(PathBuf),
    /// The kernel refuses it.
    #[error("{}: {error}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// The kernel's error.
        error: io::Error,
    },
}

/// A listening socket. Its file is removed when it is dropped.
#[derive(Debug)]
pub struct AdminSocket {
    listener: Option<tokio::net::UnixListener>,
    file: OwnFile,
}

/// The file of a socket, which is removed when this is dropped, unless another one has its name by then.
#[derive(Debug)]
pub(super) struct OwnFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for OwnFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // The next start replaces a socket that stays.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl OwnFile {
    /// Waits until the file has another name, or none.
    pub(super) async fn until_gone(&self) {
        loop {
            sleep(LOOK_EVERY).await;
            let (path, own) = (self.path.clone(), self.identity);
            // The disk may hang.
            let is_there =
                spawn_blocking(move || identity(&path).map_or_else(|error| !is_gone(&error), |it| it == own));
            if let Ok(false) = is_there.await {
                return;
            }
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

impl AdminSocket {
    /// Makes a socket that was deleted again, as soon as that is possible. `tell` learns once why it is not.
    pub(super) async fn bind_again(path: &Path, tell: impl Fn(String)) -> Self {
        let mut is_told = false;
        loop {
            if let Some(directory) = path.parent() {
                // An error is that of the socket.
                let _ = fs::create_dir(directory);
            }
            match Self::bind(path) {
                Ok(socket) => return socket,
                Err(error) => {
                    if !std::mem::replace(&mut is_told, true) {
                        tell(format!(
                            "{error}: somebody deleted the socket of the admin API there, and pxed cannot make it again; restart pxed"
                        ));
                    }
                    sleep(LOOK_EVERY).await;
                }
            }
        }
    }

    /// Makes the socket, in place of one that a killed process has left. It must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// If a process answers there, something else has the name, or the kernel refuses it.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let io = |error| SocketError::Io { path: path.to_owned(), error };
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                remove_stale(path)?;
                UnixListener::bind(path).map_err(|error| match error.kind() {
                    // Somebody else was faster.
                    io::ErrorKind::AddrInUse => SocketError::Taken(path.to_owned()),
                    _ => io(error),
                })?
            }
            bound => bound.map_err(io)?,
        };
        let file = OwnFile { path: path.to_owned(), identity: identity(path).map_err(io)? };
        fs::set_permissions(path, fs::Permissions::from_mode(MODE)).map_err(io)?;
        listener.set_nonblocking(true).map_err(io)?;
        let listener = Some(tokio::net::UnixListener::from_std(listener).map_err(io)?);
        Ok(Self { listener, file })
    }

    /// Makes the socket in the usual place, for which a directory is made, or else in the state directory.
    ///
    /// # Errors
    ///
    /// The errors of both places.
    pub fn bind_somewhere(usual: &Path, state: &Path) -> Result<Self, [SocketError; 2]> {
        if let Some(directory) = usual.parent() {
            // An error is that of the socket.
            let _ = fs::create_dir(directory);
        }
        let first = match Self::bind(usual) {
            Ok(socket) => return Ok(socket),
            Err(error) => error,
        };
        let second = state.join(SOCKET_NAME);
        match Self::bind(&second) {
            Ok(socket) => {
                match first {
                    SocketError::Taken(_) => tracing::warn!(
                        "{first}: this one answers commands at {0}: name it with --admin unix:{0}, or with this pxed's --config",
                        second.display()
                    ),
                    _ => tracing::debug!("{first}: the socket of the admin API is {}", second.display()),
                }
                Ok(socket)
            }
            Err(error) => Err([first, error]),
        }
    }

    /// Returns its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    pub(super) fn into_parts(self) -> (Option<tokio::net::UnixListener>, OwnFile) {
        (self.listener, self.file)
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Removes a socket that nobody listens on.
fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let io = |error| SocketError::Io { path: path.to_owned(), error };
    let metadata = fs::symlink_metadata(path).map_err(io)?;
    if !metadata.file_type().is_socket() {
        return Err(SocketError::NotASocket(path.to_owned()));
    }
    if is_answered(path).map_err(io)? {
        return Err(SocketError::Taken(path.to_owned()));
    }
    // Another start may put its own there meanwhile. It gets it back.
    let aside = path.with_extension(format!("stale-{}", std::process::id()));
    fs::rename(path, &aside).map_err(io)?;
    if is_answered(&aside).map_err(io)? {
        fs::rename(&aside, path).map_err(io)?;
        return Err(SocketError::Taken(path.to_owned()));
    }
    fs::remove_file(&aside).map_err(io)
}

/// Names the other pxed, if it is found.
fn named() -> String {
    SecondPxed::find().map_or_else(String::new, |pxed| format!(" ({pxed})"))
}

/// Returns whether a process listens on a socket. It does not wait, even if that process accepts nothing.
fn is_answered(path: &Path) -> io::Result<bool> {
    use rustix::io::Errno;
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&socket, &SocketAddrUnix::new(path)?) {
        // EAGAIN: the queue of its listener is full.
        Ok(()) | Err(Errno::AGAIN) => Ok(true),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn socket_of_a_killed_process_is_replaced_and_a_live_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        // A listener that is gone without removing its file.
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let first = AdminSocket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, MODE);
        let error = AdminSocket::bind(&path).unwrap_err();
        assert!(matches!(error, SocketError::Taken(_)), "{error}");
        assert!(is_answered(&path).unwrap());
        drop(first);
        assert!(!path.exists());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn live_socket_whose_queue_is_full_is_live() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&socket, 0).unwrap();
        let _first = std::os::unix::net::UnixStream::connect(&path).unwrap();
        assert!(matches!(AdminSocket::bind(&path), Err(SocketError::Taken(_))));
    }

    #[tokio::test]
    async fn what_is_not_a_socket_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        fs::write(&path, "precious").unwrap();
        let error = AdminSocket::bind(&path).unwrap_err();
        assert!(matches!(error, SocketError::NotASocket(_)), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        let missing = AdminSocket::bind(&directory.path().join("no/a.sock")).unwrap_err().to_string();
        assert!(missing.contains("no/a.sock"), "{missing}");
        let long = AdminSocket::bind(&directory.path().join("x".repeat(120))).unwrap_err().to_string();
        assert!(long.contains("xxx"), "{long}");
    }

    #[tokio::test]
    async fn state_directory_has_the_socket_if_the_usual_place_has_not() {
        let directory = tempfile::tempdir().unwrap();
        let (usual, state) = (directory.path().join("run/admin.sock"), directory.path().join("state"));
        fs::create_dir(&state).unwrap();
        let first = AdminSocket::bind_somewhere(&usual, &state).unwrap();
        assert_eq!(first.path(), usual);
        let second = AdminSocket::bind_somewhere(&usual, &state).unwrap();
        assert_eq!(second.path(), state.join(SOCKET_NAME));
        let errors = AdminSocket::bind_somewhere(&usual, &state).unwrap_err();
        assert!(errors.iter().all(|error| matches!(error, SocketError::Taken(_))), "{errors:?}");
        let nowhere = Path::new("/proc/nowhere/admin.sock");
        assert!(AdminSocket::bind_somewhere(nowhere, &directory.path().join("missing")).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn socket_that_was_deleted_is_noticed_and_made_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/a.sock");
        fs::create_dir(directory.path().join("run")).unwrap();
        let (_listener, file) = AdminSocket::bind(&path).unwrap().into_parts();
        assert!(tokio::time::timeout(10 * LOOK_EVERY, file.until_gone()).await.is_err());
        fs::remove_dir_all(directory.path().join("run")).unwrap();
        tokio::time::timeout(10 * LOOK_EVERY, file.until_gone()).await.unwrap();
        // Something has its place for a while.
        fs::create_dir_all(&path).unwrap();
        let told = std::cell::RefCell::new(Vec::new());
        let again = AdminSocket::bind_again(&path, |trouble| {
            fs::remove_dir(&path).unwrap();
            told.borrow_mut().push(trouble);
        });
        let again = again.await;
        assert!(is_answered(again.path()).unwrap());
        let told = told.take();
        assert!(told.len() == 1 && told[0].contains("restart pxed") && told[0].contains("a.sock"), "{told:?}");
        drop(file);
        assert!(path.exists(), "the file of the socket that was deleted took the new one with it");
    }

    #[tokio::test]
    async fn file_of_another_is_not_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let socket = AdminSocket::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(socket);
        assert!(path.exists());
    }
}
