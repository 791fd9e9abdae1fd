//! The tokens of a login: their claims, the one valid form of the authorization header, and invalid tokens.

use serde_json::json;
use tempfile::TempDir;
use tonic::{Request, metadata::MetadataValue};
use watchword::api::pb::{self, auth_client::AuthClient};

use super::{user_of, with_ada};
use crate::support::{
    App, Node, StoreKind, app, channel,
    hostile::{hostile, part},
    password, reason,
};

#[tokio::test]
async fn login_returns_valid_tokens_without_user_data() {
    for kind in StoreKind::ALL {
        let (app, tokens) = with_ada(kind).await;
        assert_eq!(tokens.token_type, "Bearer");
        let (head, claims) = (part(&tokens.access_token, 0), part(&tokens.access_token, 1));
        assert_eq!((head["typ"].as_str(), head["alg"].as_str()), (Some("at+jwt"), Some("ES256")));
        assert_eq!(head["kid"].as_str().unwrap().len(), 43, "an RFC 7638 thumbprint");
        let names: Vec<_> = claims.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["aud", "client_id", "exp", "iat", "iss", "jti", "sid", "sub"], "no claim holds user data");
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 300);
        assert_eq!(claims["aud"], "watchword");
        assert_eq!(claims["iss"], format!("http://{}", app.http_socket()));
        assert_eq!(claims["sid"], tokens.session_id);

        let found = app.introspect(&tokens.access_token).await;
        assert!(found.active && found.token_use() == pb::TokenUse::Access, "{found:?}");
        assert_eq!((found.username.as_str(), &found.session_id), ("ada", &tokens.session_id));
        assert_eq!(json!(found.user_id), claims["sub"]);
        let found = app.introspect_refresh(&tokens.refresh_token).await;
        assert!(found.active && found.token_use() == pb::TokenUse::Refresh, "{found:?}");
        assert_eq!(user_of(&app, &tokens.access_token).await, Ok("ada".into()));
    }
}

#[tokio::test]
async fn authorization_that_is_not_exactly_one_bearer_token_is_refused() {
    let (app, tokens) = with_ada(StoreKind::Memory).await;
    let good = format!("Bearer {}", tokens.access_token);
    for (values, outcome) in [
        (vec![], Err("TOKEN_MISSING")),
        (vec![good.clone()], Ok("ada")),
        (vec![good.replace("Bearer", "bEARER")], Ok("ada")),
        (vec![good.clone(), good.clone()], Err("TOKEN_INVALID")),
        (vec![good.replace("Bearer ", "Bearer  ")], Ok("ada")),
        (vec![good.replace("Bearer ", "Bearer\t")], Err("TOKEN_INVALID")),
        // Another scheme is no bearer token (RFC 6750 section 3.1).
        (vec![tokens.access_token.clone()], Err("TOKEN_MISSING")),
        (vec![good.replace("Bearer", "Basic")], Err("TOKEN_MISSING")),
        (vec!["Bearer".into()], Err("TOKEN_INVALID")),
        (vec!["Bearer ".into()], Err("TOKEN_INVALID")),
        (vec![format!("{good} ")], Err("TOKEN_INVALID")),
        (vec![format!("{good}, {good}")], Err("TOKEN_INVALID")),
        (vec![format!("Bearer {}", tokens.refresh_token)], Err("TOKEN_INVALID")),
        (vec![String::new()], Err("TOKEN_INVALID")),
    ] {
        let mut request = Request::new(pb::GetUserRequest {});
        for value in &values {
            request.metadata_mut().append("authorization", MetadataValue::try_from(value.as_str()).unwrap());
        }
        let answer = app.client().await.get_user(request).await;
        let answer = answer.map(|answer| answer.into_inner().user.unwrap().username).map_err(|status| reason(&status));
        assert_eq!(answer.as_deref().map_err(String::as_str), outcome, "{values:?}");
    }
}

