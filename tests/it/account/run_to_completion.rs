//! T26: callers who leave, or whose deadline passes, cost no hash that has not begun.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{FutureExt, future::join_all};
use hyper::{Request, Response, body::Incoming};
use tokio::{io::AsyncWriteExt, sync::watch};
use tower::Service;
use watchword::{
    api::{forwarded::TrustedProxies, pb},
    domain::{
        Clock, Environment, Error, Event, HashPool, Observer, Password, System,
        password::{Cost, Kernel, PoolSettings, Purpose},
    },
    grpc::{GrpcApi, MeasuredBody, Readiness},
    net::{Access, Address, Drain, Limits, Listener, serve},
};

use crate::support::{
    App, CHEAP, ManualClock, StoreKind,
    frames::{END_STREAM, HEADERS, RST_STREAM, SETTINGS, begun, call, frame, next_frame},
    h2::framed,
};

const CALLS: u32 = 10_000;

/// Hash jobs that may wait, as `domain/password/pool.rs` has it.
const QUEUE_JOBS_MAX: usize = 1_000;

const WORKERS: usize = 2;

/// Long enough for one hash that the callers behind it have left by its end.
const COST: Cost = Cost { memory_kib: 1_024, passes: 1, lanes: 1 };

/// h2 ends a connection with more resets of calls that it has not yet handed over.
const RESETS_AT_ONCE: u32 = 20;

/// Logins among them whose caller stays.
const STAY: usize = (CALLS / RESETS_AT_ONCE) as usize;

/// Sends logins of ada, each followed at once by its reset; and after some of them one that stays for its answer.
async fn logins_that_are_reset(to: SocketAddr, headers: &[(&str, &str)]) {
    let login =
        framed(&pb::LoginRequest { username: "ada".into(), password: "not her password".into(), ..Default::default() });
    let mut stream = begun(to, &frame(SETTINGS, 0, 0, &[])).await;
    let mut streams = (1..).step_by(2);
    for _ in 0..CALLS / RESETS_AT_ONCE {
        let mut bytes = Vec::new();
        for stream in streams.by_ref().take(RESETS_AT_ONCE as usize) {
            bytes.extend(call(stream, "/watchword.auth.v1.Auth/Login", headers, &login));
            bytes.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
        }
        // Calls are handed over and hashed in turn: once this one is answered, nothing is left of the others.
        let last = streams.next().expect("there are more streams than calls");
        bytes.extend(call(last, "/watchword.auth.v1.Auth/Login", &[], &login));
        stream.write_all(&bytes).await.unwrap();
        loop {
            let frame = next_frame(&mut stream).await.expect("the connection goes on");
            if frame.kind == HEADERS && frame.flags & END_STREAM != 0 {
                break;
            }
        }
    }
}

/// A server where ada is registered.
async fn server() -> App {
    let app = App::with(StoreKind::Memory)
        .change(|config| config.hashing = PoolSettings { workers: WORKERS, cost: COST })
        .start()
        .await;
    app.registered("ada").await;
    app
}

/// The hashes that have run for callers who did not stay. One is ada's registration.
fn hashes_for_nobody(app: &App) -> usize {
    app.events.count("hashed").saturating_sub(STAY + 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_logins_whose_callers_leave_cost_no_more_hashes_than_may_wait() {
    for headers in [&[][..], &[("grpc-timeout", "5m")]] {
        let app = server().await;
        logins_that_are_reset(app.grpc_socket(), headers).await;
        let ran = hashes_for_nobody(&app);
        assert!(ran <= QUEUE_JOBS_MAX + WORKERS, "{ran} hashes with {headers:?}");
        assert!(app.events.hashes_at_once_max() <= WORKERS.cast_signed());
    }
}

/// The control: an API that does not cancel a call whose caller has left.
#[derive(Clone)]
struct Detached(GrpcApi);

impl Service<Request<Incoming>> for Detached {
    type Response = Response<MeasuredBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let answer = tokio::spawn(self.0.call(request));
        Box::pin(async move { answer.await.unwrap() })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn api_that_does_not_cancel_abandoned_calls_is_detected() {
    let app = server().await;
    let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap(), Access::Group).unwrap();
    let Address::Tcp(address) = listener.address() else { unreachable!("bound to an internet address") };
    let (_readiness, ready) = watch::channel(Readiness::Ready);
    let (_drain, draining) = Drain::new();
    let api = Detached(GrpcApi::new(app.services(), TrustedProxies::default(), ready, false));
    tokio::spawn(serve(listener, api, Limits::default(), draining));
    logins_that_are_reset(address, &[]).await;
    assert!(hashes_for_nobody(&app) > QUEUE_JOBS_MAX + WORKERS, "the control shows nothing");
    assert!(app.events.hashes_at_once_max() <= WORKERS.cast_signed());
}

/// Counts hashes, and keeps the worker at its first one until it is opened.
#[derive(Default)]
struct Gate {
    hashes: AtomicUsize,
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

impl Observer for Gate {
    fn on(&self, event: &Event<'_>) {
        if matches!(event, Event::Hashed { .. }) {
            self.hashes.fetch_add(1, Ordering::SeqCst);
            drop(self.opened.wait_while(self.is_open.lock().unwrap(), |is_open| !*is_open).unwrap());
        }
    }
}

/// What becomes of the callers while their jobs wait.
#[derive(Debug, PartialEq, Eq)]
enum Callers {
    /// The control.
    Wait,
    Leave,
    AreLate,
}

#[tokio::test]
async fn jobs_that_nobody_waits_for_or_that_are_late_are_not_hashed_and_the_others_are() {
    const JOBS: usize = 20;
    for callers in [Callers::Wait, Callers::Leave, Callers::AreLate] {
        let (clock, gate) = (Arc::new(ManualClock::default()), Arc::new(Gate::default()));
        let environment = Environment { clock: clock.clone(), entropy: Arc::new(System), observer: gate.clone() };
        let pool = HashPool::start(PoolSettings { workers: 1, cost: CHEAP }, Kernel::choose(), &environment);
        let job = |after| {
            let permit = pool.admit(Purpose::Account, clock.monotonic() + after).unwrap();
            Box::pin(permit.hash(Password::parse("a password".into()).unwrap()))
        };
        let waiting = |after| {
            let mut job = job(after);
            assert!(job.as_mut().now_or_never().is_none(), "the worker is kept");
            job
        };
        let first = waiting(Duration::from_secs(60));
        while gate.hashes.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let mut jobs: Vec<_> = (0..JOBS).map(|_| waiting(Duration::from_secs(5))).collect();
        match callers {
            Callers::Wait => {}
            Callers::Leave => jobs.clear(),
            Callers::AreLate => clock.advance(Duration::from_secs(5)),
        }
        gate.open();
        assert!(first.await.is_ok());
        let answers = join_all(jobs).await;
        // Whoever comes last is answered when nothing of what waited is left.
        assert!(job(Duration::from_secs(60)).await.is_ok());
        let expected = if callers == Callers::Wait { JOBS } else { 0 };
        assert_eq!(gate.hashes.load(Ordering::SeqCst), 1 + expected + 1, "{callers:?}");
        let is_late = |answer: &Result<_, Error>| *answer == Err(Error::DeadlineExceeded);
        assert!(answers.iter().all(|answer| is_late(answer) == (callers == Callers::AreLate)), "{callers:?}");
    }
}
