//! The sockets of a raw peer: bound where the test says, read by whole frames.

use std::io::{self, Read as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::Context;
use bt_wire::message::frame_length;
use bytes::Bytes;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use crate::wait::eventually;

/// Connects from an address of our choice, any port.
pub(crate) fn dial(from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&socket, &SocketAddr::from((from, 0)))?;
    connect(&socket, &to)?;
    Ok(socket.into())
}

/// The next connection, within a time.
pub(super) fn accept(listener: &TcpListener, limit: Duration) -> anyhow::Result<TcpStream> {
    listener.set_nonblocking(true)?;
    let accepted = eventually("somebody dials us", limit, || match listener.accept() {
        Ok((stream, _)) => Ok(Some(stream)),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(e) => Err(e).context("accept"),
    })?;
    accepted.set_nonblocking(false)?;
    Ok(accepted)
}

/// The bytes after a frame's length.
pub(super) fn read_frame(stream: &mut TcpStream) -> io::Result<Bytes> {
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix)?;
    let length = frame_length(prefix).map_err(io::Error::other)?;
    let mut frame = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    stream.read_exact(&mut frame)?;
    Ok(frame.into())
}
