//! Sessions and tokens: login, refresh, introspection, revocation, OAuth endpoints, published keys.

mod introspection_cache;
mod oauth;
mod refresh;
mod revocation;
mod sessions;
mod stolen_key_ring;
mod tokens;
mod user_changes;
mod well_known;
mod wrong_clock;

use tonic::Status;
use watchword::api::pb;

use crate::support::{App, StoreKind, reason, with_bearer};

async fn refresh(app: &App, token: &str) -> Result<pb::Tokens, String> {
    let request = pb::RefreshTokenRequest { refresh_token: token.into() };
    let answer = app.client().await.refresh_token(request).await;
    answer.map(|answer| answer.into_inner().tokens.unwrap()).map_err(|status| reason(&status))
}

async fn user_of(app: &App, token: &str) -> Result<String, String> {
    let answer = app.client().await.get_user(with_bearer(token, pb::GetUserRequest {})).await;
    answer.map(|answer| answer.into_inner().user.unwrap().username).map_err(|status| reason(&status))
}

async fn change_password(app: &App, token: &str, current: &str, new: &str) -> Result<pb::Tokens, Status> {
    let request = pb::ChangePasswordRequest { current_password: current.into(), new_password: new.into() };
    let answer = app.client().await.change_password(with_bearer(token, request)).await;
    answer.map(|answer| answer.into_inner().tokens.unwrap())
}

async fn with_ada(kind: StoreKind) -> (App, pb::Tokens) {
    let app = App::with(kind).with_admin().start().await;
    app.registered("ada").await;
    let tokens = app.authenticate("ada").await;
    (app, tokens)
}
