//! Opens the connection to Watchword, and has methods for the most common calls.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use tonic::{
    Status,
    transport::{Certificate, ClientTlsConfig, Endpoint},
};

use super::{Calls, refusal};
use crate::{
    api::pb::{self, auth_client::AuthClient},
    client::{Clock, SetupError, System, setup_error},
};

/// The default timeout for connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The default deadline of a call.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// An idle connection is pinged at this interval, and closed if it does not answer within the timeout.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// A connection to Watchword. Cheap to clone: all clones share one HTTP/2 connection, which is reopened after an error.
#[derive(Clone)]
pub struct Client {
    calls: Calls,
    clock: Arc<dyn Clock>,
}

/// The settings of a new connection.
#[derive(Debug)]
pub struct Builder {
    address: String,
    connect_timeout: Duration,
    call_timeout: Duration,
    ca_file: Option<PathBuf>,
    clock: Arc<dyn Clock>,
}

/// The result of a login.
#[derive(Debug, Clone, PartialEq)]
pub struct Login {
    /// The user.
    pub user: pb::User,
    /// The tokens of the new session. [`TokenSource`](crate::client::TokenSource) refreshes them.
    pub tokens: pb::Tokens,
}

// === impl Client ===

impl Client {
    /// Begins a connection to `http://host:port`, `https://host:port` or `unix:/path`.
    pub fn builder(address: impl Into<String>) -> Builder {
        Builder {
            address: address.into(),
            connect_timeout: CONNECT_TIMEOUT,
            call_timeout: CALL_TIMEOUT,
            ca_file: None,
            clock: Arc::new(System),
        }
    }

    /// A client for every method of the contract. Calls without a deadline get the default of this client.
    pub fn auth(&self) -> AuthClient<Calls> {
        AuthClient::new(self.calls.clone())
    }

    /// Authenticates a user and creates a session.
    ///
    /// # Errors
    ///
    /// Those of the contract's Login. [`StatusExt::auth_reason`](super::StatusExt::auth_reason) returns the reason.
    pub async fn login(&self, username: impl Into<String>, password: impl Into<String>) -> Result<Login, Status> {
        let request = pb::LoginRequest { username: username.into(), password: password.into(), ..Default::default() };
        let response = self.auth().login(request).await?.into_inner();
        let (Some(user), Some(tokens)) = (response.user, response.tokens) else {
            return Err(refusal::invalid_response("the response lacks the user or the tokens"));
        };
        Ok(Login { user, tokens })
    }

    /// Introspects an access token or a refresh token. For an invalid token it returns `active: false`, not an error.
    ///
    /// # Errors
    ///
    /// Those of the contract's IntrospectToken, when the token cannot be checked.
    pub async fn introspect(&self, token: impl Into<String>) -> Result<pb::IntrospectTokenResponse, Status> {
        let request = pb::IntrospectTokenRequest { token: token.into(), ..Default::default() };
        Ok(self.auth().introspect_token(request).await?.into_inner())
    }

    pub(in crate::client) fn calls(&self) -> Calls {
        self.calls.clone()
    }

    pub(in crate::client) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

// === impl Builder ===

impl Builder {
    /// The timeout for connecting. Default: 5 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The deadline of calls that set none. Default: 5 s. It is sent to the server (`grpc-timeout`), which allows 30 s at
    /// most. A call that is not answered by then returns DEADLINE_EXCEEDED.
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = timeout;
        self
    }

    /// A PEM file of the CA certificates that sign the server's certificate, for https://. Default: the CA certificates of
    /// the host.
    pub fn ca_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(file.into());
        self
    }

    /// The clock, for tests of programs that keep tokens.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Connects.
    ///
    /// # Errors
    ///
    /// When a setting is wrong, or no server answers in time.
    pub async fn connect(self) -> Result<Client, SetupError> {
        let endpoint = self.endpoint()?;
        let connected = endpoint.connect().await;
        let channel =
            connected.map_err(|cause| SetupError::because(format!("no connection to {}", self.address), cause));
        Ok(Client { calls: Calls::new(channel?, self.call_timeout), clock: self.clock })
    }

    /// Connects at the first call. Calls return UNAVAILABLE until the server answers. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// When a setting is wrong.
    pub fn connect_lazy(self) -> Result<Client, SetupError> {
        let channel = self.endpoint()?.connect_lazy();
        Ok(Client { calls: Calls::new(channel, self.call_timeout), clock: self.clock })
    }

    fn endpoint(&self) -> Result<Endpoint, SetupError> {
        let wrong = |cause| SetupError::because(format!("the address {}", self.address), cause);
        let endpoint = Endpoint::from_shared(self.address.clone()).map_err(wrong)?;
        let endpoint = endpoint
            .user_agent(concat!("watchword-client/", env!("CARGO_PKG_VERSION")))
            .map_err(wrong)?
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        if !self.address.starts_with("https:") {
            return Ok(endpoint);
        }
        let tls = match &self.ca_file {
            None => ClientTlsConfig::new().with_native_roots(),
            Some(file) => {
                ClientTlsConfig::new().ca_certificate(Certificate::from_pem(setup_error::read_ca_file(file)?))
            }
        };
        endpoint.tls_config(tls).map_err(|cause| SetupError::because("TLS", cause))
    }
}
