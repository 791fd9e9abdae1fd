//! Responses without a document: plain text, rows of the error table, the methods of a path.

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use crate::{
    api::errors::{ErrorRow, error_row},
    domain::Error,
};

/// Plain text that browsers do not interpret as anything else and caches do not store.
pub(super) fn plain(status: StatusCode, text: impl Into<String>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (status, headers, text.into()).into_response()
}

/// The HTTP form of an error, as text.
pub(super) fn refusal(error: &Error) -> Response {
    let row = error_row(error);
    let mut response = plain(status(&row), format!("{}\n", row.text));
    add_headers(&row, &mut response);
    response
}

/// The HTTP status of a row.
pub(super) fn status(row: &ErrorRow) -> StatusCode {
    StatusCode::from_u16(row.http).expect("the error table has HTTP statuses")
}

/// The headers of an error: the wait before a retry, and the end of a connection whose request body is not read.
pub(super) fn add_headers(row: &ErrorRow, response: &mut Response) {
    if let Some(seconds) = row.retry_after_seconds() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if status(row) == StatusCode::PAYLOAD_TOO_LARGE {
        response.headers_mut().insert(HeaderName::from_static("connection"), HeaderValue::from_static("close"));
    }
}

/// The response to OPTIONS: the methods of a path.
pub(super) async fn options(allow: &'static str) -> Response {
    let mut response = plain(StatusCode::NO_CONTENT, "");
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}
