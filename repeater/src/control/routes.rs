//! One handler per path: read the request, ask [`Control`], word the answer.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bt_wire::ids::InfoHash;
use bytes::Bytes;
use control_api::error::{ErrorBody, Problem};
use control_api::feeds::{AddFeed, Feed, FeedUrl, FeedsChanged, PollFeeds};
use control_api::masters::{AddMaster, Master, MasterName, MasterTest};
use control_api::node::{CacheReport, Nothing, Reloaded};
use control_api::paths;
use control_api::status::Status;
use control_api::swarms::{AddSwarm, AddTorrentQuery, Added, SwarmDetail, SwarmRow, Why};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::de::DeserializeOwned;

use super::gate::refused;
use super::{
    AddOptions, Control, Refusal, RefusalKind, aid_routes, document, friend_routes,
    rendezvous_routes,
};
use crate::store::MAX_TORRENT_FILE;

/// Largest JSON body, in bytes.
pub(super) const MAX_JSON: u64 = 64 << 10;
/// Most peers named with one torrent.
const MAX_PEERS: usize = 200;

/// What handlers share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) control: Arc<dyn Control>,
    metrics: PrometheusHandle,
}

pub(super) type Answer<T> = Result<Json<T>, No>;
pub(super) type Received = Result<Bytes, BytesRejection>;

pub(super) fn router(control: Arc<dyn Control>, metrics: PrometheusHandle) -> Router {
    let limit = |bytes: u64| DefaultBodyLimit::max(usize::try_from(bytes).unwrap_or(usize::MAX));
    Router::new()
        .route(paths::HEALTHZ, get(healthz))
        .route(paths::METRICS, get(self::metrics))
        .route(paths::OPENAPI, get(async || Json(document())))
        .route(paths::STATUS, get(status))
        .route(paths::SWARMS, get(swarms).post(add_swarm))
        .route(
            paths::SWARMS_TORRENT,
            post(add_torrent).layer(limit(MAX_TORRENT_FILE)),
        )
        .route(paths::SWARM, get(swarm))
        .route(paths::SWARM_WHY, get(why))
        .route(paths::SWARM_LEAVE, post(leave))
        .route(paths::FEEDS, get(feeds).post(add_feed))
        .route(paths::FEEDS_REMOVE, post(remove_feed))
        .route(paths::FEEDS_POLL, post(poll_feeds))
        .route(paths::MASTERS, get(masters).post(add_master))
        .route(paths::MASTERS_REMOVE, post(remove_master))
        .route(paths::MASTERS_TEST, post(test_master))
        .merge(friend_routes::router())
        .merge(rendezvous_routes::router())
        .merge(aid_routes::router())
        .route(paths::CACHE, get(cache))
        .route(paths::PAUSE, post(pause))
        .route(paths::RESUME, post(resume))
        .route(paths::RELOAD, post(reload))
        .method_not_allowed_fallback(async || {
            let problem = Problem::new(
                "request",
                "has the wrong method for this path",
                "see /api/openapi.json",
            );
            (
                StatusCode::METHOD_NOT_ALLOWED,
                Json(ErrorBody { error: problem }),
            )
        })
        .fallback(async || {
            Refusal::not_found("request", "there is no such path", "see /api/openapi.json")
        })
        .layer(limit(MAX_JSON))
        .with_state(Shared { control, metrics })
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match self.kind {
            RefusalKind::NotFound => StatusCode::NOT_FOUND,
            RefusalKind::Invalid => StatusCode::BAD_REQUEST,
            RefusalKind::Conflict => StatusCode::CONFLICT,
            RefusalKind::Failed => StatusCode::BAD_GATEWAY,
        };
        (
            status,
            Json(ErrorBody {
                error: self.problem,
            }),
        )
            .into_response()
    }
}

/// No answer but this.
pub(super) enum No {
    /// The body is over its limit.
    TooLarge,
    /// Anything else.
    Refused(Refusal),
}

impl IntoResponse for No {
    fn into_response(self) -> Response {
        match self {
            Self::Refused(refusal) => refusal.into_response(),
            Self::TooLarge => {
                refused("body_size");
                let problem = Problem::new(
                    "request",
                    "has too large a body",
                    "at most 64 KiB of JSON, 4 MiB of an export of friends, or 32 MiB of .torrent",
                );
                (
                    StatusCode::PAYLOAD_TOO_LARGE,
                    Json(ErrorBody { error: problem }),
                )
                    .into_response()
            }
        }
    }
}

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

fn whole(body: Received) -> Result<Bytes, No> {
    body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => No::TooLarge,
        _ => Refusal::invalid("request", "its body did not arrive whole", "send it again").into(),
    })
}

pub(super) fn json<T: DeserializeOwned>(body: Received) -> Result<T, No> {
    serde_json::from_slice(&whole(body)?).map_err(|error| {
        Refusal::invalid("request", error.to_string(), "see /api/openapi.json").into()
    })
}

