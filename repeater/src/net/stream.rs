//! The only place that names a transport. Later ones (uTP, SOCKS, each plain or RC4) are more arms of [`Stream`].

use std::io::{self, IoSlice, IoSliceMut};

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest, Ready};
use tokio::net::TcpStream;

/// Unsent bytes the kernel may hold, so that a HAVE does not queue up behind megabytes of blocks.
const NOTSENT_LOWAT: u32 = 128 * 1024;
/// The same for messages that do not wait: what [`NOTSENT_LOWAT`] leaves free, and a block that was cut by it.
#[cfg(target_os = "linux")]
const NOTSENT_URGENT: u32 = 2 * NOTSENT_LOWAT;

/// A connected transport.
#[derive(Debug)]
pub(crate) enum Stream {
    /// Plain TCP.
    Tcp(TcpStream),
}

impl Stream {
    pub(crate) fn tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        #[cfg(target_os = "linux")]
        SockRef::from(&stream).set_tcp_notsent_lowat(NOTSENT_LOWAT)?;
        Ok(Self::Tcp(stream))
    }

    pub(crate) async fn read_exact(&mut self, out: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.read_exact(out).await.map(drop),
        }
    }

    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes).await,
        }
    }

    pub(crate) async fn ready(&self, write: bool, read: bool) -> io::Result<Ready> {
        let interest = match (read, write) {
            (true, true) => Interest::READABLE | Interest::WRITABLE,
            (true, false) => Interest::READABLE,
            (false, true) => Interest::WRITABLE,
            (false, false) => Interest::ERROR,
        };
        match self {
            Self::Tcp(stream) => stream.ready(interest).await,
        }
    }

    pub(crate) fn try_read_vectored(&self, out: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read_vectored(out),
        }
    }

    pub(crate) fn try_read(&self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read(out),
        }
    }

    pub(crate) fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write_vectored(slices),
        }
    }

    /// Writes a few bytes that must not wait until the peer has read what is unsent, past the bound on those. The order
    /// of bytes stays: they arrive after what was written, and need no waking of ours for it.
    ///
    /// # Errors
    /// `WouldBlock` when the kernel has no room at all, or knows no such bound; or what ends the connection.
    pub(crate) fn try_write_urgent(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let Self::Tcp(stream) = self;
        #[cfg(target_os = "linux")]
        {
            let socket = SockRef::from(stream);
            // Setting either bound wakes the socket when it is writable under it; so no readiness is lost.
            socket.set_tcp_notsent_lowat(NOTSENT_URGENT)?;
            let wrote = socket.send_vectored(slices);
            socket.set_tcp_notsent_lowat(NOTSENT_LOWAT)?;
            wrote
        }
        #[cfg(not(target_os = "linux"))]
        {
            stream.try_write_vectored(slices)
        }
    }

    /// Ends our side, so that what was written arrives.
    pub(crate) async fn shutdown(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown().await,
        }
    }
}
