//! Settings that do not go together. All faults are reported at once, and each says what to change.

use super::{Settings, StoreUrl, Switch};
use crate::{api::forwarded::ClientAddress, net::Address};

/// Words in `--password-context-words` at most: each new password is compared with all of them.
const CONTEXT_WORDS_MAX: usize = 100;

/// What is wrong with these settings.
pub(super) fn conflicts(settings: &Settings) -> Vec<String> {
    let mut faults = plain_text(settings);
    faults.extend(missing_claims(settings));
    faults.extend(undecided_client_address(settings));
    faults.extend(redis_alone(settings));
    if settings.store.store_must_exist && settings.store.store == StoreUrl::Memory {
        let fault = "--store-must-exist: --store memory: is new at every start; use another store, or leave it out";
        faults.push(fault.into());
    }
    if settings.users.password_context_words.len() > CONTEXT_WORDS_MAX {
        faults.push(format!("--password-context-words takes at most {CONTEXT_WORDS_MAX} words"));
    }
    if settings.tokens.oauth_clients_file.is_some() && settings.listeners.http.http_addr.0.is_none() {
        faults
            .push("--oauth-clients-file is for the HTTP listener: leave it out, or give --http-addr an address".into());
    }
    faults
}

/// The listeners to which clients send passwords, with their flags.
fn client_listeners(settings: &Settings) -> impl Iterator<Item = (&'static str, &Address)> {
    let grpc = ("--grpc-addr", &settings.listeners.grpc.grpc_addr);
    let http = settings.listeners.http.http_addr.0.as_ref().map(|address| ("--http-addr", address));
    [grpc].into_iter().chain(http)
}

fn plain_text(settings: &Settings) -> Vec<String> {
    if settings.listeners.insecure_plaintext {
        return Vec::new();
    }
    let fault = |(flag, address)| {
        format!(
            "{flag} {address} can be reached from other machines, and passwords would cross the network in plain text: use a \
             loopback address, or add --insecure-plaintext if a proxy in front provides TLS"
        )
    };
    client_listeners(settings).filter(|(_, address)| !address.is_local()).map(fault).collect()
}

fn missing_claims(settings: &Settings) -> Vec<String> {
    if client_listeners(settings).all(|(_, address)| address.is_local()) {
        return Vec::new();
    }
    let claims =
        [("--token-issuer", &settings.tokens.token_issuer), ("--token-audience", &settings.tokens.token_audience)];
    let fault = |flag| {
        format!(
            "{flag} must be set when a listener can be reached from other machines: it is a claim of every token, and \
             services that verify tokens compare it"
        )
    };
    claims.into_iter().filter(|(_, claim)| claim.is_none()).map(|(flag, _)| fault(flag)).collect()
}

/// Without a client address, an attacker behind one caller is not limited at other accounts. So where other machines reach the
/// listener, the operator must decide.
fn undecided_client_address(settings: &Settings) -> Option<String> {
    let listeners = &settings.listeners;
    if listeners.client_address == Some(ClientAddress::Forwarded) && listeners.trusted_proxy.is_empty() {
        return Some(
            "--client-address forwarded needs --trusted-proxy: no other peer's X-Forwarded-For is believed".into(),
        );
    }
    let is_limited = settings.abuse.throttle == Switch::On;
    let is_decided = listeners.client_address.is_some() || !listeners.trusted_proxy.is_empty();
    let address = &listeners.grpc.grpc_addr;
    (is_limited && !is_decided && !address.is_local()).then(|| {
        format!(
            "--client-address must be set, because --grpc-addr {address} can be reached from other machines: forwarded if your \
             services send the end user's address (then name them in --trusted-proxy), peer if end users connect themselves, \
             or none, with which password attempts are limited by account alone"
        )
    })
}

fn redis_alone(settings: &Settings) -> Vec<String> {
    if matches!(settings.store.store, StoreUrl::Redis(_)) {
        return Vec::new();
    }
    let redis = &settings.store.access.redis;
    let files = [("--store-password-file", &redis.store_password_file), ("--store-ca-file", &redis.store_ca_file)];
    let fault = |flag| format!("{flag} is for Redis: leave it out, or name a redis://… in --store");
    files.into_iter().filter(|(_, file)| file.is_some()).map(|(flag, _)| fault(flag)).collect()
}
