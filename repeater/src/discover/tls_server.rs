//! An HTTPS server with a certificate nobody trusts, for tests. The key in `testdata` guards nothing.

#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Serves one connection on a thread of its own; returns where.
pub(super) fn start() -> SocketAddr {
    let cert = CertificateDer::from(&include_bytes!("testdata/self_signed.cert.der")[..]);
    let key = PrivatePkcs8KeyDer::from(&include_bytes!("testdata/self_signed.key.der")[..]);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert], PrivateKeyDer::Pkcs8(key))
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut tls = StreamOwned::new(ServerConnection::new(Arc::new(config)).unwrap(), stream);
        // Were the certificate taken, the client would get an answer, and the test would see it.
        let mut request = [0; 1024];
        if tls.read(&mut request).is_ok() {
            let _ = tls.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
    address
}
