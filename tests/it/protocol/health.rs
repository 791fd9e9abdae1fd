//! The gRPC health service (Check, List, Watch) and the ops API.

use tonic::Code;
use watchword::{
    api::health::{
        HealthCheckRequest, HealthListRequest, health_check_response::ServingStatus, health_client::HealthClient,
    },
    domain::StoreHealth,
};

use crate::support::{
    Api, App, app,
    fault::{Fault, Faulty},
    http, password, reason,
};

fn named(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.into() }
}

#[tokio::test]
async fn check_and_list_report_the_node_and_its_services() {
    let app = app().await;
    let mut health = HealthClient::new(app.channel().await);
    let served = ["", "envoy.service.auth.v3.Authorization", "watchword.auth.v1.Auth"];
    for service in served {
        let response = health.check(named(service)).await.unwrap().into_inner();
        assert_eq!(response.status(), ServingStatus::Serving, "{service}");
    }
    let unknown = health.check(named("nope")).await.unwrap_err();
    assert_eq!((unknown.code(), reason(&unknown).as_str()), (Code::NotFound, "UNIMPLEMENTED"));
    let mut all: Vec<_> = health.list(HealthListRequest {}).await.unwrap().into_inner().statuses.into_iter().collect();
    all.sort_by(|one, other| one.0.cmp(&other.0));
    let all: Vec<_> = all.iter().map(|(name, response)| (name.as_str(), response.status())).collect();
    assert_eq!(all, served.map(|name| (name, ServingStatus::Serving)));
}

#[tokio::test]
async fn health_and_readiness_follow_the_health_of_the_store() {
    let store = Faulty::with(Fault::None);
    let app = App::on(store.clone()).start().await;
    let mut health = HealthClient::new(app.channel().await);
    let mut watch = health.watch(named("watchword.auth.v1.Auth")).await.unwrap().into_inner();
    let ready = || http(app.ops_socket(), "GET", "/readyz", &[], "");
    for (store_health, status, http_status) in [
        (None, ServingStatus::Serving, 200),
        (Some(StoreHealth::Down), ServingStatus::NotServing, 503),
        (Some(StoreHealth::Up), ServingStatus::Serving, 200),
    ] {
        if let Some(store_health) = store_health {
            store.set_health(store_health);
        }
        assert_eq!(watch.message().await.unwrap().unwrap().status(), status);
        assert_eq!(health.check(named("")).await.unwrap().into_inner().status(), status);
        assert_eq!(ready().await.status, http_status);
        assert_eq!(http(app.ops_socket(), "GET", "/healthz", &[], "").await.status, 200, "the node stays alive");
    }
}

#[tokio::test]
async fn watch_of_an_unknown_service_reports_it_and_stays_open() {
    let app = app().await;
    let mut health = HealthClient::new(app.channel().await);
    let mut watch = health.watch(named("nope")).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);
    let more = tokio::time::timeout(std::time::Duration::from_millis(200), watch.message()).await;
    assert!(more.is_err(), "the stream ended or sent a message: {more:?}");
}

#[tokio::test]
async fn watch_reports_not_serving_at_the_drain_and_ends() {
    let mut app = app().await;
    let mut health = HealthClient::new(app.channel().await);
    let mut watch = health.watch(named("")).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    app.stop();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert!(watch.message().await.unwrap().is_none(), "the stream ends without an error");
    app.ended().await;
}

#[tokio::test]
async fn ops_api_serves_only_its_own_routes() {
    let app = app().await;
    let reply = http(app.ops_socket(), "GET", "/login?username=ada&password=x", &[], "").await;
    assert_eq!(reply.status, 404, "there is no login on the ops API");
    assert_eq!(http(app.ops_socket(), "POST", "/healthz", &[], "").await.status, 405);
    assert_eq!(http(app.ops_socket(), "HEAD", "/readyz", &[], "").await.status, 200);
}

#[tokio::test]
async fn metrics_count_calls_without_usernames() {
    let store = Faulty::with(Fault::None);
    let app = App::on(store.clone()).start().await;
    app.registered("ada").await;
    for (name, password) in
        [("ada", password("ada")), ("ada", "a wrong password".into()), ("carol", "a wrong password".into())]
    {
        Api::Legacy.login(&app, name, &password).await;
    }
    let page = http(app.ops_socket(), "GET", "/metrics", &[], "").await;
    assert_eq!(page.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    for line in [
        "watchword_registrations_total{outcome=\"ok\"} 1",
        "watchword_logins_total{outcome=\"ok\"} 1",
        "watchword_logins_total{outcome=\"refused\"} 2",
        "watchword_hash_seconds_count 4",
        "watchword_store_up 1",
    ] {
        assert!(page.body.lines().any(|other| other == line), "{line} is not in\n{}", page.body);
    }
    assert!(!page.body.contains("ada") && !page.body.contains("carol") && page.body.ends_with("# EOF\n"));
    store.set_health(StoreHealth::Down);
    let page = http(app.ops_socket(), "GET", "/metrics", &[], "").await;
    assert!(page.body.contains("watchword_store_up 0"), "{}", page.body);
}
