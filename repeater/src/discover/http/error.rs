//! What can go wrong over HTTP, and how URLs are shown.

use std::error::Error as StdError;
use std::io;

use url::Url;

use super::MAX_REDIRECTS;

/// An HTTP failure. Every text names the URL (passkeys masked), the cause and the next step.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Not http or https (attack row E2). Do not try again.
    #[error("{url}: {scheme}: is not fetched on anybody's word but yours; only http and https are")]
    Scheme {
        /// The URL, masked.
        url: String,
        /// Its scheme.
        scheme: String,
    },
    /// Not a URL. Do not try again.
    #[error("{url}: not a URL ({reason}); correct it")]
    BadUrl {
        /// What was written, cut short.
        url: String,
        /// Why.
        reason: String,
    },
    /// The scope rule forbids the address or port. Do not try again soon.
    #[error(
        "{url}: leads to {what}, which its source may not name; if you trust it, name it yourself"
    )]
    Forbidden {
        /// The URL, masked.
        url: String,
        /// Address or port.
        what: String,
    },
    /// Over [`MAX_REDIRECTS`].
    #[error("{url}: more than {MAX_REDIRECTS} redirects; ask its operator for the final address")]
    Redirects {
        /// The first URL, masked.
        url: String,
    },
    /// The body is over the cap, after decompression.
    #[error(
        "{url}: the answer is over {limit} bytes and was cut off; it is not what it claims to be"
    )]
    TooLarge {
        /// The URL, masked.
        url: String,
        /// The cap in bytes.
        limit: usize,
    },
    /// The certificate or the TLS handshake failed (attack row E1). There is no way around it.
    #[error(
        "{url}: TLS: {reason}; check the address and the certificate authorities installed here (TLS 1.2 or newer is needed)"
    )]
    Tls {
        /// The URL, masked.
        url: String,
        /// What rustls said.
        reason: String,
    },
    /// Took too long. Try again later.
    #[error("{url}: no answer in time; trying again later")]
    Timeout {
        /// The URL, masked.
        url: String,
    },
    /// Could not be reached, or broke off. Try again later.
    #[error("{url}: {reason}; trying again later")]
    Network {
        /// The URL, masked.
        url: String,
        /// The innermost cause.
        reason: String,
    },
    /// The month's quota does not allow for it.
    #[error(
        "{url}: not asked for: the month's quota is used up; it waits for the next month, or raise limits.month"
    )]
    Quota {
        /// The URL, masked.
        url: String,
    },
    /// The server said no.
    #[error("{url}: the server answered {status}; check the address, or try again later")]
    Status {
        /// The URL, masked.
        url: String,
        /// The HTTP status.
        status: u16,
        /// `Retry-After` in seconds, where given.
        retry_after_s: Option<u64>,
    },
}

impl HttpError {
    /// A short word for the counter `btslave_http_refused_total`.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Scheme { .. } => "scheme",
            Self::BadUrl { .. } => "bad_url",
            Self::Forbidden { .. } => "address",
            Self::Redirects { .. } => "redirects",
            Self::TooLarge { .. } => "too_large",
            Self::Tls { .. } => "tls",
            Self::Timeout { .. } => "timeout",
            Self::Network { .. } => "network",
            Self::Quota { .. } => "quota",
            Self::Status { .. } => "status",
        }
    }
}

/// A name led only to addresses its source may not name.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct ForbiddenName(pub(super) String);

/// Sorts a reqwest error by what the caller must do.
pub(super) fn classify(url: &Url, error: &reqwest::Error) -> HttpError {
    let url = masked(url);
    for cause in causes(error) {
        if let Some(ForbiddenName(ip)) = cause.downcast_ref() {
            return HttpError::Forbidden {
                url,
                what: ip.clone(),
            };
        }
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            return HttpError::Tls {
                url,
                reason: tls.to_string(),
            };
        }
    }
    if error.is_timeout() {
        HttpError::Timeout { url }
    } else {
        HttpError::Network {
            url,
            reason: innermost(error),
        }
    }
}

/// What is below an error, outermost first. `io::Error` hides what it wraps from `source`.
fn causes<'a>(error: &'a reqwest::Error) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(error.source(), |cause| {
        let cause: &'a (dyn StdError + 'static) = *cause;
        match cause
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(inner) => Some(inner as &(dyn StdError + 'static)),
            None => cause.source(),
        }
    })
}

/// The last cause in the chain says most, and none of the outer ones may show a whole URL.
pub(super) fn innermost(error: &reqwest::Error) -> String {
    causes(error)
        .last()
        .map_or_else(|| "the request failed".to_owned(), ToString::to_string)
}

/// A URL for people and logs: no user, no password, and passkeys masked.
///
/// Masked is every value in the query, and every path segment of 16 or more letters and digits.
#[must_use]
pub fn masked(url: &Url) -> String {
    let mut out = format!("{}:", url.scheme());
    if let Some(host) = url.host_str() {
        out.push_str("//");
        out.push_str(host);
        if let Some(port) = url.port() {
            out.push_str(&format!(":{port}"));
        }
    }
    let is_key = |s: &str| s.len() >= 16 && s.bytes().all(|b| b.is_ascii_alphanumeric());
    let segments: Vec<_> = url
        .path()
        .split('/')
        .map(|s| if is_key(s) { "…" } else { s })
        .collect();
    out.push_str(&segments.join("/"));
    if url.query().is_some() {
        let names: Vec<_> = url
            .query_pairs()
            .map(|(name, _)| format!("{name}=…"))
            .collect();
        out.push('?');
        out.push_str(&names.join("&"));
    }
    out
}

/// As [`masked`], for what may be no URL; that is shown by its length alone.
#[must_use]
pub fn mask(text: &str) -> String {
    Url::parse(text).map_or_else(
        |_| format!("({} characters)", text.chars().count()),
        |url| masked(&url),
    )
}
