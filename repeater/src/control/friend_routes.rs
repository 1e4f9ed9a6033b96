//! The handlers of friends.

use axum::Json;
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::{get, post};
use control_api::error::ErrorBody;
use control_api::friends::{
    AddFriend, Follow, Friend, FriendName, FriendsExport, Imported, LedgerAccount, LedgerCheck,
    OwnCode, OwnSuccession,
};
use control_api::node::Nothing;
use control_api::paths;

use super::routes::{Answer, Received, Shared, json};

/// Largest export taken, in bytes: some thousands of accounts.
const MAX_EXPORT: usize = 4 << 20;

pub(super) fn router() -> axum::Router<Shared> {
    axum::Router::new()
        .route(paths::FRIENDS, get(friends).post(add_friend))
        .route(paths::FRIENDS_REMOVE, post(remove_friend))
        .route(paths::FRIENDS_CODE, get(own_code))
        .route(
            paths::FRIENDS_KEY,
            get(own_succession).post(replace_own_key),
        )
        .route(paths::FRIENDS_FOLLOW, post(follow_friend))
        .route(paths::FRIENDS_LEDGER, get(ledger))
        .route(paths::FRIENDS_VERIFY, get(verify_ledger))
        .route(paths::FRIENDS_EXPORT, get(export_friends))
        .route(
            paths::FRIENDS_IMPORT,
            post(import_friends).layer(DefaultBodyLimit::max(MAX_EXPORT)),
        )
}

/// All friends, by name.
#[utoipa::path(get, path = "/api/v1/friends", responses((status = 200, body = Vec<Friend>)))]
pub(super) async fn friends(State(shared): State<Shared>) -> Answer<Vec<Friend>> {
    Ok(Json(shared.control.friends().await?))
}

/// Adds a friend by its code.
#[utoipa::path(post, path = "/api/v1/friends", request_body = AddFriend,
    responses((status = 200, body = Friend), (status = "4XX", body = ErrorBody)))]
pub(super) async fn add_friend(State(shared): State<Shared>, body: Received) -> Answer<Friend> {
    let add: AddFriend = json(body)?;
    Ok(Json(shared.control.add_friend(add).await?))
}

/// Removes a friend; what is signed is kept.
#[utoipa::path(post, path = "/api/v1/friends/remove", request_body = FriendName,
    responses((status = 200, body = Nothing), (status = "4XX", body = ErrorBody)))]
pub(super) async fn remove_friend(State(shared): State<Shared>, body: Received) -> Answer<Nothing> {
    let FriendName { name } = json(body)?;
    shared.control.remove_friend(name).await?;
    Ok(Json(Nothing {}))
}

/// This slave's own friend code.
#[utoipa::path(get, path = "/api/v1/friends/code", responses((status = 200, body = OwnCode)))]
pub(super) async fn own_code(State(shared): State<Shared>) -> Answer<OwnCode> {
    Ok(Json(shared.control.own_code().await?))
}

/// The statement about this slave's newest key.
#[utoipa::path(get, path = "/api/v1/friends/key",
    responses((status = 200, body = OwnSuccession), (status = "4XX", body = ErrorBody)))]
pub(super) async fn own_succession(State(shared): State<Shared>) -> Answer<OwnSuccession> {
    Ok(Json(shared.control.own_succession().await?))
}

/// Makes a new key for this slave, which counts from its next start on.
#[utoipa::path(post, path = "/api/v1/friends/key", request_body = Nothing,
    responses((status = 200, body = OwnSuccession), (status = "4XX", body = ErrorBody)))]
pub(super) async fn replace_own_key(
    State(shared): State<Shared>,
    body: Received,
) -> Answer<OwnSuccession> {
    let Nothing {} = json(body)?;
    Ok(Json(shared.control.replace_own_key().await?))
}

/// Takes a friend's new key for its old one, by its statement.
#[utoipa::path(post, path = "/api/v1/friends/follow", request_body = Follow,
    responses((status = 200, body = Friend), (status = "4XX", body = ErrorBody)))]
pub(super) async fn follow_friend(State(shared): State<Shared>, body: Received) -> Answer<Friend> {
    let Follow { statement } = json(body)?;
    Ok(Json(shared.control.follow_friend(statement).await?))
}

/// What is signed, of former friends too.
#[utoipa::path(get, path = "/api/v1/friends/ledger", responses((status = 200, body = Vec<LedgerAccount>)))]
pub(super) async fn ledger(State(shared): State<Shared>) -> Answer<Vec<LedgerAccount>> {
    Ok(Json(shared.control.ledger().await?))
}

/// Checks every signature on record again.
#[utoipa::path(get, path = "/api/v1/friends/verify", responses((status = 200, body = LedgerCheck)))]
pub(super) async fn verify_ledger(State(shared): State<Shared>) -> Answer<LedgerCheck> {
    Ok(Json(shared.control.verify_ledger().await?))
}

/// Friends and ledger, to be taken elsewhere. The secret key is not among it.
#[utoipa::path(get, path = "/api/v1/friends/export", responses((status = 200, body = FriendsExport)))]
pub(super) async fn export_friends(State(shared): State<Shared>) -> Answer<FriendsExport> {
    Ok(Json(shared.control.export_friends().await?))
}

/// Takes an export in, when all its signatures are sound. No total falls.
#[utoipa::path(post, path = "/api/v1/friends/import", request_body = FriendsExport,
    responses((status = 200, body = Imported), (status = "4XX", body = ErrorBody)))]
pub(super) async fn import_friends(
    State(shared): State<Shared>,
    body: Received,
) -> Answer<Imported> {
    let export: FriendsExport = json(body)?;
    Ok(Json(shared.control.import_friends(export).await?))
}
