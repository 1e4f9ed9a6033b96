//! Listening and dialling sockets, with the operator's addresses and device.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Connections the kernel may hold for us before we accept them.
const BACKLOG: i32 = 1024;
/// How long a dial may take until the far end answers.
const CONNECT: Duration = Duration::from_secs(10);

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {addr}: {cause} (another program may use it: choose another in node.listen)"
)]
pub struct ListenError {
    /// The address.
    pub addr: SocketAddr,
    /// Why.
    #[source]
    pub cause: io::Error,
}

fn socket(addr: SocketAddr, device: Option<&str>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    #[cfg(target_os = "linux")]
    socket.bind_device(device.map(str::as_bytes))?;
    #[cfg(not(target_os = "linux"))]
    if device.is_some() {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "node.bind_device works on Linux only",
        ));
    }
    Ok(socket)
}

/// Listens on one address; an IPv6 socket takes IPv6 only.
pub(super) fn listen(addr: SocketAddr, device: Option<&str>) -> Result<TcpListener, ListenError> {
    let open = || {
        let socket = socket(addr, device)?;
        socket.set_reuse_address(true)?;
        if addr.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    open().map_err(|cause| ListenError { addr, cause })
}

/// Dials, from the listen address of the same family if that is no wildcard.
pub(super) async fn dial(
    addr: SocketAddr,
    listen: &[SocketAddr],
    device: Option<&str>,
) -> io::Result<TcpStream> {
    let socket = socket(addr, device)?;
    let any = if addr.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let source = listen
        .iter()
        .map(SocketAddr::ip)
        .find(|ip| ip.is_ipv4() == addr.is_ipv4())
        .unwrap_or(any);
    if !source.is_unspecified() {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    let socket = TcpSocket::from_std_stream(socket.into());
    tokio::time::timeout(CONNECT, socket.connect(addr)).await?
}
