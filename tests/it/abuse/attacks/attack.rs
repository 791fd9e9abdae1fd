//! The attacks: what the attacker has, at what the attempts go, and what the page promises.

use super::{
    graphics_card::{CARD_ATTEMPTS_MAX, Challenges, GraphicsCard},
    outcome::Way::{self, FamiliarAddress, NewAddress, ProofOfWork, Session},
    passwords::Passwords,
    people::{HONEST_USERS, VICTIM},
};
use crate::support::is_full;

/// Addresses of the botnet.
const BOTNET: u32 = 10_000;

/// What the account limit admits in an hour: ten at once, then two a minute.
const AT_ACCOUNT_MAX: u32 = 10 + 2 * 60;

/// Nodes that share a store. Each may admit one attempt before it knows of the others'.
const NODES: u32 = 5;

/// What one address may do in an hour: at one account, and at all.
const FROM_ADDRESS_AT_ACCOUNT_MAX: u32 = 5 + 60;
const FROM_ADDRESS_MAX: u32 = 100 + 10 * 60;

/// An address that the attacker shares with users.
const NAT: &str = "203.0.113.250";

/// One attack.
#[derive(Clone)]
pub struct Attack {
    pub name: &'static str,
    pub seconds: u32,
    pub nodes: usize,
    /// `--throttle`.
    pub throttle: &'static str,
    /// What the attacker sends.
    pub passwords: Option<Passwords>,
    pub card: Option<GraphicsCard>,
    /// The address of each user at home; `None` where the server knows no addresses.
    pub home: fn(u32) -> Option<String>,
    /// The attempts, and the failures of all callers that raise an alert, are divided by this.
    pub scale: u32,
    pub claims: Claims,
}

/// What the page promises.
#[derive(Clone)]
pub struct Claims {
    pub verified_max: u32,
    pub at_one_account_max: u32,
    /// Ways by which the victim always gets in. Every honest login succeeds in any case.
    pub open_ways: &'static [Way],
}

impl Attack {
    /// An attack with passwords at one node, whose users have homes of their own.
    fn with(name: &'static str, passwords: Option<Passwords>, claims: Claims) -> Self {
        Self { name, seconds: 3_600, nodes: 1, throttle: "on", passwords, card: None, home: own_home, scale: 1, claims }
    }

    fn with_card(self, challenges: Challenges) -> Self {
        Self { card: Some(GraphicsCard::new(challenges)), ..self }
    }

    fn scaled_in_the_short_form(self) -> Self {
        Self { scale: if is_full() { 1 } else { 10 }, ..self }
    }
}

impl Claims {
    /// For an attack at one account.
    fn at_account(verified_max: u32, open_ways: &'static [Way]) -> Self {
        Self { verified_max, at_one_account_max: verified_max, open_ways }
    }

    /// For an attack at many.
    fn at_names(verified_max: u32, open_ways: &'static [Way]) -> Self {
        Self { verified_max, at_one_account_max: AT_ACCOUNT_MAX, open_ways }
    }
}

/// All attacks, in the order of the table.
pub fn all() -> Vec<Attack> {
    [at_the_victim(), at_many_names(), with_a_graphics_card()].concat()
}

fn at_the_victim() -> Vec<Attack> {
    let botnet = Passwords::of(BOTNET, botnet, victim);
    let from_an_address = |open_ways| Claims::at_account(FROM_ADDRESS_AT_ACCOUNT_MAX, open_ways);
    vec![
        Attack::with(
            "one address at the victim",
            Passwords::of(3_600, one_address, victim),
            from_an_address(&[NewAddress, FamiliarAddress, Session]),
        ),
        Attack {
            home: behind_nat,
            ..Attack::with(
                "one address at the victim, whose home it shares (NAT)",
                Passwords::of(3_600, nat, victim),
                from_an_address(&[NewAddress, ProofOfWork, Session]),
            )
        },
        Attack::with(
            "10 000 addresses at the victim",
            botnet,
            Claims::at_account(AT_ACCOUNT_MAX, &[ProofOfWork, FamiliarAddress, Session]),
        ),
        Attack {
            nodes: NODES as usize,
            ..Attack::with(
                "10 000 addresses at the victim, five nodes",
                botnet,
                Claims::at_account(AT_ACCOUNT_MAX + NODES - 1, &[ProofOfWork, FamiliarAddress, Session]),
            )
        },
        Attack {
            home: without_address,
            ..Attack::with(
                "one gRPC caller at the victim, `--client-address none`",
                Passwords::of(3_600, no_address, victim),
                Claims::at_account(AT_ACCOUNT_MAX, &[ProofOfWork, Session]),
            )
        },
    ]
}

