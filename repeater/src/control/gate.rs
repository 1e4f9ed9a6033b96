//! Who may ask at all. Every request passes here before routing: Host, Origin, method, content type, token.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::uri::Authority;
use axum::http::{Method, Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};
use control_api::error::{ErrorBody, Problem};
use control_api::paths;
use metrics_exporter_prometheus::PrometheusHandle;
use parking_lot::Mutex;
use tower::ServiceExt as _;

use super::backoff::Failures;
use super::routes::MAX_JSON;
use super::server::Ends;
use super::token::Token;
use super::{Control, routes};
use crate::store::MAX_TORRENT_FILE;

/// A request, its body's arrival included, is answered within this time or not at all.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Headers of every answer: no framing, no guessing, no keeping, nothing loaded from anywhere.
const ANSWER_HEADERS: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'",
    ),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
];

/// The API: the daemon's [`Control`] behind the gate. Clones share it.
#[derive(Clone)]
pub struct Api {
    router: Router,
    token: Arc<Token>,
    failures: Arc<Mutex<Failures>>,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Api")
    }
}

/// A request that the gate sends back.
struct Stopped {
    reason: &'static str,
    status: StatusCode,
    problem: Problem,
    retry_after: Option<Duration>,
}

impl Stopped {
    fn new(reason: &'static str, status: StatusCode, why: &str, hint: &str) -> Self {
        Self {
            reason,
            status,
            problem: Problem::new("request", why, hint),
            retry_after: None,
        }
    }