pub(super) fn info_hash(text: &str) -> Result<InfoHash, Refusal> {
    text.parse().map_err(|_| {
        Refusal::not_found(
            format!("swarm {}", text.escape_debug()),
            "that is no v1 infohash",
            "write 40 hex digits; `slavectl swarms` lists them",
        )
    })
}

fn add_options<'a>(peers: impl Iterator<Item = &'a str>, pin: bool) -> Result<AddOptions, Refusal> {
    let mut options = AddOptions {
        peers: Vec::new(),
        pin,
    };
    for peer in peers {
        let addr = peer
            .parse::<SocketAddr>()
            .ok()
            .filter(|addr| addr.port() != 0)
            .ok_or_else(|| {
                Refusal::invalid(
                    format!("peer {}", peer.escape_debug()),
                    "is not ADDRESS:PORT",
                    "write 192.0.2.1:6881 or [2001:db8::1]:6881",
                )
            })?;
        if options.peers.len() == MAX_PEERS {
            return Err(Refusal::invalid(
                "peers",
                format!("are over {MAX_PEERS}"),
                "name fewer; trackers and PEX find more",
            ));
        }
        options.peers.push(addr);
    }
    Ok(options)
}

/// Whether the daemon serves.
#[utoipa::path(get, path = "/healthz", responses((status = 200, description = "`ok`", content_type = "text/plain")), security(()))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Counters and histograms for Prometheus.
#[utoipa::path(get, path = "/metrics", responses((status = 200, description = "Prometheus text", content_type = "text/plain")))]
pub(super) async fn metrics(State(shared): State<Shared>) -> Response {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], shared.metrics.render()).into_response()
}

/// The node at a glance.
#[utoipa::path(get, path = "/api/v1/status", responses((status = 200, body = Status)))]
pub(super) async fn status(State(shared): State<Shared>) -> Answer<Status> {
    Ok(Json(shared.control.status().await?))
}

/// Swarms joined or known, the neediest first.
#[utoipa::path(get, path = "/api/v1/swarms", responses((status = 200, body = Vec<SwarmRow>)))]
pub(super) async fn swarms(State(shared): State<Shared>) -> Answer<Vec<SwarmRow>> {
    Ok(Json(shared.control.swarms().await?))
}

/// Adds a magnet link, or the .torrent file behind a URL. Adding again adds peers and the pin.
#[utoipa::path(post, path = "/api/v1/swarms", request_body = AddSwarm,
    responses((status = 200, body = Added), (status = "4XX", body = ErrorBody)))]
pub(super) async fn add_swarm(State(shared): State<Shared>, body: Received) -> Answer<Added> {
    let add: AddSwarm = json(body)?;
    let options = add_options(add.peers.iter().map(String::as_str), add.pin)?;
    Ok(Json(shared.control.add_source(add.source, options).await?))
}

/// Adds the torrent whose .torrent file is the body. Adding again adds peers and the pin.
#[utoipa::path(post, path = "/api/v1/swarms/torrent", params(AddTorrentQuery),
    request_body(content = Vec<u8>, content_type = "application/x-bittorrent"),
    responses((status = 200, body = Added), (status = "4XX", body = ErrorBody)))]
pub(super) async fn add_torrent(
    State(shared): State<Shared>,
    query: Result<Query<AddTorrentQuery>, QueryRejection>,
    body: Received,
) -> Answer<Added> {
    let Query(AddTorrentQuery { peers, pin }) = query
        .map_err(|error| Refusal::invalid("request", error.body_text(), "see /api/openapi.json"))?;
    let peers = peers.split(',').filter(|peer| !peer.is_empty());
    let options = add_options(peers, pin)?;
    let file = whole(body)?;
    Ok(Json(shared.control.add_torrent(file, options).await?))
}

/// One swarm.
#[utoipa::path(get, path = "/api/v1/swarms/{hash}", params(("hash" = String, Path, description = "v1 infohash, 40 hex digits")),
    responses((status = 200, body = SwarmDetail), (status = 404, body = ErrorBody)))]
pub(super) async fn swarm(
    State(shared): State<Shared>,
    Path(hash): Path<String>,
) -> Answer<SwarmDetail> {
    Ok(Json(shared.control.swarm(info_hash(&hash)?).await?))
}

/// The need score of one swarm, term by term, and who named it.
#[utoipa::path(get, path = "/api/v1/swarms/{hash}/why", params(("hash" = String, Path, description = "v1 infohash, 40 hex digits")),
    responses((status = 200, body = Why), (status = 404, body = ErrorBody)))]
pub(super) async fn why(State(shared): State<Shared>, Path(hash): Path<String>) -> Answer<Why> {
    Ok(Json(shared.control.why(info_hash(&hash)?).await?))
}

/// Leaves and forgets a swarm.
#[utoipa::path(post, path = "/api/v1/swarms/{hash}/leave", params(("hash" = String, Path, description = "v1 infohash, 40 hex digits")),
    request_body = Nothing, responses((status = 200, body = Nothing), (status = 404, body = ErrorBody)))]
