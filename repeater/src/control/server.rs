//! The listener: HTTP/1 within limits, each connection a task.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use axum::response::Response;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::gate::{Api, refused};

/// The two ends of the connection that a request came by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) remote: IpAddr,
    pub(crate) local: IpAddr,
}

/// What is served.
pub(crate) trait Site: Clone + Send + Sync + 'static {
    /// Held while a connection lives.
    type Seat: Send;

    /// A seat for a connection from there; none: it is closed at once.
    fn seat(&self, remote: IpAddr) -> Option<Self::Seat>;
    /// Answers one request.
    fn answer(&self, request: Request<Body>, ends: Ends) -> impl Future<Output = Response> + Send;
    /// Counts a limit of the listener that was reached.
    fn refused(&self, reason: &'static str);
}

impl Site for Api {
    type Seat = ();

    fn seat(&self, _remote: IpAddr) -> Option<()> {
        Some(())
    }

    async fn answer(&self, request: Request<Body>, ends: Ends) -> Response {
        Self::answer(self, request, ends).await
    }

    fn refused(&self, reason: &'static str) {
        refused(reason);
    }
}

/// What one listener bears (row D7).
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at a time; one more is closed at once.
    pub connections: usize,
    /// Time for a request's head, and for the next one on an idle connection.
    pub head_timeout: Duration,
    /// Longest life of a connection.
    pub lifetime: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            head_timeout: Duration::from_secs(10),
            lifetime: Duration::from_secs(600),
        }
    }
}

/// Request line and headers, in bytes; more is closed with 431.
const MAX_HEAD: usize = 16 << 10;
/// Header lines; more is closed with 431.
const MAX_HEADERS: usize = 64;
/// What accept waits after an error (out of descriptors) before it tries again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the API until `stop`; then lets requests in progress end, for at most two seconds.
pub async fn serve(listener: TcpListener, api: Api, limits: Limits, stop: CancellationToken) {
    serve_site(listener, api, limits, stop).await;
}

/// As [`serve`], for any site.
pub(crate) async fn serve_site<S: Site>(
    listener: TcpListener,
    site: S,
    limits: Limits,
    stop: CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(limits.connections));
    let tasks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "an HTTP listener cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            site.refused("connections");
            continue;
        };
        let Some(seat) = site.seat(remote.ip()) else {
            continue;
        };
        let Ok(local) = stream.local_addr() else {
            continue;
        };
        let ends = Ends {
            remote: remote.ip(),
            local: local.ip(),
        };
        let (site, stop) = (site.clone(), stop.clone());
        tasks.spawn(async move {
            connection(stream, ends, site, limits, stop).await;
            drop((permit, seat));
        });
    }
    tasks.close();
    let _ = tokio::time::timeout(Duration::from_secs(2), tasks.wait()).await;
}

async fn connection<S: Site>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    ends: Ends,
    site: S,
    limits: Limits,
    stop: CancellationToken,
) {
    let answering = site.clone();
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let site = answering.clone();
        async move { Ok::<_, Infallible>(site.answer(request.map(Body::new), ends).await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
        () = tokio::time::sleep(limits.lifetime) => {
            site.refused("lifetime");
            return;
        }
    };
    if let Err(error) = ended {
        if error.is_timeout() {
            site.refused("head_timeout");
        } else if error.is_parse_too_large() {
            site.refused("head_size");
        }
        tracing::trace!(%error, "an HTTP connection ended");
    }
}
