//! Opens the connection to Watchword, and has methods for the most common calls.

use std::{fmt, future::ready, path::PathBuf, sync::Arc, time::Duration};

use tonic::{
    Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use super::{
    Calls,
    proof_of_work::{ChallengeSolver, ROUNDS_MAX},
    refusal,
};
use crate::{
    api::pb::{self, ChallengePurpose, auth_client::AuthClient},
    client::{Clock, SetupError, System, request_id::request_id, setup_error},
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
    solver: ChallengeSolver,
    clock: Arc<dyn Clock>,
}

/// The settings of a new connection.
#[derive(Debug)]
pub struct Builder {
    address: String,
    connect_timeout: Duration,
    call_timeout: Duration,
    ca_file: Option<PathBuf>,
    proof_of_work_rounds_max: Option<u64>,
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
            proof_of_work_rounds_max: Some(ROUNDS_MAX),
            clock: Arc::new(System),
        }
    }

    /// A client for every method of the contract. Calls without a deadline get the default of this client.
    pub fn auth(&self) -> AuthClient<Calls> {
        AuthClient::new(self.calls.clone())
    }

    /// Authenticates a user and creates a session. Sends the login again with proof of work, at most twice, where Watchword
    /// requires it, and where a rate limit refuses it that a login with proof of work passes: `address`, `account` and
    /// `address_and_account`.
    ///
    /// Each call has the deadline of this client; the proof of work between them takes about a second by default. Dropping
    /// the future stops it. A service that logs in the users of a site does not compute for them: see
    /// [`Builder::without_proof_of_work`].
    ///
    /// # Errors
    ///
    /// Those of the contract's Login. [`StatusExt::auth_reason`](super::StatusExt::auth_reason) returns the reason.
    /// CHALLENGE_REQUIRED where the proof of work is more than [`Builder::proof_of_work_rounds_max`].
    pub async fn login(&self, username: impl Into<String>, password: impl Into<String>) -> Result<Login, Status> {
        let (username, password) = (username.into(), password.into());
        let login = |challenge_solution| {
            let (username, password) = (username.clone(), password.clone());
            let request = pb::LoginRequest { username, password, challenge_solution };
            let mut auth = self.auth();
            async move { auth.login(request).await }
        };
        let challenge =
            pb::CreateChallengeRequest { purpose: ChallengePurpose::Login.into(), username: username.clone() };
        let response = self.with_proof_of_work(|| ready(Ok(challenge.clone())), login).await?.into_inner();
        let (Some(user), Some(tokens)) = (response.user, response.tokens) else {
            return Err(refusal::invalid_response("the response lacks the user or the tokens"));
        };
        Ok(Login { user, tokens })
    }

    /// Registers a user, with proof of work where Watchword requires it, as [`login`](Self::login) does. A request without
    /// `request_id` gets a random one. A request that has a `challenge_solution` is sent once, as it is.
    ///
    /// # Errors
    ///
    /// Those of the contract's Register, and CHALLENGE_REQUIRED as from [`login`](Self::login). It is safe to retry with the
    /// same `request_id`.
    pub async fn register(&self, mut request: pb::RegisterRequest) -> Result<pb::User, Status> {
        if request.request_id.is_empty() {
            request.request_id = request_id();
        }
        let response = if request.challenge_solution.is_empty() {
            let register = |challenge_solution| {
                let request = pb::RegisterRequest { challenge_solution, ..request.clone() };
                let mut auth = self.auth();
                async move { auth.register(request).await }
            };
            let purpose = ChallengePurpose::Register.into();
            let challenge = pb::CreateChallengeRequest { purpose, ..Default::default() };
            self.with_proof_of_work(|| ready(Ok(challenge.clone())), register).await?
        } else {
            self.auth().register(request).await?
        };
        response.into_inner().user.ok_or_else(|| refusal::invalid_response("the response lacks the user"))
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

    pub(super) fn solver(&self) -> &ChallengeSolver {
        &self.solver
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

    /// The rounds of PBKDF2 that one call computes for proof of work. Default: 500 million, about a minute of one core with SHA
    /// instructions, which computes some ten million a second. A challenge that asks for more is refused before it is begun,
    /// with CHALLENGE_REQUIRED; so is one with more than 100 000 rounds in one key.
    ///
    /// Watchword asks for 8 million on average by default, doubled for each 100 failed attempts with proof of work at the
    /// account. 500 million are usually enough for the first 600 failed attempts, 2 billion (some four minutes) for the first
    /// 800.
    pub fn proof_of_work_rounds_max(mut self, rounds: u64) -> Self {
        self.proof_of_work_rounds_max = Some(rounds);
        self
    }

    /// Solves no challenges: login and register return the server's CHALLENGE_REQUIRED. For a service that logs in the users
    /// of a site. There the browser solves the challenge, and a service that did it would compute for attackers.
    pub fn without_proof_of_work(mut self) -> Self {
        self.proof_of_work_rounds_max = None;
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
        Ok(self.client(channel?))
    }

    /// Connects at the first call. Calls return UNAVAILABLE until the server answers. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// When a setting is wrong.
    pub fn connect_lazy(self) -> Result<Client, SetupError> {
        let channel = self.endpoint()?.connect_lazy();
        Ok(self.client(channel))
    }

    fn client(self, channel: Channel) -> Client {
        let solver = ChallengeSolver::new(self.proof_of_work_rounds_max);
        Client { calls: Calls::new(channel, self.call_timeout), solver, clock: self.clock }
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
