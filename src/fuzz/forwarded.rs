//! `X-Forwarded-For`: a client cannot choose the address that its rate limits use.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::{HeaderMap, HeaderValue};

use super::texts;
use crate::{api::forwarded::TrustedProxies, domain::Peer};

const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const UNTRUSTED: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));

pub(super) fn seeds() -> Vec<Vec<u8>> {
    texts(&[
        "203.0.113.7",
        "made up, 198.51.100.1, 203.0.113.7",
        "198.51.100.1\n203.0.113.7, 10.9.9.9",
        "10.4.4.4,\t10.9.9.9",
        "2001:db8::1, ::ffff:203.0.113.7 ",
        "[2001:dba::7]:4711, [2001:db8::7], 10.1.1.1:80",
        "unknown, _hidden, \"1.2.3.4\", ::1%eth0",
        ",,\n\n,",
    ])
}

/// Each line of the input is one header.
pub(super) fn try_input(input: &[u8]) {
    // Only valid header values: the HTTP library refuses others.
    let lines: Vec<&[u8]> = input.split(|byte| *byte == b'\n').filter(|line| value(line).is_some()).collect();
    let headers = headers(&lines);
    let trusted = ["10.0.0.0/8", "2001:db8::/32", "192.0.2.9"].map(|text| text.parse().expect("a network"));
    let proxies = TrustedProxies::all(trusted);
    let client = |headers: &HeaderMap| proxies.client(Peer::Ip(PROXY), headers).ok();

    for peer in [Peer::Ip(UNTRUSTED), Peer::Local { uid: None }] {
        assert_eq!(proxies.client(peer, &headers).ok(), Some(None), "the header of an untrusted peer was used");
    }
    let answer = client(&headers);
    assert_eq!(
        client(&self::headers(&[&lines.join(&b", "[..])])),
        if lines.is_empty() { None } else { answer },
        "one header with a list differs from several headers"
    );
    let Some(answer) = answer else { return };
    let Some(address) = answer else { return assert!(lines.is_empty(), "no address in a header that is present") };

    assert_eq!(address, address.to_canonical(), "the address is not canonical");
    assert!(lines.iter().any(|line| contains(line, address)), "{address} is not in the header");
    let text = address.to_string();
    assert_eq!(client(&self::headers(&[text.as_bytes()])), Some(answer), "the address alone gives another address");
    // Another trusted proxy does not change the address, nor do addresses that a client adds, unless all are trusted.
    let with_proxy = [&lines[..], &[b"10.7.7.7"]].concat();
    assert_eq!(client(&self::headers(&with_proxy)), Some(answer), "another trusted proxy changed the address");
    let is_trusted = proxies.client(Peer::Ip(address), &self::headers(&[b"198.51.100.9"])).ok() != Some(None);
    for made_up in [&b"198.51.100.9"[..], b"garbage", b"10.0.0.3, \xff"] {
        let spoofed = client(&self::headers(&[&[made_up], &lines[..]].concat()));
        assert!(is_trusted || spoofed == Some(answer), "a client chose its address");
    }
}

fn value(line: &[u8]) -> Option<HeaderValue> {
    HeaderValue::from_bytes(line).ok()
}

fn headers(lines: &[&[u8]]) -> HeaderMap {
    lines.iter().filter_map(|line| value(line)).map(|line| ("x-forwarded-for".parse().expect("a name"), line)).collect()
}

/// Whether the line contains the address, in any form.
fn contains(line: &[u8], address: IpAddr) -> bool {
    line.split(|byte| *byte == b',').filter_map(|hop| std::str::from_utf8(hop).ok()).any(|hop| {
        let hop = hop.trim();
        let bare = hop.trim_start_matches('[').trim_end_matches(']');
        let read = bare.parse().or_else(|_| hop.parse().map(|socket: SocketAddr| socket.ip()));
        read.is_ok_and(|read: IpAddr| read.to_canonical() == address)
    })
}
