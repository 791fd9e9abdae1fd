//! Sessions and tokens: login, refresh, introspection, revocation, OAuth endpoints, published keys.

mod introspection_cache;
mod oauth;
mod refresh;
mod refresh_repeats;
mod refresh_tokens;
mod revocation;
mod session_limits;
mod sessions;
mod stolen_key_ring;
mod tokens;
mod user_changes;
mod well_known;
mod wrong_clock;

use tonic::{Response, Status};
use watchword::api::pb;

use crate::support::{App, StoreKind, forwarded_for, reason, with_bearer};

async fn refresh(app: &App, token: &str) -> Result<pb::Tokens, String> {
    let request = pb::RefreshTokenRequest { refresh_token: token.into(), ..Default::default() };
    refreshed(app.client().await.refresh_token(request).await)
}

/// A refresh with a request id.
async fn refresh_again(app: &App, token: &str, request_id: &str) -> Result<pb::Tokens, String> {
    let request = pb::RefreshTokenRequest { refresh_token: token.into(), request_id: request_id.into() };
    refreshed(app.client().await.refresh_token(request).await)
}

/// A refresh with a request id, empty for none, that a proxy forwards for a client at another address.
async fn refresh_from(app: &App, address: &str, token: &str, request_id: &str) -> Result<pb::Tokens, String> {
    let request = pb::RefreshTokenRequest { refresh_token: token.into(), request_id: request_id.into() };
    refreshed(app.client().await.refresh_token(forwarded_for(address, request)).await)
}

fn refreshed(answer: Result<Response<pb::RefreshTokenResponse>, Status>) -> Result<pb::Tokens, String> {
    answer.map(|answer| answer.into_inner().tokens.unwrap()).map_err(|status| reason(&status))
}

async fn user_of(app: &App, token: &str) -> Result<String, String> {
    let answer = app.client().await.get_user(with_bearer(token, pb::GetUserRequest {})).await;
    answer.map(|answer| answer.into_inner().user.unwrap().username).map_err(|status| reason(&status))
}

async fn change_password(app: &App, token: &str, current: &str, new: &str) -> Result<pb::Tokens, Status> {
    let request =
        pb::ChangePasswordRequest { current_password: current.into(), new_password: new.into(), ..Default::default() };
    let answer = app.client().await.change_password(with_bearer(token, request)).await;
    answer.map(|answer| answer.into_inner().tokens.unwrap())
}

async fn with_ada(kind: StoreKind) -> (App, pb::Tokens) {
    let app = App::with(kind).with_admin().start().await;
    app.registered("ada").await;
    let tokens = app.authenticate("ada").await;
    (app, tokens)
}
