//! One HTTP conversation with a master: limits, logins that are not tried too often, and causes in plain words.

use std::error::Error;
use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use bt_wire::ids::InfoHash;
use parking_lot::Mutex;
use reqwest::header::{HeaderMap, LOCATION};
use reqwest::{Client, RequestBuilder, StatusCode, redirect};
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use url::Url;

use crate::config::{ConfigError, RpcConfig};
use crate::error::RpcError;

/// Largest answer read, in bytes after decompression. qBittorrent's list of 10,000 torrents is about that long.
pub const MAX_BODY: usize = 16 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(20);
/// A refused login is not repeated for so long: qBittorrent bans an address for an hour after five.
const LOGIN_PAUSE: Duration = Duration::from_secs(15 * 60);
/// Characters of a master's own words that we repeat.
const MAX_QUOTE: usize = 100;

/// Makes *ring* the process's TLS provider, once. To be called before any HTTP client is built, for building one panics without;
/// a provider that is already there stays.
pub fn ensure_crypto_provider() {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| {
        // The only error is that somebody was first, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// The client, where it asks, and as whom.
pub(crate) struct Http {
    client: Client,
    base: Url,
    user: String,
    password: String,
    refused_at: Mutex<Option<Instant>>,
}

/// A whole answer.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http")
            .field("base", &self.base.as_str())
            .finish_non_exhaustive()
    }
}

impl Http {
    pub(crate) fn new(config: &RpcConfig) -> Result<Self, ConfigError> {
        Self::with_timeout(config, TIMEOUT)
    }

    fn with_timeout(config: &RpcConfig, timeout: Duration) -> Result<Self, ConfigError> {
        let base = config.base_url()?;
        ensure_crypto_provider();
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(timeout)
            // A redirected POST arrives as a GET, and a login must not wander to another host.
            .redirect(redirect::Policy::none())
            .no_proxy()
            .cookie_store(true)
            .user_agent(concat!("BTSlave/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| ConfigError::NoClient { why: causes(e) })?;
        let (user, password) = (config.user.clone(), config.password.clone());
        Ok(Self {
            client,
            base,
            user,
            password,
            refused_at: Mutex::new(None),
        })
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    /// Name and password, if any is set.
    pub(crate) fn login(&self) -> Option<(&str, &str)> {
        let any = !self.user.is_empty() || !self.password.is_empty();
        any.then_some((self.user.as_str(), self.password.as_str()))
    }

    /// Sends a request and reads the answer, both within the time and size limits.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Reply, RpcError> {
        let mut response = request.send().await.map_err(|e| self.unreachable(e))?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| self.unreachable(e))? {
            if body.len() + chunk.len() > MAX_BODY {
                return Err(self.protocol(format!("it is longer than {MAX_BODY} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Reply {
            status: response.status(),
            headers: response.headers().clone(),
            body,
        })
    }

    /// Fails while a refused login is recent.
    pub(crate) fn may_log_in(&self) -> Result<(), RpcError> {
        match *self.refused_at.lock() {
            Some(at) if at.elapsed() < LOGIN_PAUSE => Err(self.wrong_password()),
            Some(_) | None => Ok(()),
        }
    }

    /// Notes a refused login.
    pub(crate) fn login_refused(&self) -> RpcError {
        *self.refused_at.lock() = Some(Instant::now());
        self.wrong_password()
    }

    /// A person asks, or a login went well: the next login may be tried at once.
    pub(crate) fn forget_refusal(&self) {
        *self.refused_at.lock() = None;
    }

    fn wrong_password(&self) -> RpcError {
        let who = if self.login().is_some() {
            format!("user \"{}\"", self.user.escape_debug())
        } else {
            "nobody (no user is set, and it asks for one)".to_owned()
        };
        RpcError::WrongPassword {
            url: self.url(),
            who,
        }
    }

    pub(crate) fn unreachable(&self, error: reqwest::Error) -> RpcError {
        RpcError::Unreachable {
            url: self.url(),
            why: causes(error),
        }
    }

    pub(crate) fn forbidden(&self, why: &str) -> RpcError {
        RpcError::Forbidden {
            url: self.url(),
            why: why.to_owned(),
        }
    }

    pub(crate) fn unsupported(&self, what: &'static str, why: &'static str) -> RpcError {
        RpcError::Unsupported {
            url: self.url(),
            what,
            why,
        }
    }

    pub(crate) fn unknown_torrent(&self, info_hash: InfoHash) -> RpcError {
        RpcError::UnknownTorrent {
            url: self.url(),
            info_hash,
        }
    }

    pub(crate) fn protocol(&self, why: String) -> RpcError {
        RpcError::Protocol {
            url: self.url(),
            why,
        }
    }

    /// A status nobody expects here.
    pub(crate) fn odd_status(&self, reply: &Reply) -> RpcError {
        let status = reply.status;
        let why = match reply
            .headers
            .get(LOCATION)
            .filter(|_| status.is_redirection())
        {
            Some(to) => format!(
                "HTTP {status}, a redirect to {}",
                quote(&String::from_utf8_lossy(to.as_bytes()))
            ),
            None => format!(
                "HTTP {status}, {}",
                quote(&String::from_utf8_lossy(&reply.body))
            ),
        };
        self.protocol(why)
    }

    /// Reads JSON; unknown fields are ignored, nesting is bounded by the parser.
    pub(crate) fn json<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, RpcError> {
        serde_json::from_slice(body).map_err(|e| self.protocol(format!("bad JSON, {e}")))
    }

    fn url(&self) -> String {
        self.base.to_string()
    }
}

/// The chain of causes, without the URL, which the message around it names.
fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

/// A stranger's words, made harmless: one line, printable, short.
pub(crate) fn quote(text: &str) -> String {
    format!("\"{}\"", plain(text))
}

/// At most 100 characters with the unprintable ones escaped.
pub(crate) fn plain(text: &str) -> String {
    text.trim()
        .chars()
        .take(MAX_QUOTE)
        .flat_map(char::escape_debug)
        .take(MAX_QUOTE)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RpcKind;

    fn http(url: String) -> Http {
        let config = RpcConfig {
            kind: RpcKind::Transmission,
            url,
            user: "me".to_owned(),
            password: "hunter2".to_owned(),
        };
        Http::with_timeout(&config, Duration::from_millis(50)).expect("client")
    }

    #[tokio::test]
    async fn a_silent_master_is_unreachable() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("bind");
        let http = http(format!(
            "http://{}/",
            listener.local_addr().expect("address")
        ));
        let error = http
            .send(http.client().get(http.base().clone()))
            .await
            .err()
            .expect("timeout");
        assert!(
            matches!(&error, RpcError::Unreachable { why, .. } if why.contains("timed out")),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_refused_login_is_not_repeated_until_a_person_asks() {
        let http = http("http://127.0.0.1:1".to_owned());
        assert_eq!(http.may_log_in(), Ok(()));
        let error = http.login_refused();
        assert_eq!(http.may_log_in(), Err(error));
        http.forget_refusal();
        assert_eq!(http.may_log_in(), Ok(()));
    }

    #[test]
    fn quotes_are_one_short_printable_line() {
        assert_eq!(quote("  a\x1b]0;x\x07\nb "), r#""a\u{1b}]0;x\u{7}\nb""#);
        assert!(quote(&"\u{1b}".repeat(5000)).len() <= MAX_QUOTE + 2);
    }

    #[test]
    fn debug_shows_no_password() {
        assert!(!format!("{:?}", http("http://127.0.0.1:1".to_owned())).contains("hunter2"));
    }
}
