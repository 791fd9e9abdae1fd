//! Fetches one document over HTTP, with limits.

use std::{error::Error, path::Path, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri, header::CACHE_CONTROL};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
};

use super::{SetupError, setup};

/// How long a fetch may take in all.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of a document at most; two keys are 400.
const BYTES_MAX: usize = 64 * 1_024;

/// An address whose document is fetched now and then.
#[derive(Debug)]
pub(super) struct Source {
    address: Uri,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

/// What was fetched.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) bytes: Bytes,
    /// How long it may be kept, as the server says.
    pub(super) max_age: Option<Duration>,
}

impl Source {
    pub(super) fn new(address: &str, ca_file: Option<&Path>) -> Result<Self, SetupError> {
        let wrong = |what: &str| SetupError::new(format!("the address of the keys, {address}: {what}"));
        let uri: Uri = address.parse().map_err(|_| wrong("is no URL"))?;
        let host = uri.host().ok_or_else(|| wrong("names no host"))?;
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if ["127.0.0.1", "[::1]", "localhost"].contains(&host) => {}
            Some("http") => tracing::warn!(host, "keys come in plain text: whoever is on the way can make tokens"),
            _ => return Err(wrong("is neither http:// nor https://")),
        }
        let builder = match ca_file {
            None => HttpsConnectorBuilder::new()
                .with_provider_and_native_roots(aws_lc_rs::default_provider())
                .map_err(|cause| SetupError::because("the authorities that this machine trusts", cause))?,
            Some(file) => HttpsConnectorBuilder::new().with_tls_config(trusting(file)?),
        };
        let connector = builder.https_or_http().enable_http1().build();
        // Minutes lie between two fetches: no connection is kept.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Ok(Self { address: uri, client })
    }

    /// The document. Redirections are not followed.
    pub(super) async fn fetch(&self) -> Result<Document, Box<dyn Error + Send + Sync>> {
        tokio::time::timeout(TIMEOUT, self.fetch_without_end()).await?
    }

    async fn fetch_without_end(&self) -> Result<Document, Box<dyn Error + Send + Sync>> {
        let response = self.client.get(self.address.clone()).await?;
        if response.status() != StatusCode::OK {
            return Err(format!("the answer was {}", response.status()).into());
        }
        let max_age = max_age(response.headers());
        let bytes = Limited::new(response.into_body(), BYTES_MAX).collect().await?.to_bytes();
        Ok(Document { bytes, max_age })
    }
}

fn trusting(file: &Path) -> Result<ClientConfig, SetupError> {
    let pem = setup::authorities(file)?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).flatten());
    if roots.is_empty() {
        return Err(SetupError::new(format!("the CA file {} holds no certificate", file.display())));
    }
    let config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(|cause| SetupError::because("TLS", cause))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// RFC 9111 5.2.2.1; what must not be kept has no age.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let directives: Vec<_> =
        values.flat_map(|value| value.split(',')).map(|one| one.trim().to_ascii_lowercase()).collect();
    if directives.iter().any(|one| one == "no-store" || one == "no-cache") {
        return Some(Duration::ZERO);
    }
    let seconds = directives.iter().find_map(|one| one.strip_prefix("max-age=")?.trim_matches('"').parse().ok());
    seconds.map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn how_long_keys_may_be_kept_is_read_as_http_defines_it() {
        for (value, seconds) in [
            ("public, max-age=300", Some(300)),
            ("Max-Age=\"60\"", Some(60)),
            ("no-store", Some(0)),
            ("max-age=300, no-cache", Some(0)),
            ("private", None),
            ("max-age=-1", None),
            ("max-age=", None),
            ("max-age=18446744073709551616", None),
        ] {
            let headers = HeaderMap::from_iter([(CACHE_CONTROL, HeaderValue::from_static(value))]);
            assert_eq!(max_age(&headers), seconds.map(Duration::from_secs), "{value}");
        }
        assert_eq!(max_age(&HeaderMap::new()), None);
    }
}
