//! An HTTP server in front of another, that knows nothing of some paths: a client's RPC as an older version has it.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};

/// It serves until the test ends.
#[derive(Debug)]
pub struct HttpGate {
    address: SocketAddr,
    refused: Arc<AtomicUsize>,
}

impl HttpGate {
    /// Listens at a free port of `ip`; hands everything to `behind`, but what asks for `hidden`: that is a 404.
    ///
    /// # Errors
    /// It cannot listen.
    pub fn start(ip: Ipv4Addr, behind: SocketAddr, hidden: &'static str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((ip, 0))?;
        let gate = Self {
            address: listener.local_addr()?,
            refused: Arc::default(),
        };
        let refused = Arc::clone(&gate.refused);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let refused = Arc::clone(&refused);
                thread::spawn(move || {
                    if let Err(why) = serve(stream, behind, hidden, &refused) {
                        println!("http gate: {why:#}");
                    }
                });
            }
        });
        Ok(gate)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How often the hidden path was asked for.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }
}

/// One request of one connection: both servers close after it, so that the next one comes by itself.
fn serve(
    mut client: TcpStream,
    behind: SocketAddr,
    hidden: &str,
    refused: &AtomicUsize,
) -> anyhow::Result<()> {
    client.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut request = Vec::new();
    let end = loop {
        let mut buffer = [0; 4096];
        let read = client.read(&mut buffer)?;
        if read == 0 && request.is_empty() {
            return Ok(());
        }
        ensure!(read > 0 && request.len() < 65_536, "no whole request");
        request.extend_from_slice(&buffer[..read]);
        if let Some(end) = request.windows(4).position(|w| w == b"\r\n\r\n") {
            break end;
        }
    };
    let head = String::from_utf8_lossy(&request[..end]).into_owned();
    let line = head.lines().next().context("an empty request")?;
    if line
        .split(' ')
        .nth(1)
        .is_some_and(|path| path.ends_with(hidden))
    {
        refused.fetch_add(1, Ordering::Relaxed);
        let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        return Ok(client.write_all(answer)?);
    }
    let mut server = TcpStream::connect(behind)?;
    let once = |line: &&str| !line.to_ascii_lowercase().starts_with("connection:");
    let lines: Vec<&str> = head.lines().filter(once).collect();
    let head = format!("{}\r\nConnection: close\r\n\r\n", lines.join("\r\n"));
    server.write_all(head.as_bytes())?;
    server.write_all(&request[end + 4..])?;
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    // Ends when the client has its answer and closes.
    thread::spawn(move || std::io::copy(&mut from, &mut to));
    std::io::copy(&mut server, &mut client)?;
    Ok(client.shutdown(Shutdown::Both)?)
}
