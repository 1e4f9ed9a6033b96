//! The daemon, as seen from here.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use control_api::error::ErrorBody;
use control_api::paths;
use reqwest::header::CONTENT_TYPE;
use reqwest::{RequestBuilder, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::cli::Connection;
use crate::failure::Failure;

/// Longest answer taken, in bytes.
const MAX_ANSWER: usize = 64 << 20;
/// Longest token file read, in bytes.
const MAX_TOKEN: u64 = 1024;

/// A daemon's API.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    api: Url,
    token_file: PathBuf,
}

impl Client {
    pub(crate) fn new(connection: &Connection) -> Result<Self, Failure> {
        let wrong = |why: &str| {
            Failure::usage(
                format!("--api {}", connection.api),
                why,
                "write http://127.0.0.1:8470",
            )
        };
        let api = Url::parse(&connection.api).map_err(|e| wrong(&e.to_string()))?;
        if api.scheme() != "http" || !api.has_host() || !matches!(api.path(), "" | "/") {
            return Err(wrong("is not an http://HOST:PORT"));
        }
        // The token must never pass a proxy, and a redirect could lead it elsewhere.
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(5))
            .timeout(Duration::from_secs(70))
            .build()
            .map_err(|e| Failure::refused("HTTP client", e.to_string(), ""))?;
        let token_file = match &connection.token_file {
            Some(file) => file.clone(),
            None => directories::ProjectDirs::from("", "", "btslave")
                .map(|dirs| dirs.data_dir().join("api.token"))
                .ok_or_else(|| {
                    Failure::usage(
                        "--token-file",
                        "there is no home directory to look in",
                        "name the file",
                    )
                })?,
        };
        Ok(Self {
            http,
            api,
            token_file,
        })
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.ask(self.http.get(self.url(path))).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        self.ask(self.http.post(self.url(path)).json(body)).await
    }

    /// Uploads a .torrent file.
    pub(crate) async fn upload<T: DeserializeOwned>(
        &self,
        query: &impl Serialize,
        file: Vec<u8>,
    ) -> Result<T, Failure> {
        let request = self.http.post(self.url(paths::SWARMS_TORRENT)).query(query);
        self.ask(
            request
                .header(CONTENT_TYPE, "application/x-bittorrent")
                .body(file),
        )
        .await
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.api.clone();
        url.set_path(path);
        url
    }

    async fn ask<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Failure> {
        let token = match read_token(&self.token_file) {
            Ok(token) => token,
            Err(why) => return Err(self.no_token(why).await),
        };
        let mut response = request
            .bearer_auth(token)
            .send()
            .await
            .map_err(|e| self.no_daemon(&e))?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| self.no_daemon(&e))? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(self.not_btslave("its answer is over 64 MiB"));
            }
            body.extend_from_slice(&chunk);
        }
        if status == StatusCode::UNAUTHORIZED || status == StatusCode::TOO_MANY_REQUESTS {
            let hint = "is it the token of this daemon? It is in the daemon's data directory: --token-file DATA_DIR/api.token";
            let what = format!("token {}", self.token_file.display());
            return Err(Failure::refused(what, "the daemon does not take it", hint));
        }
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|e| self.not_btslave(&e.to_string()));
        }
        match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(ErrorBody { error }) => Err(Failure::Refused(error)),
            Err(_) => Err(self.not_btslave(&format!("it answers {status}"))),
        }
    }

    fn not_btslave(&self, why: &str) -> Failure {
        Failure::refused(
            self.api.as_str(),
            why,
            "is that btslave, and of the same version as slavectl?",
        )
    }

    fn no_daemon(&self, error: &reqwest::Error) -> Failure {
        let mut cause: &dyn std::error::Error = error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        let why = if error.is_timeout() {
            "no answer in time".to_owned()
        } else {
            cause.to_string()
        };
        Failure::NoDaemon(control_api::error::Problem::new(
            format!("btslave at {}", self.api),
            why,
            "start it with `btslave run`, or say where it listens with --api URL (its api.listen)",
        ))
    }

    /// The token is missing: is that because no daemon ever ran, or because it keeps its data elsewhere?
    async fn no_token(&self, why: String) -> Failure {
        if let Err(error) = self.http.get(self.url(paths::HEALTHZ)).send().await {
            return self.no_daemon(&error);
        }
        let hint = "a daemon is running; name its token with --token-file DATA_DIR/api.token, or run slavectl as its user";
        Failure::refused(format!("token {}", self.token_file.display()), why, hint)
    }
}

fn read_token(path: &Path) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|e| e.to_string())?;
    let mut text = String::new();
    file.take(MAX_TOKEN)
        .read_to_string(&mut text)
        .map_err(|e| e.to_string())?;
    let token = text.trim();
    let sound = !token.is_empty() && token.chars().all(|c| c.is_ascii_graphic());
    if sound {
        Ok(token.to_owned())
    } else {
        Err("holds no token".to_owned())
    }
}
