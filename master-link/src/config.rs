//! What the operator writes about a master's RPC.

use std::fmt;
use std::str::FromStr;

use url::Url;

/// The RPC interfaces we speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RpcKind {
    /// Transmission's `/transmission/rpc`.
    Transmission,
    /// qBittorrent's Web API, `/api/v2/`.
    QBittorrent,
}

/// How to reach a master's RPC. Its `Debug` shows no password.
#[derive(Clone, PartialEq, Eq)]
pub struct RpcConfig {
    /// Which client it is.
    pub kind: RpcKind,
    /// `http://` or `https://`, without a name or password in it. For Transmission the path may be left out
    /// (`/transmission/rpc` is meant), for qBittorrent it is the address of its web page.
    pub url: String,
    /// Empty, together with `password`: no login.
    pub user: String,
    /// Never logged.
    pub password: String,
}

/// What is wrong with an [`RpcConfig`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No such kind.
    #[error(
        "a master's rpc kind \"{kind}\" is not known; supported are \"transmission\" and \"qbittorrent\""
    )]
    UnknownKind {
        /// What was written.
        kind: String,
    },
    /// The URL cannot be used.
    #[error("the rpc url of a master cannot be used: {why}; write it like \"{example}\"")]
    BadUrl {
        /// What is wrong with it.
        why: String,
        /// A URL of this kind of master.
        example: &'static str,
    },
    /// The URL holds a name or password, which would end up in logs.
    #[error(
        "the rpc url of a master holds a user name or password, and urls are logged; put them in \"user\" and \"password_file\""
    )]
    CredentialsInUrl,
    /// No HTTP client could be made, which mostly means: no TLS root certificates on this system.
    #[error(
        "no HTTP client could be made: {why}; install the system's CA certificates (package ca-certificates)"
    )]
    NoClient {
        /// The cause.
        why: String,
    },
}

impl RpcKind {
    pub(crate) fn example(self) -> &'static str {
        match self {
            Self::Transmission => "http://127.0.0.1:9091/transmission/rpc",
            Self::QBittorrent => "http://127.0.0.1:8080",
        }
    }
}

impl FromStr for RpcKind {
    type Err = ConfigError;

    /// `transmission` or `qbittorrent`, in either case.
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        match text.to_ascii_lowercase().as_str() {
            "transmission" => Ok(Self::Transmission),
            "qbittorrent" => Ok(Self::QBittorrent),
            _ => Err(ConfigError::UnknownKind {
                kind: text.escape_debug().to_string(),
            }),
        }
    }
}

impl fmt::Display for RpcKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Transmission => "transmission",
            Self::QBittorrent => "qbittorrent",
        })
    }
}

impl RpcConfig {
    /// The URL requests start from: for Transmission the RPC itself, for qBittorrent the folder that holds `api/v2/`.
    pub(crate) fn base_url(&self) -> Result<Url, ConfigError> {
        let bad = |why: String| ConfigError::BadUrl {
            why,
            example: self.kind.example(),
        };
        let mut url = Url::parse(&self.url).map_err(|e| bad(e.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad("it must begin with http:// or https://".to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(ConfigError::CredentialsInUrl);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(bad("it must have no ? or # part".to_owned()));
        }
        match self.kind {
            RpcKind::Transmission if url.path() == "/" => url.set_path("/transmission/rpc"),
            RpcKind::QBittorrent if !url.path().ends_with('/') => {
                url.set_path(&format!("{}/", url.path()))
            }
            RpcKind::Transmission | RpcKind::QBittorrent => {}
        }
        Ok(url)
    }
}

impl fmt::Debug for RpcConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcConfig")
            .field("kind", &self.kind)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(kind: RpcKind, url: &str) -> Result<String, ConfigError> {
        let config = RpcConfig {
            kind,
            url: url.to_owned(),
            user: String::new(),
            password: String::new(),
        };
        config.base_url().map(String::from)
    }

    #[test]
    fn an_unknown_kind_names_those_there_are() {
        assert_eq!("Transmission".parse(), Ok(RpcKind::Transmission));
        assert_eq!(
            RpcKind::QBittorrent.to_string().parse(),
            Ok(RpcKind::QBittorrent)
        );
        let error = "deluge"
            .parse::<RpcKind>()
            .expect_err("not supported")
            .to_string();
        for word in ["deluge", "transmission", "qbittorrent"] {
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn urls_are_completed() {
        use RpcKind::{QBittorrent, Transmission};
        assert_eq!(
            base(Transmission, "http://h:9091"),
            Ok("http://h:9091/transmission/rpc".to_owned())
        );
        assert_eq!(
            base(Transmission, "https://h/my/rpc"),
            Ok("https://h/my/rpc".to_owned())
        );
        assert_eq!(
            base(QBittorrent, "http://[::1]:8080"),
            Ok("http://[::1]:8080/".to_owned())
        );
        assert_eq!(
            base(QBittorrent, "https://h/qbt"),
            Ok("https://h/qbt/".to_owned())
        );
    }

    #[test]
    fn bad_urls_are_refused_and_passwords_not_repeated() {
        for bad in ["", "h:9091", "ftp://h/", "http://", "http://h/?a=b"] {
            assert!(
                matches!(
                    base(RpcKind::Transmission, bad),
                    Err(ConfigError::BadUrl { .. })
                ),
                "{bad}"
            );
        }
        let error = base(RpcKind::QBittorrent, "http://me:hunter2@h/").expect_err("refused");
        assert_eq!(error, ConfigError::CredentialsInUrl);
        assert!(!error.to_string().contains("hunter2"));
    }

    #[test]
    fn debug_shows_no_password() {
        let config = RpcConfig {
            kind: RpcKind::QBittorrent,
            url: "http://me:hunter2@h/".to_owned(),
            user: "me".to_owned(),
            password: "hunter2".to_owned(),
        };
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
