//! Paths in all spellings, through a real Envoy with each of the two filters.

use std::net::SocketAddr;

use super::{
    Running,
    envoy::{self, Filter, address, app, upstream},
};
use crate::support::{App, StoreKind, http};

/// Targets that some upstream serves as `/x`. Without a token none of them may reach the upstream as anything but `/public/`.
const TRAVERSALS: [&str; 19] = [
    "/public/../x",
    "/public/%2e%2e/x",
    "/public/%2E%2e/x",
    "/public/.%2e/x",
    "/public//..//x",
    "/public//../../x",
    "/public/%2e%2e%2fx",
    "/public/..%2Fx",
    "/public%2f..%2fx",
    "/public/..%5cx",
    "/public/..\\x",
    "/public/..;/x",
    "/public/..;a=b/x",
    "/public/%252e%252e/x",
    "/public/..%252fx",
    "/public/..%3b/x",
    "/api/..;/public/../x",
    "//x",
    "/%2fx",
];

/// What `envoy.yaml` has against them, each as its text and the text that turns it off.
const NORMALIZE: Change = ("normalize_path: true", "normalize_path: false");
const MERGE: Change = ("merge_slashes: true", "merge_slashes: false");
const UNESCAPE: Change =
    ("path_with_escaped_slashes_action: UNESCAPE_AND_REDIRECT", "path_with_escaped_slashes_action: KEEP_UNCHANGED");
const PLAIN: Change = (PUBLIC, "prefix: /public/");

/// The paths that need no token.
const PUBLIC: &str = r#"safe_regex: { regex: "/public/[A-Za-z0-9._~/-]*" }"#;

