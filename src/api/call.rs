//! What every call has, whatever its protocol: context, time limit, panic guard, metrics.
//!
//! Guarantees: a call is answered before its deadline, with DEADLINE_EXCEEDED at the latest; a panic becomes one INTERNAL
//! answer whose error id is in the log; every call is measured once, also when its caller goes away.
//!
//! It does not know how a protocol frames messages, names its deadline, or encodes an error.

use std::{
    net::IpAddr,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use http::{Extensions, HeaderMap, header};

use super::forwarded::{ClientAddress, TrustedProxies};
use crate::domain::{Api, Auth, Bearer, CallContext, Clock, DEADLINE_DEFAULT, Error, Event, Peer, Violation};

/// The longest time that a call may take, for callers that ask for more.
const TIMEOUT_MAX: Duration = Duration::from_secs(30);

/// Subtracted from the caller's timeout, so that the answer arrives before the caller's own timer ends the call.
const TIMEOUT_MARGIN: Duration = Duration::from_millis(5);

/// Where a call comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallOrigin {
    peer: Peer,
    /// The end user's address, where a trusted proxy names it.
    forwarded: Option<IpAddr>,
}

impl CallOrigin {
    /// Reads the peer that `net` stores with each request, and the address that a trusted proxy names.
    ///
    /// # Errors
    /// A trusted proxy sent something that is not an address.
    pub(crate) fn read(
        extensions: &Extensions,
        headers: &HeaderMap,
        proxies: &TrustedProxies,
    ) -> Result<Self, Violation> {
        let peer = extensions.get::<Peer>().copied().unwrap_or(Peer::Local { uid: None });
        Ok(Self { peer, forwarded: proxies.client(peer, headers)? })
    }

    /// The context of a call from here. `whose` says which address is the end user's.
    pub(crate) fn context(self, api: Api, whose: ClientAddress, headers: &HeaderMap, deadline: Instant) -> CallContext {
        let values = headers.get_all(header::AUTHORIZATION).iter().map(|value| value.as_bytes());
        CallContext {
            api,
            peer: self.peer,
            client: self.client(whose),
            deadline,
            bearer: Bearer::parse(values),
            user_agent: CallContext::user_agent(headers.get(header::USER_AGENT).map(|value| value.as_bytes())),
        }
    }

    fn client(self, whose: ClientAddress) -> Option<IpAddr> {
        let peer = match self.peer {
            Peer::Ip(address) => Some(address),
            Peer::Local { .. } => None,
        };
        match whose {
            ClientAddress::Forwarded => self.forwarded,
            ClientAddress::Peer => self.forwarded.or(peer),
            ClientAddress::None => None,
        }
    }
}

/// The deadline of a call that begins now and whose caller waits for `timeout`, where the caller names it.
pub(crate) fn deadline(clock: &dyn Clock, timeout: Option<Duration>) -> Instant {
    let timeout = timeout.map_or(DEADLINE_DEFAULT, |timeout| timeout.saturating_sub(TIMEOUT_MARGIN.min(timeout / 10)));
    clock.monotonic() + timeout.min(TIMEOUT_MAX)
}

/// Runs a call until its deadline, then drops it.
///
/// # Errors
/// `DeadlineExceeded`, and those of the call.
pub(crate) async fn in_time<T, E: From<Error>>(
    auth: &Auth,
    deadline: Instant,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let left = deadline.saturating_duration_since(auth.environment().clock.monotonic());
    tokio::time::timeout(left, call).await.unwrap_or_else(|_| Err(Error::DeadlineExceeded.into()))
}

/// Runs a call and turns its panic into an error.
///
/// # Errors
/// `Internal` after a panic.
pub(crate) async fn catch_panic<T>(auth: &Auth, call: impl Future<Output = T>) -> Result<T, Error> {
    let answer = AssertUnwindSafe(call).catch_unwind().await;
    answer.map_err(|_| auth.environment().internal_error("a call panicked; the panic is logged above"))
}

/// What a metric says about a call. Callers choose none of it.
#[derive(Debug)]
pub(crate) enum CallLabels {
    /// A gRPC call.
    Rpc {
        /// `package.Service/Method`.
        method: &'static str,
        /// The name of the gRPC status code.
        code: &'static str,
    },
    /// An HTTP request.
    Http {
        /// The template of the route.
        route: &'static str,
        /// The request method.
        method: &'static str,
        /// The response status.
        status: u16,
    },
}

/// Measures one call. It reports the call when it is dropped, with the labels of that moment.
pub(crate) struct CallMetrics {
    auth: Arc<Auth>,
    began: Instant,
    /// The initial labels are those of a call whose caller goes away.
    pub(crate) labels: CallLabels,
}

impl CallMetrics {
    /// A call that begins now.
    pub(crate) fn begin(auth: Arc<Auth>, labels: CallLabels) -> Self {
        Self { began: auth.environment().clock.monotonic(), auth, labels }
    }
}

impl Drop for CallMetrics {
    fn drop(&mut self) {
        let environment = self.auth.environment();
        let took = environment.since(self.began);
        environment.note(&match self.labels {
            CallLabels::Rpc { method, code } => Event::CallEnded { method, code, took },
            CallLabels::Http { route, method, status } => Event::RequestEnded { route, method, status, took },
        });
    }
}
