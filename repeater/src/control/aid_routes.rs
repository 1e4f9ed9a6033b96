//! The handlers of help between friends.

use axum::Json;
use axum::extract::State;
use axum::routing::{get, post};
use bt_wire::ids::InfoHash;
use control_api::aid::{Aid, AskForHelp, HelpAsked, StopHelp};
use control_api::error::ErrorBody;
use control_api::node::Nothing;
use control_api::paths;

use super::routes::{Answer, Received, Shared, info_hash, json};
use super::{HelpWith, Refusal};

pub(super) fn router() -> axum::Router<Shared> {
    axum::Router::new()
        .route(paths::AID, get(aid))
        .route(paths::AID_ASK, post(ask_for_help))
        .route(paths::AID_STOP, post(stop_help))
}

/// Help asked of friends, help given to them, and what is wanted.
#[utoipa::path(get, path = "/api/v1/aid", responses((status = 200, body = Aid)))]
pub(super) async fn aid(State(shared): State<Shared>) -> Answer<Aid> {
    Ok(Json(shared.control.aid().await?))
}

/// Asks friends for help now.
#[utoipa::path(post, path = "/api/v1/aid/ask", request_body = AskForHelp,
    responses((status = 200, body = HelpAsked), (status = "4XX", body = ErrorBody)))]
pub(super) async fn ask_for_help(
    State(shared): State<Shared>,
    body: Received,
) -> Answer<HelpAsked> {
    let ask: AskForHelp = json(body)?;
    let with = match (ask.info_hash, ask.master) {
        (Some(text), None) => HelpWith::Torrent(info_hash(&text)?),
        (None, Some(master)) => HelpWith::Master(master),
        (None, None) | (Some(_), Some(_)) => {
            let why = "has to name a torrent or a master, and not both";
            return Err(Refusal::invalid("ask", why, "see /api/openapi.json").into());
        }
    };
    Ok(Json(shared.control.ask_for_help(with, ask.bytes).await?))
}

/// Ends help with a torrent in both directions; none begins until it is asked for.
#[utoipa::path(post, path = "/api/v1/aid/stop", request_body = StopHelp,
    responses((status = 200, body = Nothing), (status = "4XX", body = ErrorBody)))]
pub(super) async fn stop_help(State(shared): State<Shared>, body: Received) -> Answer<Nothing> {
    let StopHelp { info_hash: text } = json(body)?;
    let hash: InfoHash = info_hash(&text)?;
    shared.control.stop_help(hash).await?;
    Ok(Json(Nothing {}))
}
