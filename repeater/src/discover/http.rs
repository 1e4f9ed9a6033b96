//! The one way out over HTTP: feeds, .torrent files and trackers all go through [`Http`].
//!
//! Defences: http and https only; every address, literal or resolved, is held to the scope rule of whoever named the
//! URL; redirects are followed by us, hop by hop, each named by the server that sent it; bodies are counted after
//! decompression and cut at a cap; connect, read and total time are bounded; certificates are always checked.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bt_wire::address::{AddressSource, Scope, may_name};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{self, HeaderMap};
use reqwest::{Client, Response, redirect};
use url::{Host, Url};

mod error;

use crate::allowance::Allowance;
use error::{ForbiddenName, classify, innermost};
pub use error::{HttpError, mask, masked};

/// What we say we are.
pub const USER_AGENT: &str = concat!("BTSlave/", env!("CARGO_PKG_VERSION"));
/// Redirects followed before giving up.
pub const MAX_REDIRECTS: usize = 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const READ_TIMEOUT: Duration = Duration::from_secs(20);
/// What one question costs besides the answer's body, bytes: looking the name up, TLS with its certificates, and both
/// heads. More than it mostly takes: the quota must not be exceeded.
const QUESTION: u64 = 8 << 10;
const SCOPES: [Scope; 4] = [
    Scope::Loopback,
    Scope::LinkLocal,
    Scope::Private,
    Scope::Global,
];

/// One thing to fetch.
#[derive(Debug, Clone)]
pub struct HttpRequest<'a> {
    /// Where.
    pub url: &'a str,
    /// Who named the URL.
    pub named_by: AddressSource,
    /// Largest body, in decoded bytes.
    pub max_body: usize,
    /// For all of it, redirects and body included.
    pub deadline: Duration,
    /// `If-None-Match`.
    pub etag: Option<&'a str>,
    /// `If-Modified-Since`.
    pub last_modified: Option<&'a str>,
}

/// What came back: status 2xx, or 304 to a conditional request.
#[derive(Debug, Clone)]
pub struct HttpReply {
    /// The HTTP status.
    pub status: u16,
    /// The URL that answered, after redirects.
    pub url: Url,
    /// Who the server is when it names addresses in turn.
    pub speaks_as: AddressSource,
    /// `Content-Type`, lower case, without parameters.
    pub content_type: Option<String>,
    /// `ETag`.
    pub etag: Option<String>,
    /// `Last-Modified`.
    pub last_modified: Option<String>,
    /// The body, decoded.
    pub body: Vec<u8>,
}

/// Parameters of the client.
#[derive(Debug, Clone, Default)]
pub struct HttpOptions {
    /// Source address of all connections; None = the system's choice.
    pub local_address: Option<IpAddr>,
    /// What the line may carry: every question and every body counts.
    pub allowance: Arc<Allowance>,
}

/// The shared HTTP client. Clones share connections.
#[derive(Debug, Clone)]
pub struct Http {
    // One per narrowest scope allowed: the resolver is part of the client.
    clients: Arc<[Client; 4]>,
    allowance: Arc<Allowance>,
}

/// The client could not be made; the text says why.
#[derive(Debug, thiserror::Error)]
#[error(
    "HTTP client: {reason}; check that certificate authorities are installed (ca-certificates)"
)]
pub struct HttpSetupError {
    reason: String,
}

fn install_crypto() {
    static ONCE: OnceLock<()> = OnceLock::new();
    // An error says that a provider is installed already, which is all we want.
    ONCE.get_or_init(|| drop(rustls::crypto::ring::default_provider().install_default()));
}

impl Http {
    /// Makes the client. Errors when the system's certificate authorities cannot be used.
    pub fn new(options: &HttpOptions) -> Result<Self, HttpSetupError> {
        install_crypto();
        let client = |narrowest: Scope| {
            Client::builder()
                .user_agent(USER_AGENT)
                .local_address(options.local_address)
                .connect_timeout(CONNECT_TIMEOUT)
                .read_timeout(READ_TIMEOUT)
                .redirect(redirect::Policy::none())
                .referer(false)
                .no_proxy()
                .dns_resolver(Arc::new(ScopedResolver { narrowest }))
                .build()
                .map_err(|e| HttpSetupError {
                    reason: innermost(&e),
                })
        };
        let [a, b, c, d] = SCOPES;
        Ok(Self {
            clients: Arc::new([client(a)?, client(b)?, client(c)?, client(d)?]),
            allowance: Arc::clone(&options.allowance),
        })
    }

    /// Fetches one thing.
    pub async fn get(&self, request: &HttpRequest<'_>) -> Result<HttpReply, HttpError> {
        let fetch = self.follow(request);
        let done = tokio::time::timeout(request.deadline, fetch).await;
        let result = done.unwrap_or_else(|_| {
            Err(HttpError::Timeout {
                url: mask(request.url),
            })
        });
        if let Err(e) = &result {
            metrics::counter!("btslave_http_refused_total", "reason" => e.label()).increment(1);
        }
        result
    }

