//! Which announce URLs we are willing to ask.

use url::{Host, Url};

use crate::address::Scope;

/// Longest URL, in bytes.
pub const MAX_URL: usize = 2048;

/// Why a tracker is not asked. The text is for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlRefusal {
    /// Over [`MAX_URL`].
    #[error("the tracker's URL is longer than 2048 bytes")]
    TooLong,
    /// Not a URL, or a host name that is none (row A13).
    #[error("not a URL: {0}")]
    NotAUrl(url::ParseError),
    /// UDP trackers (BEP 15).
    #[error("UDP trackers are not spoken yet; add an http(s) tracker or a peer address")]
    Udp,
    /// Another scheme than http and https (row C1).
    #[error("trackers are asked over http or https only, not {0}")]
    Scheme(String),
    /// The URL would let a torrent forge our announce (row C1).
    #[error("the tracker's URL already holds an info_hash")]
    InfoHashInQuery,
    /// A loopback host with another path than `/announce` (row C1).
    #[error("a tracker on this machine must have the path /announce")]
    LoopbackPath,
}

/// Checks the text of an announce URL and parses it. What the host name resolves to is the dialler's to check.
///
/// # Errors
/// See [`UrlRefusal`].
pub fn check_announce_url(text: &str) -> Result<Url, UrlRefusal> {
    if text.len() > MAX_URL {
        return Err(UrlRefusal::TooLong);
    }
    let url = Url::parse(text).map_err(UrlRefusal::NotAUrl)?;
    match url.scheme() {
        "http" | "https" => {}
        "udp" => return Err(UrlRefusal::Udp),
        other => return Err(UrlRefusal::Scheme(other.to_owned())),
    }
    let loopback = match url.host() {
        Some(Host::Domain(name)) => is_localhost(name),
        Some(Host::Ipv4(ip)) => Scope::of(ip.into()) == Some(Scope::Loopback),
        Some(Host::Ipv6(ip)) => Scope::of(ip.into()) == Some(Scope::Loopback),
        None => return Err(UrlRefusal::NotAUrl(url::ParseError::EmptyHost)),
    };
    if url
        .query_pairs()
        .any(|(key, _)| key.trim().eq_ignore_ascii_case("info_hash"))
    {
        return Err(UrlRefusal::InfoHashInQuery);
    }
    if loopback && !url.path().ends_with("/announce") {
        return Err(UrlRefusal::LoopbackPath);
    }
    Ok(url)
}

fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c1_only_plain_trackers_are_asked() {
        for good in [
            "http://tracker.example/announce",
            "https://tracker.example:8080/abc/announce.php?passkey=1",
            "http://127.0.0.1:6969/announce",
            "http://localhost/x/announce?key=a",
            "http://[::1]:1/announce",
        ] {
            assert!(check_announce_url(good).is_ok(), "{good}");
        }
        assert_eq!(
            check_announce_url("udp://tracker.example:80"),
            Err(UrlRefusal::Udp)
        );
        for scheme in [
            "file:///etc/passwd",
            "gopher://x/",
            "ftp://x/",
            "wss://x/announce",
            "javascript:1",
        ] {
            assert!(
                matches!(check_announce_url(scheme), Err(UrlRefusal::Scheme(_))),
                "{scheme}"
            );
        }
        for forged in [
            "http://x/announce?info_hash=a",
            "http://x/?a=1&INFO_HASH=a",
            "http://x/?info%5fhash=a",
        ] {
            assert_eq!(
                check_announce_url(forged),
                Err(UrlRefusal::InfoHashInQuery),
                "{forged}"
            );
        }
        for inner in [
            "http://127.0.0.1:8470/api/v1/pause",
            "http://LOCALHOST./",
            "http://2130706433/",
            "http://[::1]/x",
        ] {
            assert_eq!(
                check_announce_url(inner),
                Err(UrlRefusal::LoopbackPath),
                "{inner}"
            );
        }
        assert_eq!(
            check_announce_url(&format!("http://x/{}", "a".repeat(2048))),
            Err(UrlRefusal::TooLong)
        );
        assert!(matches!(
            check_announce_url("tracker.example/announce"),
            Err(UrlRefusal::NotAUrl(_))
        ));
    }

    #[test]
    fn a13_a_host_that_only_looks_like_one_is_refused() {
        assert!(matches!(
            check_announce_url("http://xn--tracker-.com/announce"),
            Err(UrlRefusal::NotAUrl(_))
        ));
        assert!(matches!(
            check_announce_url("http://xn--example-.org/announce"),
            Err(UrlRefusal::NotAUrl(_))
        ));
    }
}