    fn into_response(self) -> Response {
        refused(self.reason);
        let mut response = (
            self.status,
            Json(ErrorBody {
                error: self.problem,
            }),
        )
            .into_response();
        if let Some(wait) = self.retry_after {
            response.headers_mut().insert(
                header::RETRY_AFTER,
                HeaderValue::from(wait.as_secs().max(1)),
            );
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Counts a defence of the API that fired.
pub(super) fn refused(reason: &'static str) {
    metrics::counter!("btslave_api_refused_total", "reason" => reason).increment(1);
}

impl Api {
    /// The API of `control`, open to whoever has `token`; `metrics` is what `/metrics` shows.
    pub fn new(control: Arc<dyn Control>, token: Token, metrics: PrometheusHandle) -> Self {
        Self {
            router: routes::router(control, metrics),
            token: Arc::new(token),
            failures: Arc::default(),
        }
    }

    /// Answers one request.
    pub(super) async fn answer(&self, request: Request<Body>, ends: Ends) -> Response {
        let mut response = match self.admit(&request, ends) {
            Err(stopped) => stopped.into_response(),
            Ok(()) => {
                match tokio::time::timeout(TIMEOUT, self.router.clone().oneshot(request)).await {
                    Ok(Ok(response)) => response,
                    Ok(Err(never)) => match never {},
                    Err(_) => {
                        let why = "took over 60 s";
                        Stopped::new("timeout", StatusCode::REQUEST_TIMEOUT, why, "try again")
                            .into_response()
                    }
                }
            }
        };
        for (name, value) in ANSWER_HEADERS {
            response
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
        response
    }

    fn admit(&self, request: &Request<Body>, ends: Ends) -> Result<(), Stopped> {
        let host = host(request, ends.local)?;
        same_origin(request.headers(), &host)?;
        let content = content_type(request.headers());
        match *request.method() {
            Method::GET | Method::HEAD => {}
            Method::POST => {
                let torrent = request.uri().path() == paths::SWARMS_TORRENT;
                let wanted: &[&str] = if torrent {
                    &["application/x-bittorrent", "application/octet-stream"]
                } else {
                    &["application/json"]
                };
                let limit = if torrent { MAX_TORRENT_FILE } else { MAX_JSON };
                if announced_length(request.headers()).is_some_and(|length| length > limit) {
                    let hint = "at most 64 KiB of JSON, or 32 MiB of .torrent";
                    return Err(Stopped::new(
                        "body_size",
                        StatusCode::PAYLOAD_TOO_LARGE,
                        "has too large a body",
                        hint,
                    ));
                }
                if !wanted.contains(&content.as_str()) {
                    let hint = format!("send Content-Type: {}", wanted[0]);
                    let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
                    return Err(Stopped::new(
                        "content_type",
                        status,
                        "has a content type that is not taken here",
                        &hint,
                    ));
                }
            }
            _ => {
                return Err(Stopped::new(
                    "method",
                    StatusCode::METHOD_NOT_ALLOWED,
                    "is no GET, HEAD or POST",
                    "",
                ));
            }
        }
        let path = request.uri().path();
        let open = matches!(path, paths::HEALTHZ | paths::OPENAPI);
        // Beyond these there is nothing to protect and nothing to find.
        let ours = path == paths::METRICS || path.starts_with("/api/");
        if ours && !open {
            self.authorised(request.headers(), ends.remote)
        } else {
            Ok(())
        }
    }

    /// A right token passes at any time: with 256 bits of it guessing is hopeless, and nobody else on this machine can
    /// lock the operator out by failing on purpose.
    fn authorised(&self, headers: &HeaderMap, from: IpAddr) -> Result<(), Stopped> {
        let mut given = headers.get_all(header::AUTHORIZATION).iter();
        let token = given
            .next()
            .filter(|_| given.next().is_none())
            .and_then(|value| {
                let (scheme, token) = value.as_bytes().split_at_checked(7)?;
                scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
            });
        if token.is_some_and(|token| self.token.matches(token)) {
            return Ok(());
        }
        if let Some(wait) = self.failures.lock().failed(from, Instant::now()) {
            let mut stopped = Stopped::new(
                "backoff",
                StatusCode::TOO_MANY_REQUESTS,
                "failed to show the token too often",
                "wait, then show the right one",
            );
            stopped.retry_after = Some(wait);
            return Err(stopped);
        }
        let hint = "send it as `Authorization: Bearer …`; slavectl finds it with --token-file FILE (data_dir/api.token)";
        Err(Stopped::new(
            "token",
            StatusCode::UNAUTHORIZED,
            "shows no token, or a wrong one",
            hint,
        ))
    }
}

/// The Host that the client means, where it is one of ours: `localhost`, a loopback address, or the address connected
/// to. A name that an attacker's DNS points at us is none of these (row D1).
fn host(request: &Request<Body>, local: IpAddr) -> Result<Authority, Stopped> {
    let stop = || {
        Stopped::new(
            "host",
            StatusCode::FORBIDDEN,
            "names a host that is not this daemon",
            "use localhost or the listen address",
        )
    };
    let mut given = request.headers().get_all(header::HOST).iter();
    let host = given
        .next()
        .filter(|_| given.next().is_none())
        .and_then(|v| Authority::try_from(v.as_bytes()).ok());
    let host = host.filter(|host| is_ours(host, local)).ok_or_else(stop)?;
    // The absolute form of a request line overrides Host for some; so it has to be ours as well.
    if request
        .uri()
        .authority()
        .is_some_and(|authority| !is_ours(authority, local))
    {
        return Err(stop());
    }
    Ok(host)
}

fn is_ours(host: &Authority, local: IpAddr) -> bool {
    let name = host.host().trim_start_matches('[').trim_end_matches(']');
    let plain = !host.as_str().contains('@');
    plain
        && (name.eq_ignore_ascii_case("localhost")
            || name.parse::<IpAddr>().is_ok_and(|ip| {
                let ip = ip.to_canonical();
                ip.is_loopback() || ip == local.to_canonical()
            }))
}

/// A browser that comes from another page says so (row D2).
fn same_origin(headers: &HeaderMap, host: &Authority) -> Result<(), Stopped> {
    let from_here = headers.get_all(header::ORIGIN).iter().all(|origin| {
        let authority = origin.as_bytes().strip_prefix(b"http://");
        authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host.as_str().as_bytes()))
    });
    let site = headers
        .get("sec-fetch-site")
        .is_none_or(|site| site == "same-origin" || site == "none");
    if from_here && site {
        return Ok(());
    }
    Err(Stopped::new(
        "origin",
        StatusCode::FORBIDDEN,
        "comes from another web page",
        "no page but the daemon's own may use this API",
    ))
}

fn announced_length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

fn content_type(headers: &HeaderMap) -> String {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("");
    value
        .split(';')
        .next()
        .unwrap_or("")
        .trim()
        .to_ascii_lowercase()
}
