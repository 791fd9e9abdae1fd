//! `Host` and `Origin`: a listener without further names answers only to loopback names, and only to pages of that host.

use http::{HeaderMap, HeaderValue, Uri, Version, header};

use super::texts;
use crate::api::site::{HostName, SitePolicy, addressed_host};

pub(super) fn seeds() -> Vec<Vec<u8>> {
    texts(&[
        "localhost:5000",
        "LOCALHOST.\nhttp://localhost:3000",
        "127.0.0.1.:80\nhttps://127.0.0.1",
        "[::1]:5000\nnull",
        "[::ffff:7f00:1]\nhttp://[::ffff:7f00:1]",
        "user@localhost\nhttp://user@localhost",
        "rebound.example\nhttp://rebound.example",
    ])
}

/// The first line is `Host`, and each other line an `Origin`.
pub(super) fn try_input(input: &[u8]) {
    let mut lines = input.split(|byte| *byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok());
    let Some(host) = lines.next() else { return };
    let mut headers = HeaderMap::from_iter([(header::HOST, host.clone())]);
    let Ok(Some(name)) = addressed_host(Version::HTTP_11, &Uri::from_static("/"), &headers) else { return };
    let shown = name.to_string();
    let is_mapped = shown.starts_with("[::ffff:") && shown.contains('.');
    assert_eq!(shown.parse::<HostName>().ok(), (!is_mapped).then(|| name.clone()), "{shown} is another host");
    headers.extend(lines.map(|line| (header::ORIGIN, line)));

    let policy = SitePolicy::default();
    if policy.check(Some(&name), None, &headers).is_err() {
        return;
    }
    assert!(shown == "localhost" || shown == "[::1]" || shown.starts_with("127."), "answers to {shown}");
    let text = host.to_str().expect("a host that is answered to is ASCII").to_ascii_lowercase();
    assert!(!text.contains('@'), "user information in {text}");
    for origin in headers.get_all(header::ORIGIN) {
        let origin = origin.to_str().expect("an own origin is ASCII").to_ascii_lowercase();
        assert!(origin.starts_with("http") && !origin.contains('@'), "a page of {origin} calls {shown}");
    }
}
