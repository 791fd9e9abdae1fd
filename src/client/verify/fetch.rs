//! Fetches one document over HTTP, with a timeout and a size limit.

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

use crate::client::{SetupError, setup_error};

/// The timeout of a fetch.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// The maximum size of a document in bytes. Two keys have 400.
const DOCUMENT_BYTES_MAX: usize = 64 * 1_024;

/// The URL of a document.
#[derive(Debug)]
pub(super) struct DocumentSource {
    url: Uri,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

/// A fetched document.
#[derive(Debug)]
pub(super) struct FetchedDocument {
    pub(super) bytes: Bytes,
    /// How long it may be cached, if the server sends a time.
    pub(super) max_age: Option<Duration>,
}

impl DocumentSource {
    pub(super) fn new(url: &str, ca_file: Option<&Path>) -> Result<Self, SetupError> {
        let wrong = |what: &str| SetupError::new(format!("the URL of the keys, {url}: {what}"));
        let uri: Uri = url.parse().map_err(|_| wrong("is not a URL"))?;
        let host = uri.host().ok_or_else(|| wrong("has no host"))?;
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if ["127.0.0.1", "[::1]", "localhost"].contains(&host) => {}
            Some("http") => {
                tracing::warn!(host, "keys are fetched without TLS: an attacker on the network can forge tokens")
            }
            _ => return Err(wrong("is neither http:// nor https://")),
        }
        let builder = match ca_file {
            None => HttpsConnectorBuilder::new()
                .with_provider_and_native_roots(aws_lc_rs::default_provider())
                .map_err(|cause| SetupError::because("the CA certificates of the host", cause))?,
            Some(file) => HttpsConnectorBuilder::new().with_tls_config(tls_config(file)?),
        };
        let connector = builder.https_or_http().enable_http1().build();
        // Fetches are minutes apart, so no connection is kept.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Ok(Self { url: uri, client })
    }

    /// Fetches the document. Redirects are not followed.
    pub(super) async fn fetch(&self) -> Result<FetchedDocument, Box<dyn Error + Send + Sync>> {
        tokio::time::timeout(FETCH_TIMEOUT, self.fetch_without_timeout()).await?
    }

    async fn fetch_without_timeout(&self) -> Result<FetchedDocument, Box<dyn Error + Send + Sync>> {
        let response = self.client.get(self.url.clone()).await?;
        if response.status() != StatusCode::OK {
            return Err(format!("the response status was {}", response.status()).into());
        }
        let max_age = max_age(response.headers());
        let bytes = Limited::new(response.into_body(), DOCUMENT_BYTES_MAX).collect().await?.to_bytes();
        Ok(FetchedDocument { bytes, max_age })
    }
}

fn tls_config(file: &Path) -> Result<ClientConfig, SetupError> {
    let pem = setup_error::read_ca_file(file)?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).flatten());
    if roots.is_empty() {
        return Err(SetupError::new(format!("the CA file {} contains no certificate", file.display())));
    }
    let config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(|cause| SetupError::because("TLS", cause))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// The max-age (RFC 9111 section 5.2.2.1). Zero for documents that must not be cached.
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
    fn max_age_is_parsed_as_in_rfc_9111() {
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
