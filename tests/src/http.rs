//! Just enough HTTP to speak to the clients' RPC and to our own API.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::raw::socket::dial;

/// An answer.
#[derive(Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names in lower case, in the order they came.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of this (lower-case) name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as text, wrong bytes replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One request on a connection of its own.
///
/// # Errors
/// No connection, silence for 30 s, or an answer that is no HTTP.
pub fn request(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> anyhow::Result<Response> {
    let stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
    exchange(stream, to, method, path, headers, body)
}

/// A GET from an address of our choice.
///
/// # Errors
/// As [`request`].
pub fn get_from(from: Ipv4Addr, to: SocketAddr, path: &str) -> anyhow::Result<Response> {
    exchange(dial(from, to)?, to, "GET", path, &[], b"")
}

fn exchange(
    mut stream: TcpStream,
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> anyhow::Result<Response> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let length = body.len();
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\nContent-Length: {length}\r\n"
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(&[head.as_bytes(), body].concat())?;
    let mut answer = Vec::new();
    loop {
        let mut buffer = [0; 16 << 10];
        let read = stream.read(&mut buffer)?;
        answer.extend_from_slice(&buffer[..read]);
        if let Some(response) = parse(&answer, read == 0)? {
            return Ok(response);
        }
    }
}

/// `None` while more bytes are to come.
fn parse(answer: &[u8], ended: bool) -> anyhow::Result<Option<Response>> {
    let Some(split) = answer.windows(4).position(|w| w == b"\r\n\r\n") else {
        if ended {
            bail!("the connection ended within the answer's head");
        }
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&answer[..split]).into_owned();
    let mut lines = head.lines();
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|code| code.parse().ok());
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    let mut response = Response {
        status: status.context("no status line")?,
        headers: headers.collect(),
        body: answer[split + 4..].to_vec(),
    };
    if response
        .header("transfer-encoding")
        .is_some_and(|encoding| encoding == "chunked")
    {
        let Some(body) = unchunk(&response.body)? else {
            return Ok(None);
        };
        response.body = body;
        return Ok(Some(response));
    }
    let length = response
        .header("content-length")
        .and_then(|length| length.parse().ok());
    let complete = length.map_or(ended, |length: usize| response.body.len() >= length);
    if ended && !complete {
        bail!("the connection ended within the answer's body");
    }
    Ok(complete.then_some(response))
}

fn unchunk(mut rest: &[u8]) -> anyhow::Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    loop {
        let Some(line) = rest.windows(2).position(|w| w == b"\r\n") else {
            return Ok(None);
        };
        let size = std::str::from_utf8(&rest[..line])?
            .split(';')
            .next()
            .unwrap_or_default();
        let size = usize::from_str_radix(size.trim(), 16).context("a chunk's size")?;
        if size == 0 {
            return Ok(Some(body));
        }
        let Some(chunk) = rest.get(line + 2..line + 2 + size) else {
            return Ok(None);
        };
        body.extend_from_slice(chunk);
        rest = rest.get(line + 4 + size..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn reads_answers_of_every_framing() {
        let by_length = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        let chunked = b"HTTP/1.1 409 x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
        let to_the_end = b"HTTP/1.0 200 OK\r\n\r\nok";
        assert_eq!(parse(by_length, false).unwrap().unwrap().body, b"ok");
        assert!(
            parse(&by_length[..by_length.len() - 1], false)
                .unwrap()
                .is_none()
        );
        assert!(parse(&by_length[..by_length.len() - 1], true).is_err());
        let answer = parse(chunked, false).unwrap().unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (409, &b"ok"[..]));
        assert!(parse(to_the_end, false).unwrap().is_none());
        assert_eq!(parse(to_the_end, true).unwrap().unwrap().body, b"ok");
    }
}