#[tokio::test]
async fn empty_token_is_an_invalid_field_and_a_huge_token_is_too_large() {
    let app = app().await;
    let mut client = app.client().await;
    let empty = client.introspect_token(pb::IntrospectTokenRequest::default()).await.unwrap_err();
    assert_eq!(reason(&empty), "INVALID_FIELD");
    let huge = pb::IntrospectTokenRequest { token: "a".repeat(1 << 20), ..Default::default() };
    assert_eq!(reason(&client.introspect_token(huge).await.unwrap_err()), "REQUEST_TOO_LARGE");
    assert_eq!(reason(&client.refresh_token(pb::RefreshTokenRequest::default()).await.unwrap_err()), "INVALID_FIELD");
    client.revoke_token(pb::RevokeTokenRequest { token: "garbage".into() }).await.unwrap();
}

/// T14: invalid tokens that look like valid ones.
#[tokio::test]
async fn no_hostile_token_is_valid() {
    let (app, tokens) = with_ada(StoreKind::Memory).await;
    let mut corpus = hostile(&tokens.access_token);
    assert!(corpus.len() >= 200, "only {} tokens", corpus.len());
    let other_server =
        App::with(StoreKind::Memory).args(&["--token-issuer", &app.rules.token_settings().names.issuer]).start().await;
    other_server.registered("ada").await;
    let foreign = other_server.authenticate("ada").await;
    corpus.push(("signed with another key".into(), foreign.access_token));
    corpus.push(("a refresh token of another server".into(), foreign.refresh_token));
    let mut client = app.client().await;
    for (what, token) in corpus {
        let found = client
            .introspect_token(pb::IntrospectTokenRequest { token, ..Default::default() })
            .await
            .unwrap()
            .into_inner();
        assert_eq!(found, pb::IntrospectTokenResponse::default(), "{what}");
    }
    assert!(app.introspect(&tokens.access_token).await.active, "the control: the original token is valid");
}

/// A token that a client sends can be stolen: the log must not contain it at any log level.
#[tokio::test(flavor = "multi_thread")]
async fn neither_valid_nor_invalid_tokens_are_logged() {
    let folder = TempDir::new().unwrap();
    let mut node = Node::start(folder.path(), &["--log-level", "trace"]);
    let channel = channel(&node.grpc).await;
    let mut client = AuthClient::new(channel);
    let request = pb::RegisterRequest { username: "ada".into(), password: password("ada"), ..Default::default() };
    client.register(request).await.unwrap();
    let login = pb::LoginRequest { username: "ada".into(), password: password("ada"), ..Default::default() };
    let tokens = client.login(login).await.unwrap().into_inner().tokens.unwrap();
    let mut sent: Vec<_> = hostile(&tokens.access_token).into_iter().map(|(_, token)| token).collect();
    sent.extend([tokens.access_token, tokens.refresh_token]);
    for token in &sent {
        let request = || token.clone();
        drop(client.introspect_token(pb::IntrospectTokenRequest { token: request(), ..Default::default() }).await);
        drop(client.refresh_token(pb::RefreshTokenRequest { refresh_token: request(), ..Default::default() }).await);
        if let Ok(value) = MetadataValue::try_from(format!("Bearer {token}")) {
            let mut call = Request::new(pb::GetUserRequest {});
            call.metadata_mut().insert("authorization", value);
            drop(client.get_user(call).await);
        }
        drop(client.revoke_token(pb::RevokeTokenRequest { token: request() }).await);
    }
    // The node waits for open connections.
    drop(client);
    node.signal("TERM");
    assert!(node.wait_for_line("ended").is_some());
    let (_, log) = node.wait();
    assert!(log.contains("authn_token_refused"), "refusals are logged");
    for token in sent.iter().flat_map(|token| token.split('.')).filter(|part| part.len() >= 16) {
        assert!(!log.contains(&token[..16]), "{token} is in the log");
    }
}
