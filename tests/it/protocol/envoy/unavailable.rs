//! Error responses: the store cannot be read, so the request is neither allowed nor denied.

use std::time::Duration;

use tokio::time::timeout;
use tonic::Code;
use watchword::{
    api::envoy_auth::{CheckResponse, check_response::HttpResponse},
    domain::STORE_BUDGET,
};

use super::{
    OPTIONAL, REQUIRED, check, check_request, check_within, code, header_map, http, outcome, reason_in, with_token,
};
use crate::support::{
    App,
    fault::{Fault, Faulty},
};

/// An error response leaves it to the operator's configuration whether the request is allowed.
fn assert_error_response(response: &CheckResponse, reason: &str, http: i32) {
    let Some(HttpResponse::ErrorResponse(error)) = &response.http_response else { panic!("{}", outcome(response)) };
    assert_eq!((code(response), error.status.unwrap().code), (Code::Unavailable, http));
    assert_eq!(reason_in(error), reason);
    let headers = header_map(&error.headers);
    assert_eq!(headers.get("retry-after").copied(), (http == 503).then_some("1"));
    assert_eq!((headers["cache-control"], headers["content-type"]), ("no-store", "application/json"));
    assert!(!headers.contains_key("www-authenticate") && response.dynamic_metadata.is_none());
}

#[tokio::test]
async fn check_is_an_error_while_the_store_is_down_or_corrupt() {
    let store = Faulty::with(Fault::None);
    let app = App::on(store.clone()).start().await;
    app.registered("ada").await;
    let request = with_token(&app.authenticate("ada").await.access_token);
    for (fault, reason, status) in [(Fault::Down, "STORE_UNAVAILABLE", 503), (Fault::Corrupt, "CORRUPT_RECORD", 500)] {
        store.set(fault);
        assert_error_response(&check(&app, request.clone()).await, reason, status);
        // A request without a token needs no store.
        assert_eq!(outcome(&check(&app, check_request(http(&[]), REQUIRED)).await), "TOKEN_MISSING");
        assert_eq!(outcome(&check(&app, check_request(http(&[]), OPTIONAL)).await), "anonymous");
    }
    store.set(Fault::None);
    assert_eq!(outcome(&check(&app, request).await), "user");
}

/// The store has 100 ms. Envoy waits 200 ms, and a gateway with a shorter deadline also gets a response.
#[tokio::test]
async fn hanging_store_is_an_error_before_the_deadline_of_the_gateway() {
    assert_eq!(STORE_BUDGET, Duration::from_millis(100));
    let store = Faulty::with(Fault::None);
    let app = App::on(store.clone()).start().await;
    app.registered("ada").await;
    let request = with_token(&app.authenticate("ada").await.access_token);
    store.set(Fault::Hangs);
    for timeout_header in ["200m", "50m"] {
        assert_error_response(&check_within(&app, &request, timeout_header).await, "STORE_UNAVAILABLE", 503);
    }
    // A long deadline does not extend the budget of the store.
    let response =
        timeout(Duration::from_secs(5), check_within(&app, &request, "30S")).await.expect("the store has a budget");
    assert_error_response(&response, "STORE_UNAVAILABLE", 503);
    assert_eq!(app.events.count("store failed"), 3, "each timeout is an event");
}
