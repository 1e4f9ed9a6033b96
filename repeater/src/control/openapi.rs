//! The description of the API, made from the handlers' own annotations.

use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::{aid_routes, friend_routes, rendezvous_routes, routes};

/// Adds the bearer token.
struct BearerToken;

impl Modify for BearerToken {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let mut scheme = Http::new(HttpAuthScheme::Bearer);
        scheme.description = Some("The content of data_dir/api.token.".to_owned());
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

#[derive(OpenApi)]
#[openapi(
    info(title = "BTSlave", description = "Control of a running btslave. Sizes in bytes, rates in bytes per second."),
    paths(
        routes::healthz,
        routes::metrics,
        routes::status,
        routes::swarms,
        routes::add_swarm,
        routes::add_torrent,
        routes::swarm,
        routes::why,
        routes::leave,
        routes::feeds,
        routes::add_feed,
        routes::remove_feed,
        routes::poll_feeds,
        routes::masters,
        routes::add_master,
        routes::remove_master,
        routes::test_master,
        friend_routes::friends,
        friend_routes::add_friend,
        friend_routes::remove_friend,
        friend_routes::own_code,
        friend_routes::own_succession,
        friend_routes::replace_own_key,
        friend_routes::follow_friend,
        friend_routes::ledger,
        friend_routes::verify_ledger,
        friend_routes::export_friends,
        friend_routes::import_friends,
        rendezvous_routes::rendezvous,
        rendezvous_routes::host,
        rendezvous_routes::join,
        rendezvous_routes::leave,
        aid_routes::aid,
        aid_routes::ask_for_help,
        aid_routes::stop_help,
        routes::cache,
        routes::pause,
        routes::resume,
        routes::reload,
    ),
    modifiers(&BearerToken),
    security(("token" = []))
)]
struct Document;

/// The description, as `/api/openapi.json` gives it.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}