pub(super) async fn leave(
    State(shared): State<Shared>,
    Path(hash): Path<String>,
) -> Answer<Nothing> {
    shared.control.leave(info_hash(&hash)?).await?;
    Ok(Json(Nothing {}))
}

/// All feeds.
#[utoipa::path(get, path = "/api/v1/feeds", responses((status = 200, body = Vec<Feed>)))]
pub(super) async fn feeds(State(shared): State<Shared>) -> Answer<Vec<Feed>> {
    Ok(Json(shared.control.feeds().await?))
}

/// Adds a feed.
#[utoipa::path(post, path = "/api/v1/feeds", request_body = AddFeed,
    responses((status = 200, body = FeedsChanged), (status = "4XX", body = ErrorBody)))]
pub(super) async fn add_feed(State(shared): State<Shared>, body: Received) -> Answer<FeedsChanged> {
    let feed: AddFeed = json(body)?;
    Ok(Json(shared.control.add_feed(feed).await?))
}

/// Removes a feed that the configuration file does not own.
#[utoipa::path(post, path = "/api/v1/feeds/remove", request_body = FeedUrl,
    responses((status = 200, body = FeedsChanged), (status = "4XX", body = ErrorBody)))]
pub(super) async fn remove_feed(
    State(shared): State<Shared>,
    body: Received,
) -> Answer<FeedsChanged> {
    let FeedUrl { url } = json(body)?;
    Ok(Json(shared.control.remove_feed(url).await?))
}

/// Polls one feed, or all, now.
#[utoipa::path(post, path = "/api/v1/feeds/poll", request_body = PollFeeds,
    responses((status = 200, body = FeedsChanged), (status = "4XX", body = ErrorBody)))]
pub(super) async fn poll_feeds(
    State(shared): State<Shared>,
    body: Received,
) -> Answer<FeedsChanged> {
    let PollFeeds { url } = json(body)?;
    Ok(Json(shared.control.poll_feeds(url).await?))
}

/// All masters.
#[utoipa::path(get, path = "/api/v1/masters", responses((status = 200, body = Vec<Master>)))]
pub(super) async fn masters(State(shared): State<Shared>) -> Answer<Vec<Master>> {
    Ok(Json(shared.control.masters().await?))
}

/// Adds a master, or changes one that the configuration file does not own.
#[utoipa::path(post, path = "/api/v1/masters", request_body = AddMaster,
    responses((status = 200, body = Master), (status = "4XX", body = ErrorBody)))]
pub(super) async fn add_master(State(shared): State<Shared>, body: Received) -> Answer<Master> {
    let master: AddMaster = json(body)?;
    Ok(Json(shared.control.add_master(master).await?))
}

/// Removes a master that the configuration file does not own.
#[utoipa::path(post, path = "/api/v1/masters/remove", request_body = MasterName,
    responses((status = 200, body = Nothing), (status = "4XX", body = ErrorBody)))]
pub(super) async fn remove_master(State(shared): State<Shared>, body: Received) -> Answer<Nothing> {
    let MasterName { name } = json(body)?;
    shared.control.remove_master(name).await?;
    Ok(Json(Nothing {}))
}

/// Tries a master: name, port, RPC.
#[utoipa::path(post, path = "/api/v1/masters/test", request_body = MasterName,
    responses((status = 200, body = MasterTest), (status = "4XX", body = ErrorBody)))]
pub(super) async fn test_master(
    State(shared): State<Shared>,
    body: Received,
) -> Answer<MasterTest> {
    let MasterName { name } = json(body)?;
    Ok(Json(shared.control.test_master(name).await?))
}

/// What the cache holds, by swarm.
#[utoipa::path(get, path = "/api/v1/cache", responses((status = 200, body = CacheReport)))]
pub(super) async fn cache(State(shared): State<Shared>) -> Answer<CacheReport> {
    Ok(Json(shared.control.cache().await?))
}

/// Stops all transfers; survives a restart.
#[utoipa::path(post, path = "/api/v1/pause", request_body = Nothing, responses((status = 200, body = Nothing)))]
pub(super) async fn pause(State(shared): State<Shared>) -> Answer<Nothing> {
    shared.control.pause(true).await?;
    Ok(Json(Nothing {}))
}

/// Goes on after a pause.
#[utoipa::path(post, path = "/api/v1/resume", request_body = Nothing, responses((status = 200, body = Nothing)))]
pub(super) async fn resume(State(shared): State<Shared>) -> Answer<Nothing> {
    shared.control.pause(false).await?;
    Ok(Json(Nothing {}))
}

/// Reads the configuration again: applies it at once, or keeps the old one and says why.
#[utoipa::path(post, path = "/api/v1/reload", request_body = Nothing,
    responses((status = 200, body = Reloaded), (status = 409, body = ErrorBody)))]
pub(super) async fn reload(State(shared): State<Shared>) -> Answer<Reloaded> {
    Ok(Json(shared.control.reload().await?))
}
