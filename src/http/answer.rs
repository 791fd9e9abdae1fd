//! How answers look that hold no document: plain text, refusals of the error table, methods of a path.

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use crate::{
    api::error::{Row, row},
    domain::Error,
};

/// Text that no browser takes for anything else and nobody keeps.
pub(super) fn plain(status: StatusCode, text: impl Into<String>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (status, headers, text.into()).into_response()
}

/// The HTTP column of the table, as text.
pub(super) fn refusal(error: &Error) -> Response {
    let row = row(error);
    let mut response = plain(status(&row), format!("{}\n", row.text));
    add_headers(&row, &mut response);
    response
}

/// The row's status.
pub(super) fn status(row: &Row) -> StatusCode {
    StatusCode::from_u16(row.http).expect("the table has HTTP statuses")
}

/// What a refusal says in headers: when to come back, and that an unread body ends the connection.
pub(super) fn add_headers(row: &Row, response: &mut Response) {
    if let Some(seconds) = row.retry_after_seconds() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if status(row) == StatusCode::PAYLOAD_TOO_LARGE {
        response.headers_mut().insert(HeaderName::from_static("connection"), HeaderValue::from_static("close"));
    }
}

/// The methods of a path.
pub(super) async fn options(allow: &'static str) -> Response {
    let mut response = plain(StatusCode::NO_CONTENT, "");
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}
