//! Keyed hashes of usernames and addresses: stored where the value itself must not be read.
//!
//! HMAC with a key of the key ring. Also the prefix of an address that counts as one client.

use std::{fmt, net::IpAddr};

use aws_lc_rs::hmac;

use crate::domain::model::{UserId, Username};

/// The part of an address that belongs to one client: a whole IPv4 address, or the /64 network of an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IpPrefix(IpAddr);

impl IpPrefix {
    /// The prefix of an address.
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

impl fmt::Display for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The keyed hash of an address of a user. A reader of the store learns neither the address nor that two users share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressHash(pub(crate) [u8; 8]);

impl AddressHash {
    pub(in crate::domain) fn new(key: &hmac::Key, user: Option<UserId>, IpPrefix(address): IpPrefix) -> Self {
        let mut mac = hmac::Context::with_key(key);
        mac.update(&user.map_or([0; 16], UserId::bytes));
        match address {
            IpAddr::V4(v4) => mac.update(&v4.octets()),
            IpAddr::V6(v6) => mac.update(&v6.octets()),
        }
        let mut tag = [0; 8];
        tag.copy_from_slice(&mac.sign().as_ref()[..8]);
        Self(tag)
    }
}

/// The keyed hash of a username with failed attempts. A reader of the store does not learn which usernames were attempted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UsernameHash(pub(crate) [u8; 16]);

impl UsernameHash {
    pub(in crate::domain) fn new(key: &hmac::Key, name: &Username) -> Self {
        let mut tag = [0; 16];
        tag.copy_from_slice(&hmac::sign(key, name.as_str().as_bytes()).as_ref()[..16]);
        Self(tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_network_and_spellings_of_an_ipv4_address_have_one_prefix() {
        let of = |text: &str| IpPrefix::of(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.7"), of("192.0.2.7"));
        assert_ne!(of("192.0.2.7"), of("192.0.2.8"));
    }
}