/// Another way to write rules, which operators may choose: all paths are open except those that start with `/x`.
const OPEN_BUT_X: Change = (PUBLIC, r#"safe_regex: { regex: "/([^x].*)?" }"#);

type Change = (&'static str, &'static str);

#[tokio::test]
async fn no_spelling_of_a_path_passes_without_a_token() {
    for filter in [Filter::ExtAuthz, Filter::JwtAuthn] {
        let app = app().await;
        let envoy = envoy_with(filter, &app, upstream().await, &[]).await;
        assert_eq!(served(&envoy, "/public/a/b-c.html", &[]).await.as_deref(), Some("/public/a/b-c.html"));
        assert_eq!(served(&envoy, "/public/x?next=%2e%2e/..;/", &[]).await.as_deref(), Some("/public/x"));
        for target in TRAVERSALS {
            let path = served(&envoy, target, &[]).await;
            let public = path.as_ref().is_none_or(|path| path.starts_with("/public/"));
            assert!(public, "{filter:?}: {target}: served as {path:?}");
        }
        let bearer = format!("Bearer {}", app.authenticate("ada").await.access_token);
        let token = [("authorization", bearer.as_str())];
        assert_eq!(served(&envoy, "/public/%2e%2e/x", &token).await.as_deref(), Some("/x"), "{filter:?}");
        let path = served(&envoy, "/public/caf%C3%A9", &token).await;
        assert_eq!(path.as_deref(), Some("/public/café"), "{filter:?}, with a token");
    }
}

/// The planted bugs: they show that the test above can fail, setting by setting.
#[tokio::test]
async fn each_path_setting_stops_a_target_that_passes_without_it() {
    each_path_setting_matters(Filter::ExtAuthz).await;
}

#[tokio::test]
async fn each_path_setting_stops_a_target_with_offline_verification() {
    each_path_setting_matters(Filter::JwtAuthn).await;
}

async fn each_path_setting_matters(filter: Filter) {
    let app = app().await;
    let upstream = upstream().await;
    let passing = async |changes: &[Change]| {
        let envoy = envoy_with(filter, &app, upstream, changes).await;
        let mut passing = Vec::new();
        for target in TRAVERSALS {
            if served(&envoy, target, &[]).await.as_deref() == Some("/x") {
                passing.push(target);
            }
        }
        passing
    };
    for (setting, target) in [(NORMALIZE, "/public/../x"), (PLAIN, "/public/..%3b/x")] {
        let passing = passing(&[setting]).await;
        assert!(passing.contains(&target), "{filter:?} without {}: only {passing:?} pass", setting.0);
    }
    // Alone, these two are redundant in envoy.yaml: its open paths have no escaped slash, and two slashes in them lead to
    // nothing else once the dots are resolved. Rules that name the paths to protect depend on them.
    let open = passing(&[OPEN_BUT_X]).await;
    for (setting, target) in [(MERGE, "//x"), (UNESCAPE, "/public/..%2Fx")] {
        assert_eq!(passing(&[setting]).await, [""; 0], "{filter:?} without {}", setting.0);
        assert!(!open.contains(&target), "{filter:?}: {target} passes with {}", setting.0);
        let passing = passing(&[OPEN_BUT_X, setting]).await;
        assert!(passing.contains(&target), "{filter:?} without {}: only {passing:?} pass", setting.0);
    }
}

#[tokio::test]
async fn offline_verification_sets_the_identity_and_refuses_other_requests() {
    let app = app().await;
    let issuer = format!("http://{}", app.http_socket());
    // Its tokens differ only in the key and the user.
    let other = App::with(StoreKind::Memory).args(&["--token-issuer", &issuer]).start().await;
    other.registered("ada").await;
    let envoy = envoy_with(Filter::JwtAuthn, &app, upstream().await, &[]).await;
    let token = app.authenticate("ada").await.access_token;
    let identity = app.introspect(&token).await;
    let bearer = format!("Bearer {token}");
    let foreign = format!("Bearer {}", other.authenticate("ada").await.access_token);
    for path in ["/x", "/public/x"] {
        let headers = [("authorization", bearer.as_str()), ("x-auth-subject", "root"), ("x-auth-scopes", "root")];
        let reply = http(address(&envoy), "GET", path, &headers, "").await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        for header in
            [format!("x-auth-subject: {}", identity.user_id), format!("x-auth-session-id: {}", identity.session_id)]
        {
            assert!(reply.body.lines().any(|line| line == header), "{path}: no {header}: {}", reply.body);
        }
        assert!(!reply.body.contains("root"), "{path}: a header of the client: {}", reply.body);
        for bad in [&foreign, "Bearer x"] {
            let reply = http(address(&envoy), "GET", path, &[("authorization", bad)], "").await;
            assert_eq!(reply.status, 401, "{path}, {bad}: {reply:?}");
        }
    }
    for target in ["/x", &format!("/x?access_token={token}")] {
        assert_eq!(http(address(&envoy), "GET", target, &[], "").await.status, 401, "{target}");
    }
}

#[tokio::test]
async fn offline_verification_lets_cors_preflight_requests_pass() {
    const PREFLIGHT: [(&str, &str); 2] = [("origin", "https://shop.example"), ("access-control-request-method", "PUT")];
    let (app, upstream) = (app().await, upstream().await);
    let planted = [("bypass_cors_preflight: true", "bypass_cors_preflight: false")];
    for (changes, expected) in [(&[][..], 200), (&planted, 401)] {
        let envoy = envoy_with(Filter::JwtAuthn, &app, upstream, changes).await;
        let status = async |method, headers: &[_]| http(address(&envoy), method, "/x", headers, "").await.status;
        assert_eq!(status("OPTIONS", &PREFLIGHT).await, expected, "{changes:?}");
        // Only both headers of an OPTIONS request make a preflight.
        assert_eq!(status("OPTIONS", &PREFLIGHT[..1]).await, 401, "{changes:?}");
        assert_eq!(status("PUT", &PREFLIGHT).await, 401, "{changes:?}");
    }
}

/// Starts Envoy with these changes. By default it keeps a connection open for 1 s after a refusal, and the tests wait for its
/// end.
async fn envoy_with(filter: Filter, app: &App, upstream: SocketAddr, changes: &[(&str, &str)]) -> Running {
    let close = ("stat_prefix: clients", "stat_prefix: clients\n                delayed_close_timeout: 0s");
    envoy::envoy_with(filter, app, upstream, &[&[close], changes].concat()).await
}

/// The path that the upstream serves for a target; `None` if the request does not reach it. Follows redirects, as browsers
/// do.
async fn served(envoy: &Running, target: &str, headers: &[(&str, &str)]) -> Option<String> {
    let mut target = target.to_owned();
    for _ in 0..5 {
        let reply = http(address(envoy), "GET", &target, headers, "").await;
        match reply.status {
            200 => return Some(reply.body.lines().next().unwrap().to_owned()),
            307 => {
                let location = reply.header("location").unwrap();
                let path =
                    location.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| rest[at..].to_owned()));
                target = path.unwrap_or_else(|| location.to_owned());
            }
            400 | 401 | 404 => return None,
            other => panic!("{target}: {other}: {reply:?}"),
        }
    }
    panic!("{target}: redirected for ever");
}