fn at_many_names() -> Vec<Attack> {
    let all_alone: &[Way] = &[NewAddress, FamiliarAddress, Session];
    // The address is familiar to the users, so attempts at their names do not count for it.
    let at_users = HONEST_USERS * 3_600_u32.div_ceil(1_000);
    vec![
        Attack::with(
            "one address at 1 000 names",
            Passwords::of(3_600, one_address, name_of_1_000),
            Claims::at_names(FROM_ADDRESS_MAX, all_alone),
        ),
        Attack {
            home: behind_nat,
            ..Attack::with(
                "one address at 1 000 names, which users share (NAT)",
                Passwords::of(3_600, nat, name_of_1_000),
                Claims::at_names(FROM_ADDRESS_MAX + at_users, all_alone),
            )
        },
        Attack::with(
            "an IPv6 /48 at 1 000 names, each attempt from another /56 and /64",
            Passwords::of(7_200, ipv6_48, name_of_1_000),
            Claims::at_names(3 * FROM_ADDRESS_MAX, all_alone),
        ),
        Attack::with(
            "10 000 addresses at 100 000 names",
            Passwords::of(10 * BOTNET, botnet, name_of_100_000),
            Claims::at_names(10 * BOTNET, all_alone),
        )
        .scaled_in_the_short_form(),
        Attack {
            home: without_address,
            ..Attack::with(
                "one gRPC caller at 100 000 names, `--client-address none`",
                Passwords::of(120_000, no_address, name_of_100_000),
                Claims::at_names(1_000 + 60 * 1_000, &[ProofOfWork, Session]),
            )
        }
        .scaled_in_the_short_form(),
    ]
}

fn with_a_graphics_card() -> Vec<Attack> {
    let alone = Claims::at_account(CARD_ATTEMPTS_MAX, &[NewAddress, FamiliarAddress, Session]);
    vec![
        Attack::with("a graphics card and 10 000 addresses at the victim", None, alone.clone())
            .with_card(Challenges::OfTheAccount),
        Attack::with(
            "a graphics card and 10 000 addresses at the victim, challenges that name no account",
            None,
            alone,
        )
        .with_card(Challenges::OfAnyAccount),
        Attack::with(
            "a graphics card and 10 000 addresses at the victim, also without proof of work",
            Passwords::of(BOTNET, botnet, victim),
            Claims::at_account(CARD_ATTEMPTS_MAX + AT_ACCOUNT_MAX, &[FamiliarAddress, Session]),
        )
        .with_card(Challenges::OfTheAccount),
    ]
}

// === sources ===

fn one_address(_: u32) -> Option<String> {
    Some("198.51.100.1".into())
}

/// The address of the botnet for one attempt.
pub fn botnet(number: u32) -> Option<String> {
    let address = number % BOTNET;
    Some(format!("198.18.{}.{}", address / 256, address % 256))
}

/// Neighbours are in different /56.
fn ipv6_48(number: u32) -> Option<String> {
    let network = number % 256 * 256 + number / 256 % 256;
    Some(format!("2001:db8:1:{network:x}::1"))
}

fn nat(_: u32) -> Option<String> {
    Some(NAT.into())
}

fn no_address(_: u32) -> Option<String> {
    None
}

// === homes ===

fn own_home(user: u32) -> Option<String> {
    Some(format!("203.0.113.{user}"))
}

fn behind_nat(_: u32) -> Option<String> {
    Some(NAT.into())
}

fn without_address(_: u32) -> Option<String> {
    None
}

// === targets ===

fn victim(_: u32) -> String {
    VICTIM.into()
}

fn name_of_1_000(number: u32) -> String {
    listed_name(number % 1_000)
}

fn name_of_100_000(number: u32) -> String {
    listed_name(number % 100_000)
}

/// A list of names, of which the first are those of the honest users.
fn listed_name(number: u32) -> String {
    if number < HONEST_USERS { super::people::honest_name(number) } else { format!("stranger{number}") }
}
