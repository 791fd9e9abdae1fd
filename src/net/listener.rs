//! Listening sockets: TCP with the options that every connection needs, and Unix with file permissions.

use std::{
    fs, io,
    net::SocketAddr,
    os::{
        fd::AsRawFd,
        unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    time::Duration,
};

#[cfg(target_os = "linux")]
use rustix::fs::OFlags;
use socket2::{Domain, SockAddr, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener};

use super::{address::Address, socket_stream::SocketStream};
use crate::domain::Peer;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1_024;

/// The kernel probes a TCP connection after it was silent for this long.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// A TCP connection ends when sent bytes are not acknowledged for this long (gRFC A18).
const USER_TIMEOUT: Duration = Duration::from_secs(20);

/// Who may use a Unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Its owner and group.
    Group,
    /// Its owner.
    Owner,
}

/// A listener could not be bound to an address.
#[derive(Debug)]
pub struct BindError {
    /// The address.
    pub address: Address,
    /// The error of the operating system.
    pub cause: io::Error,
}

/// A listening socket.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// Unix, with the file that is removed when the listener is dropped.
    Unix(UnixListener, SocketFile),
}

/// The file of a Unix socket. Dropping it removes the file, unless another process has replaced it.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    file: Option<(u64, u64)>,
}

impl Listener {
    /// Listens at `address`; `access` is for Unix sockets.
    pub fn bind(address: &Address, access: Access) -> Result<Self, BindError> {
        let bound = match address {
            Address::Tcp(address) => bind_tcp(*address),
            Address::Unix(path) => bind_unix(path, access),
        };
        bound.map_err(|cause| BindError { address: address.clone(), cause })
    }

    /// The address that it listens at, with the actual port.
    pub fn address(&self) -> Address {
        match self {
            Listener::Tcp(listener) => Address::Tcp(listener.local_addr().expect("a bound socket has an address")),
            Listener::Unix(_, file) => Address::Unix(file.path.clone()),
        }
    }

    pub(super) async fn accept(&self) -> io::Result<(SocketStream, Peer)> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                if let Err(cause) = set_options(&stream) {
                    tracing::debug!(%cause, "connection closed before it was served");
                }
                Ok((SocketStream::Tcp(stream), address.into()))
            }
            Listener::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                let uid = stream.peer_cred().ok().map(|peer| peer.uid());
                Ok((SocketStream::Unix(stream), Peer::Local { uid }))
            }
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<Listener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restarted node can bind its port while connections of the old process are in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG.unsigned_abs()).map(Listener::Tcp)
}

fn bind_unix(path: &Path, access: Access) -> io::Result<Listener> {
    let mode = match access {
        Access::Group => 0o660,
        Access::Owner => 0o600,
    };
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    // A killed process leaves a socket that refuses connections. Any other error: the socket belongs to a running process.
    let is_stale = |cause: io::Error| cause.kind() == io::ErrorKind::ConnectionRefused;
    if is_socket && std::os::unix::net::UnixStream::connect(path).is_err_and(is_stale) {
        fs::remove_file(path)?;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Before `bind` creates the file, so that no client connects while the file has the default mode.
    #[cfg(target_os = "linux")]
    rustix::fs::fchmod(&socket, rustix::fs::Mode::from_raw_mode(mode))?;
    socket.bind(&SockAddr::unix(path)?)?;
    // The umask may have removed permissions.
    set_mode(path, mode)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    let listener = UnixListener::from_std(socket.into())?;
    Ok(Listener::Unix(listener, SocketFile { path: path.into(), file: device_and_inode(path) }))
}

/// Sets the mode of the socket that was bound at `path`. In a folder of many users something else may be there by now.
#[cfg(target_os = "linux")]
fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let socket = fs::File::from(rustix::fs::open(path, flags, rustix::fs::Mode::empty())?);
    let found = socket.metadata()?;
    if !found.file_type().is_socket() || found.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other("another user has replaced the socket"));
    }
    if found.mode() & 0o777 == mode {
        return Ok(());
    }
    fs::set_permissions(format!("/proc/self/fd/{}", socket.as_raw_fd()), fs::Permissions::from_mode(mode))
}

#[cfg(not(target_os = "linux"))]
fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn set_options(stream: &TcpStream) -> io::Result<()> {
    // Responses are small: Nagle's algorithm would delay each by 40 ms.
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    Ok(())
}

fn device_and_inode(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.file.is_some() && device_and_inode(&self.path) == self.file {
            // An error says that the file is already removed.
            drop(fs::remove_file(&self.path));
        }
    }
}
