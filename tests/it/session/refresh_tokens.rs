//! What others learn of a refresh token: nothing but its holders and callers on the node's machine, and times to the minute.

use std::{net::IpAddr, time::Duration};

use watchword::{
    api::pb,
    domain::{Api, Bearer, CallContext, Peer, TokenTypeHint},
};

use super::{refresh, with_ada};
use crate::support::{App, StoreKind, forwarded_for, with_bearer};

fn hinted(token: &str, hint: &str) -> pb::IntrospectTokenRequest {
    pb::IntrospectTokenRequest { token: token.into(), token_type_hint: hint.into() }
}

#[tokio::test]
async fn refresh_token_is_active_only_with_the_hint() {
    for kind in StoreKind::ALL {
        let (app, tokens) = with_ada(kind).await;
        let mut client = app.client().await;
        for (hint, is_active) in [("", false), ("access_token", false), ("nonsense", false), ("refresh_token", true)] {
            let found = client.introspect_token(hinted(&tokens.refresh_token, hint)).await.unwrap().into_inner();
            assert_eq!(found.active, is_active, "{kind:?} {hint}");
            assert!(is_active || found == pb::IntrospectTokenResponse::default(), "nothing else is said");
            let access = client.introspect_token(hinted(&tokens.access_token, hint)).await.unwrap().into_inner();
            assert!(access.active, "{kind:?} {hint}: no hint hides an access token");
        }
    }
}

/// A proxy on the node's machine does not lend its place to the clients that it forwards.
#[tokio::test]
async fn refresh_token_is_not_active_for_a_caller_on_another_machine() {
    let app = App::with(StoreKind::Memory).args(&["--trusted-proxy", "127.0.0.1"]).start().await;
    app.registered("ada").await;
    let tokens = app.authenticate("ada").await;
    let mut client = app.client().await;
    for (address, is_active) in [("203.0.113.9", false), ("127.0.0.1", true), ("::1", true)] {
        let request = forwarded_for(address, hinted(&tokens.refresh_token, "refresh_token"));
        assert_eq!(client.introspect_token(request).await.unwrap().into_inner().active, is_active, "{address}");
    }
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let (near, far, local) = (Peer::Ip(ip("127.0.0.1")), Peer::Ip(ip("192.0.2.7")), Peer::Local { uid: Some(1) });
    for (api, peer, client, is_active) in [
        (Api::Grpc, near, None, true),
        (Api::Grpc, local, None, true),
        (Api::Grpc, far, None, false),
        (Api::Grpc, far, Some(ip("127.0.0.1")), false),
        (Api::Grpc, local, Some(ip("203.0.113.9")), false),
        // Its clients have authenticated.
        (Api::OAuth, far, Some(ip("192.0.2.7")), true),
    ] {
        let deadline = app.rules.environment().clock.monotonic() + Duration::from_secs(60);
        let context = CallContext { api, peer, client, deadline, bearer: Bearer::Missing, user_agent: String::new() };
        let found = app.rules.introspect_token(&context, &tokens.refresh_token, TokenTypeHint::Refresh).await.unwrap();
        assert_eq!(found.is_some(), is_active, "{api:?} {peer} {client:?}");
        let access = app.rules.introspect_token(&context, &tokens.access_token, TokenTypeHint::Access).await.unwrap();
        assert!(access.is_some(), "{api:?} {peer}: access tokens are for all");
    }
}

#[tokio::test]
async fn times_of_a_refresh_are_shown_to_the_minute() {
    for kind in StoreKind::ALL {
        let (app, first) = with_ada(kind).await;
        let list = async |token: &str| {
            let request = with_bearer(token, pb::ListSessionsRequest::default());
            app.client().await.list_sessions(request).await.unwrap().into_inner().sessions.remove(0)
        };
        let session = list(&first.access_token).await;
        assert_eq!(session.last_refresh_time, session.create_time, "{kind:?}: not refreshed yet");
        app.clock.advance(Duration::from_secs(61));
        let mut tokens = first;
        // A refresh in each part of a minute.
        let mut seconds = Vec::new();
        for _ in 0..8 {
            app.clock.advance(Duration::from_millis(9_300));
            tokens = refresh(&app, &tokens.refresh_token).await.unwrap();
            let session = list(&tokens.access_token).await;
            let found = app.introspect_refresh(&tokens.refresh_token).await;
            for time in [session.last_refresh_time, session.expire_time, found.issue_time, found.expire_time] {
                let time = time.unwrap();
                assert_eq!((time.seconds % 60, time.nanos), (0, 0), "{kind:?}");
            }
            seconds.push(session.last_refresh_time.unwrap().seconds);
        }
        assert!((60..=120).contains(&(seconds[7] - seconds[0])), "{kind:?}: another minute");
    }
}
