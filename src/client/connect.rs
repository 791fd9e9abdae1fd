//! The connection to Watchword, and the calls that most programs need.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use tonic::{
    Status,
    transport::{Certificate, ClientTlsConfig, Endpoint},
};
use tower::Layer;

use super::{Authorize, Calls, Clock, SetupError, System, TokenSource, refusal, setup};
use crate::api::pb::{self, auth_client::AuthClient};

/// How long a connection may take, when the program does not say.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a call may take, when neither the program nor the call says.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection without traffic is asked whether it is still there, and given up when it does not answer.
const KEEPALIVE: Duration = Duration::from_secs(60);
const KEEPALIVE_ANSWER: Duration = Duration::from_secs(20);

/// A connection to Watchword. Cheap to clone; all clones share one HTTP/2 connection, which is opened again when it broke.
#[derive(Clone)]
pub struct Client {
    calls: Calls,
    clock: Arc<dyn Clock>,
}

/// A connection to be made.
#[derive(Debug)]
pub struct Builder {
    address: String,
    connect_timeout: Duration,
    call_timeout: Duration,
    ca_file: Option<PathBuf>,
    clock: Arc<dyn Clock>,
}

/// A user who signed in.
#[derive(Debug, Clone, PartialEq)]
pub struct Login {
    /// Who it is.
    pub user: pb::User,
    /// What he stays signed in with; [`TokenSource`] keeps it fresh.
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

    /// Every method of the contract. Calls without a deadline of their own get this client's.
    pub fn auth(&self) -> AuthClient<Calls> {
        AuthClient::new(self.calls.clone())
    }

    /// The same, as the user of these tokens: each call carries a valid access token.
    pub fn auth_as(&self, tokens: &TokenSource) -> AuthClient<Authorize<Calls>> {
        AuthClient::new(tokens.layer().layer(self.calls.clone()))
    }

    /// Signs a user in.
    ///
    /// # Errors
    ///
    /// Those of the contract's Login; [`StatusExt::auth_reason`](super::StatusExt::auth_reason) says which.
    pub async fn login(&self, username: impl Into<String>, password: impl Into<String>) -> Result<Login, Status> {
        let request = pb::LoginRequest { username: username.into(), password: password.into(), ..Default::default() };
        let answer = self.auth().login(request).await?.into_inner();
        let (Some(user), Some(tokens)) = (answer.user, answer.tokens) else {
            return Err(refusal::broken_answer("the answer lacks the user or the tokens"));
        };
        Ok(Login { user, tokens })
    }

    /// Asks whether a token of either kind counts now. One that does not is no error: its answer is not `active`.
    ///
    /// # Errors
    ///
    /// Those of the contract's IntrospectToken: when nobody can know.
    pub async fn introspect(&self, token: impl Into<String>) -> Result<pb::IntrospectTokenResponse, Status> {
        let request = pb::IntrospectTokenRequest { token: token.into() };
        Ok(self.auth().introspect_token(request).await?.into_inner())
    }

    pub(super) fn clock(&self) -> &dyn Clock {
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
    /// How long to wait for a connection; 5 s by default.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long a call may take that has no deadline of its own; 5 s by default. The server is told (`grpc-timeout`), and
    /// takes 30 s at most; what is not answered by then is DEADLINE_EXCEEDED here.
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = timeout;
        self
    }

    /// A PEM file of the authorities that sign the server's certificate, for https://. Default: those that the machine
    /// trusts.
    pub fn ca_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(file.into());
        self
    }

    /// Where time comes from, for tests of programs that keep tokens.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Connects.
    ///
    /// # Errors
    ///
    /// When a setting is wrong, or nobody answers in time.
    pub async fn connect(self) -> Result<Client, SetupError> {
        let endpoint = self.endpoint()?;
        let connected = endpoint.connect().await;
        let channel =
            connected.map_err(|cause| SetupError::because(format!("no connection to {}", self.address), cause));
        Ok(Client { calls: Calls::over(channel?, self.call_timeout), clock: self.clock })
    }

    /// Connects when the first call comes; until somebody answers, calls are UNAVAILABLE. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// When a setting is wrong.
    pub fn connect_lazy(self) -> Result<Client, SetupError> {
        let channel = self.endpoint()?.connect_lazy();
        Ok(Client { calls: Calls::over(channel, self.call_timeout), clock: self.clock })
    }

    fn endpoint(&self) -> Result<Endpoint, SetupError> {
        let wrong = |cause| SetupError::because(format!("the address {}", self.address), cause);
        let endpoint = Endpoint::from_shared(self.address.clone()).map_err(wrong)?;
        let endpoint = endpoint
            .user_agent(concat!("watchword-client/", env!("CARGO_PKG_VERSION")))
            .map_err(wrong)?
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE_ANSWER)
            .keep_alive_while_idle(true);
        if !self.address.starts_with("https:") {
            return Ok(endpoint);
        }
        let tls = match &self.ca_file {
            None => ClientTlsConfig::new().with_native_roots(),
            Some(file) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(setup::authorities(file)?)),
        };
        endpoint.tls_config(tls).map_err(|cause| SetupError::because("TLS", cause))
    }
}
