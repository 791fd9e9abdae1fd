//! `X-Forwarded-For`: nobody chooses the address that he is counted under.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::{HeaderMap, HeaderValue};

use super::texts;
use crate::{api::forwarded::TrustedProxies, domain::Peer};

const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));

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
    // What no HTTP library lets through does not get here either.
    let lines: Vec<&[u8]> = input.split(|byte| *byte == b'\n').filter(|line| value(line).is_some()).collect();
    let headers = headers(&lines);
    let trusted = ["10.0.0.0/8", "2001:db8::/32", "192.0.2.9"].map(|text| text.parse().expect("a network"));
    let proxies = TrustedProxies::all(trusted);
    let says = |headers: &HeaderMap| proxies.client(Peer::Ip(PROXY), headers).ok();

    for stranger in [Peer::Ip(STRANGER), Peer::Local { uid: None }] {
        assert_eq!(proxies.client(stranger, &headers).ok(), Some(None), "a stranger was believed");
    }
    let answer = says(&headers);
    assert_eq!(
        says(&self::headers(&[&lines.join(&b", "[..])])),
        if lines.is_empty() { None } else { answer },
        "a list"
    );
    let Some(answer) = answer else { return };
    let Some(address) = answer else { return assert!(lines.is_empty(), "nothing was found in something") };

    assert_eq!(address, address.to_canonical(), "one address has one form");
    assert!(lines.iter().any(|line| has(line, address)), "{address} does not stand there");
    let text = address.to_string();
    assert_eq!(says(&self::headers(&[text.as_bytes()])), Some(answer), "the address alone");
    // Another trusted proxy in front changes nothing, and neither does what a user writes, unless all are trusted.
    let with_proxy = [&lines[..], &[b"10.7.7.7"]].concat();
    assert_eq!(says(&self::headers(&with_proxy)), Some(answer), "behind one more proxy");
    let is_trusted = proxies.client(Peer::Ip(address), &self::headers(&[b"198.51.100.9"])).ok() != Some(None);
    for made_up in [&b"198.51.100.9"[..], b"garbage", b"10.0.0.3, \xff"] {
        let spoofed = says(&self::headers(&[&[made_up], &lines[..]].concat()));
        assert!(is_trusted || spoofed == Some(answer), "a user chose his address");
    }
}

fn value(line: &[u8]) -> Option<HeaderValue> {
    HeaderValue::from_bytes(line).ok()
}

fn headers(lines: &[&[u8]]) -> HeaderMap {
    lines.iter().filter_map(|line| value(line)).map(|line| ("x-forwarded-for".parse().expect("a name"), line)).collect()
}

/// Whether that address stands in a line, in any form that there is of it.
fn has(line: &[u8], address: IpAddr) -> bool {
    line.split(|byte| *byte == b',').filter_map(|hop| std::str::from_utf8(hop).ok()).any(|hop| {
        let hop = hop.trim();
        let bare = hop.trim_start_matches('[').trim_end_matches(']');
        let read = bare.parse().or_else(|_| hop.parse().map(|socket: SocketAddr| socket.ip()));
        read.is_ok_and(|read: IpAddr| read.to_canonical() == address)
    })
}