    async fn follow(&self, request: &HttpRequest<'_>) -> Result<HttpReply, HttpError> {
        let mut url = Url::parse(request.url).map_err(|e| HttpError::BadUrl {
            url: mask(request.url),
            reason: e.to_string(),
        })?;
        let mut source = request.named_by;
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send(&url, source, request).await?;
            source = AddressSource::Named {
                by: speaker(&response, source),
            };
            let status = response.status();
            if let Some(next) = redirect_target(&response, &url)? {
                url = next;
            } else if status.is_success() || status.as_u16() == 304 {
                return read_reply(&self.allowance, response, url, source, request.max_body).await;
            } else {
                let retry_after_s = text(response.headers(), header::RETRY_AFTER)
                    .and_then(|t| t.trim().parse().ok());
                return Err(HttpError::Status {
                    url: masked(&url),
                    status: status.as_u16(),
                    retry_after_s,
                });
            }
        }
        Err(HttpError::Redirects {
            url: mask(request.url),
        })
    }

    async fn send(
        &self,
        url: &Url,
        source: AddressSource,
        request: &HttpRequest<'_>,
    ) -> Result<Response, HttpError> {
        check_url(url, source)?;
        draw(&self.allowance, url, QUESTION)?;
        let narrowest = narrowest(source);
        let index = SCOPES
            .iter()
            .position(|s| *s == narrowest)
            .unwrap_or(SCOPES.len() - 1);
        let [_, _, _, strictest] = &*self.clients;
        let mut builder = self
            .clients
            .get(index)
            .unwrap_or(strictest)
            .get(url.clone());
        if let Some(etag) = request.etag {
            builder = builder.header(header::IF_NONE_MATCH, etag);
        }
        if let Some(date) = request.last_modified {
            builder = builder.header(header::IF_MODIFIED_SINCE, date);
        }
        builder.send().await.map_err(|e| classify(url, &e))
    }
}

/// The narrowest scope a source may name.
fn narrowest(source: AddressSource) -> Scope {
    match source {
        AddressSource::Operator => Scope::Loopback,
        AddressSource::Named { by } => by,
    }
}

/// The scope in which a server speaks: that of its address, and never narrower than that of who named it.
fn speaker(response: &Response, named_by: AddressSource) -> Scope {
    let scope = response
        .remote_addr()
        .and_then(|a| Scope::of(a.ip()))
        .unwrap_or(Scope::Global);
    scope.max(narrowest(named_by))
}

/// Scheme, port and literal address; names are checked when they are resolved.
fn check_url(url: &Url, source: AddressSource) -> Result<(), HttpError> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(HttpError::Scheme {
            url: masked(url),
            scheme: url.scheme().to_owned(),
        });
    }
    let forbidden = |what: String| {
        Err(HttpError::Forbidden {
            url: masked(url),
            what,
        })
    };
    let port = url.port_or_known_default().unwrap_or_default();
    let open_port = matches!(port, 80 | 443 | 1024..);
    if port == 0 || (source != AddressSource::Operator && !open_port) {
        return forbidden(format!("port {port}"));
    }
    let literal = match url.host() {
        Some(Host::Ipv4(ip)) => IpAddr::V4(ip),
        Some(Host::Ipv6(ip)) => IpAddr::V6(ip),
        Some(Host::Domain(_)) => return Ok(()),
        None => return forbidden("no host".to_owned()),
    };
    if allowed(literal, narrowest(source)) {
        Ok(())
    } else {
        forbidden(literal.to_string())
    }
}

fn allowed(ip: IpAddr, narrowest: Scope) -> bool {
    Scope::of(ip).is_some_and(|scope| may_name(narrowest, scope))
}

/// Looks names up, and lets through only addresses of the allowed scopes, so that no name smuggles one in.
#[derive(Debug)]
struct ScopedResolver {
    narrowest: Scope,
}

impl Resolve for ScopedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let narrowest = self.narrowest;
        Box::pin(async move {
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let some = found.first().copied();
            let kept: Vec<SocketAddr> = found
                .into_iter()
                .filter(|a| allowed(a.ip(), narrowest))
                .collect();
            match (kept.is_empty(), some) {
                (true, Some(addr)) => Err(ForbiddenName(addr.ip().to_string()).into()),
                _ => Ok(Box::new(kept.into_iter()) as Addrs),
            }
        })
    }
}

fn redirect_target(response: &Response, url: &Url) -> Result<Option<Url>, HttpError> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(location) = text(response.headers(), header::LOCATION) else {
        return Ok(None);
    };
    let next = url.join(location.trim());
    next.map(Some).map_err(|e| HttpError::BadUrl {
        url: mask(&location),
        reason: format!("redirected there: {e}"),
    })
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    headers
        .get(name)
        .and_then(|v| v.to_str().ok())
        .map(str::to_owned)
}

fn draw(allowance: &Allowance, url: &Url, bytes: u64) -> Result<(), HttpError> {
    if allowance.draw(bytes) {
        Ok(())
    } else {
        Err(HttpError::Quota { url: masked(url) })
    }
}

async fn read_reply(
    allowance: &Allowance,
    mut response: Response,
    url: Url,
    speaks_as: AddressSource,
    limit: usize,
) -> Result<HttpReply, HttpError> {
    let headers = response.headers();
    let content_type = text(headers, header::CONTENT_TYPE)
        .and_then(|t| t.split(';').next().map(|t| t.trim().to_ascii_lowercase()));
    let (etag, last_modified) = (
        text(headers, header::ETAG),
        text(headers, header::LAST_MODIFIED),
    );
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| classify(&url, &e))? {
        draw(allowance, &url, chunk.len() as u64)?;
        if body.len().saturating_add(chunk.len()) > limit {
            return Err(HttpError::TooLarge {
                url: masked(&url),
                limit,
            });
        }
        body.extend_from_slice(&chunk);
    }
    let status = response.status().as_u16();
    Ok(HttpReply {
        status,
        url,
        speaks_as,
        content_type,
        etag,
        last_modified,
        body,
    })
}

#[cfg(test)]
mod tests;
