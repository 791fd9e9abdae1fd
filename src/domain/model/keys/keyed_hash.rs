//! Keyed hashes of usernames and addresses: stored where the value itself must not be read.
//!
//! HMAC with a key of the key ring. Also the prefix of an address that counts as one client.

use std::{fmt, net::IpAddr};

use aws_lc_rs::hmac;

use crate::domain::model::{UserId, Username};

/// The part of an address that belongs to one client: a whole IPv4 address, or a network of IPv6 addresses, of which a
/// provider gives a customer a /64, a /56 or a /48 (RFC 6177).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IpPrefix {
    address: IpAddr,
    bits: u8,
}

impl IpPrefix {
    /// The smallest prefix of an address that can be a client: the IPv4 address, or the /64.
    pub fn of(address: IpAddr) -> Self {
        Self::with_bits(address, 64)
    }

    /// Every prefix of an address that can be one client, and how many times the limit of an address it has: an IPv6 /64, and
    /// the /56 and the /48 that contain it, because one client can have so many /64.
    pub(in crate::domain) fn levels(address: IpAddr) -> impl Iterator<Item = (Self, u32)> {
        let levels: &[(u8, u32)] = match address.to_canonical() {
            IpAddr::V4(_) => &[(32, 1)],
            IpAddr::V6(_) => &[(64, 1), (56, 2), (48, 3)],
        };
        levels.iter().map(move |(bits, multiple)| (Self::with_bits(address, *bits), *multiple))
    }

    fn with_bits(address: IpAddr, bits: u8) -> Self {
        match address.to_canonical() {
            IpAddr::V6(v6) => {
                let address = IpAddr::V6((u128::from(v6) & !(u128::MAX >> bits)).into());
                Self { address, bits }
            }
            v4 @ IpAddr::V4(_) => Self { address: v4, bits: 32 },
        }
    }
}

impl fmt::Display for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

/// The keyed hash of an address of a user. A reader of the store learns neither the address nor that two users share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressHash(pub(crate) [u8; 8]);

impl AddressHash {
    pub(in crate::domain) fn new(key: &hmac::Key, user: Option<UserId>, prefix: IpPrefix) -> Self {
        let mut mac = hmac::Context::with_key(key);
        mac.update(&user.map_or([0; 16], UserId::bytes));
        match prefix.address {
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

    #[test]
    fn ipv6_address_counts_at_three_levels_and_ipv4_at_one() {
        let levels = |text: &str| IpPrefix::levels(text.parse().unwrap()).collect::<Vec<_>>();
        let [one, other] = ["2001:db8:1:2::1", "2001:db8:1:3::1"].map(levels);
        assert_eq!(one.iter().map(|(_, multiple)| *multiple).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(one[0] != other[0] && one[1..] == other[1..], "the /64 differs, the /56 and the /48 are the same");
        let [one, other] = ["2001:db8:1::1", "2001:db8:2::1"].map(levels);
        assert!(one.iter().all(|level| !other.contains(level)), "another /48");
        assert!(one[0].0 != one[1].0 && one[1].0 != one[2].0, "the same bits in networks of different sizes");
        assert_eq!(levels("::ffff:192.0.2.7"), levels("192.0.2.7"));
        assert_eq!(levels("192.0.2.7").len(), 1);
    }
}
