//! The handlers of rendezvous.

use axum::Json;
use axum::extract::State;
use axum::routing::{get, post};
use control_api::error::ErrorBody;
use control_api::paths;
use control_api::rendezvous::{
    HostRendezvous, Hosted, JoinRendezvous, JoinedRendezvous, LeaveRendezvous, LeftRendezvous,
    Rendezvous,
};

use super::routes::{Answer, Received, Shared, json};

pub(super) fn router() -> axum::Router<Shared> {
    axum::Router::new()
        .route(paths::RENDEZVOUS, get(rendezvous))
        .route(paths::RENDEZVOUS_HOST, post(host))
        .route(paths::RENDEZVOUS_JOIN, post(join))
        .route(paths::RENDEZVOUS_LEAVE, post(leave))
}

/// All rendezvous, by name.
#[utoipa::path(get, path = "/api/v1/rendezvous", responses((status = 200, body = Vec<Rendezvous>)))]
pub(super) async fn rendezvous(State(shared): State<Shared>) -> Answer<Vec<Rendezvous>> {
    Ok(Json(shared.control.rendezvous().await?))
}

/// Makes a rendezvous, and hosts it.
#[utoipa::path(post, path = "/api/v1/rendezvous/host", request_body = HostRendezvous,
    responses((status = 200, body = Hosted), (status = "4XX", body = ErrorBody)))]
pub(super) async fn host(State(shared): State<Shared>, body: Received) -> Answer<Hosted> {
    let host: HostRendezvous = json(body)?;
    Ok(Json(shared.control.host_rendezvous(host).await?))
}

/// Joins a rendezvous; again = adds peers.
#[utoipa::path(post, path = "/api/v1/rendezvous/join", request_body = JoinRendezvous,
    responses((status = 200, body = JoinedRendezvous), (status = "4XX", body = ErrorBody)))]
pub(super) async fn join(State(shared): State<Shared>, body: Received) -> Answer<JoinedRendezvous> {
    let join: JoinRendezvous = json(body)?;
    Ok(Json(shared.control.join_rendezvous(join).await?))
}

/// Leaves a rendezvous, and hosts it no longer.
#[utoipa::path(post, path = "/api/v1/rendezvous/leave", request_body = LeaveRendezvous,
    responses((status = 200, body = LeftRendezvous), (status = "4XX", body = ErrorBody)))]
pub(super) async fn leave(State(shared): State<Shared>, body: Received) -> Answer<LeftRendezvous> {
    let leave: LeaveRendezvous = json(body)?;
    Ok(Json(shared.control.leave_rendezvous(leave).await?))
}
