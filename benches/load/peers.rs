//! The login of another product, measured in the same run on the same machine.
//!
//! `--peer NAME=URL` calls `POST URL` with the concurrency of Watchword's own logins. The text after `#` in the URL is
//! the body: JSON if it begins with `{`, otherwise a form. Any 2xx counts as a success, 429 and 503 as overloaded.
//! An example, without the line break: `--peer 'Keycloak=http://127.0.0.1:8080/realms/r/protocol/openid-connect/token
//! #grant_type=password&client_id=c&username=ada&password=…'`.

use std::{error::Error, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::runtime::Runtime;
use tonic::Status;

use crate::calls::{Tally, drive};

/// The login of another product.
pub(crate) struct Peer {
    pub(crate) name: String,
    url: String,
    body: String,
}

impl Peer {
    pub(crate) fn parse(text: &str) -> Self {
        let (name, url) = text.split_once('=').expect("--peer needs NAME=URL");
        let (url, body) = url.split_once('#').unwrap_or((url, ""));
        Self { name: name.into(), url: url.into(), body: body.into() }
    }

    /// Logs in for `time`; returns the outcomes, and successes per second.
    pub(crate) fn login(&self, runtime: &Runtime, time: Duration) -> (Tally, f64) {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build::<_, Full<Bytes>>(connector);
        let media_type =
            if self.body.starts_with('{') { "application/json" } else { "application/x-www-form-urlencoded" };
        let (url, body) = (self.url.clone(), Bytes::from(self.body.clone()));
        let (tally, took) = drive(runtime, time, move |_| {
            let request = Request::post(&url).header(CONTENT_TYPE, media_type).body(Full::new(body.clone()));
            let response = client.request(request.expect("--peer has a valid URL"));
            async move {
                let response = response.await.map_err(|cause| unavailable(&cause))?;
                let status = response.status();
                response.into_body().collect().await.map_err(|cause| unavailable(&cause))?;
                outcome(status)
            }
        });
        let rate = tally.succeeded as f64 / took.as_secs_f64();
        (tally, rate)
    }
}

fn unavailable(cause: &dyn Error) -> Status {
    Status::unavailable(cause.to_string())
}

fn outcome(status: StatusCode) -> Result<(), Status> {
    match status {
        _ if status.is_success() => Ok(()),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Err(Status::resource_exhausted("")),
        _ => Err(Status::unknown(status.to_string())),
    }
}
