//! The original query-string routes: the recorded behavior.

use serde_json::Value;

use crate::support::{Api, App, StoreKind, app, http, password};

/// Requests that were recorded with the original program, in order, with the response that Watchword must give.
#[tokio::test]
async fn every_recorded_request_gets_its_recorded_response() {
    let recorded: Value = serde_json::from_str(include_str!("../../data/original_routes.json")).unwrap();
    let cases = recorded["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 33);
    for store in StoreKind::ALL {
        let app = App::with(store).start().await;
        for case in cases {
            let (method, target) = (case["m"].as_str().unwrap(), case["u"].as_str().unwrap());
            let reply = http(app.http_socket(), method, target, &[], "").await;
            let (status, body) = (&case["ours"][0], &case["ours"][1]);
            match status.as_str() {
                Some(class) => {
                    assert_eq!(reply.status / 100, class[..1].parse::<u16>().unwrap(), "{method} {target}: {reply:?}")
                }
                None => assert_eq!(u64::from(reply.status), status.as_u64().unwrap(), "{method} {target}: {reply:?}"),
            }
            if let Some(body) = body.as_str() {
                assert_eq!(reply.body, body, "{method} {target}");
            }
        }
    }
}

#[tokio::test]
async fn example_of_the_original_tutorial_works() {
    let app = app().await;
    let call = |method: &'static str, target: &'static str| http(app.http_socket(), method, target, &[], "");
    assert_eq!(call("GET", "/").await.body, "Hello World!");
    assert_eq!(call("POST", "/register?username=soham&password=insecure&data=testing").await.body, "Success");
    assert_eq!(
        call("POST", "/register?username=soham&password=insecure&data=testing").await.body,
        "User already registered."
    );
    assert_eq!(call("GET", "/login?username=soham&password=insecure").await.body, "testing");
    assert_eq!(call("GET", "/login?username=soham&password=wrong").await.body, "User not found");
}

#[tokio::test]
async fn responses_are_plain_text_without_caching_or_sniffing() {
    let app = app().await;
    app.registered("ada").await;
    for (method, target) in [
        ("GET", "/"),
        ("GET", "/login?username=ada&password=wrong"),
        ("POST", "/register"),
        ("GET", "/nope"),
        ("PUT", "/register"),
        ("OPTIONS", "/login"),
    ] {
        let reply = http(app.http_socket(), method, target, &[], "").await;
        assert_eq!(reply.header("content-type"), Some("text/plain; charset=utf-8"), "{method} {target}");
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{method} {target}");
        assert_eq!(reply.header("cache-control"), Some("no-store"), "{method} {target}");
    }
}

#[tokio::test]
async fn wrong_method_is_refused_and_the_allowed_methods_are_named() {
    let app = app().await;
    let call = |method: &'static str, target: &'static str| http(app.http_socket(), method, target, &[], "");
    for (method, target, allow) in [
        ("DELETE", "/register", "POST"),
        ("GET", "/register", "POST"),
        ("POST", "/login", "GET"),
        ("POST", "/", "HEAD"),
        ("OPTIONS", "/register", "POST"),
        ("OPTIONS", "/login", "HEAD"),
    ] {
        let reply = call(method, target).await;
        assert_eq!(reply.status, if method == "OPTIONS" { 204 } else { 405 }, "{method} {target}");
        assert!(reply.header("allow").unwrap().contains(allow), "{method} {target}: {reply:?}");
    }
    assert_eq!(call("GET", "/register/").await.status, 404);
    let head = call("HEAD", "/login?username=unknown&password=whatever").await;
    assert_eq!((head.status, head.body.as_str(), head.header("content-length")), (200, "", Some("14")));
}

#[tokio::test]
async fn register_accepts_a_form_and_the_query_takes_precedence() {
    let app = app().await;
    let form = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
    let call = |target: &'static str, body: &'static str| http(app.http_socket(), "POST", target, &form, body);
    assert_eq!(call("/register", "username=ada&password=p%C3%A4ssword+long&data=x").await.body, "Success");
    assert_eq!(Api::Legacy.login(&app, "ada", "pässword long").await.data(), "x");
    assert_eq!(call("/register?username=bob", "username=eve&password=bobs-password").await.body, "Success");
    assert_eq!(Api::Legacy.login(&app, "bob", "bobs-password").await.outcome(), "ok");
    assert!(Api::Legacy.login(&app, "eve", "bobs-password").await.is_wrong_credentials());
    // A body of another content type is ignored.
    let json = http(app.http_socket(), "POST", "/register", &[("content-type", "application/json")], "{}").await;
    assert_eq!(json.status, 400);
}

#[tokio::test]
async fn hostile_query_is_refused_and_registers_no_user() {
    let app = app().await;
    for target in [
        "/register?username=%FF&password=long-enough",
        "/register?username=a&password=%FFlong-enough",
        "/register?username=a%00b&password=long-enough",
        "/register?username=%D0%B0dmin&password=long-enough",
        "/register?%FF=1&username=a&password=long-enough",
    ] {
        let reply = http(app.http_socket(), "POST", target, &[], "").await;
        assert_eq!(reply.status, 400, "{target}: {reply:?}");
    }
    let long = format!("/login?username={}&password=x", "a".repeat(20_000));
    let reply = http(app.http_socket(), "GET", &long, &[], "").await;
    assert!((400..=431).contains(&reply.status), "{reply:?}");
    assert_eq!(app.events.count("registered"), 0);
    app.registered("ada").await;
}

#[tokio::test]
async fn legacy_routes_off_are_not_found() {
    let app = App::with(StoreKind::Memory).args(&["--legacy-routes", "off"]).start().await;
    let target = format!("/login?username=ada&password={}", password("ada").replace(' ', "+"));
    for (method, target) in [("GET", "/"), ("POST", "/register"), ("GET", target.as_str())] {
        assert_eq!(http(app.http_socket(), method, target, &[], "").await.status, 404);
    }
}
