//! T26: cancelled calls and calls past their deadline cost no hash that has not begun.

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
    api::{
        forwarded::{ClientAddress, TrustedProxies},
        pb,
    },
    domain::{
        Clock, Environment, Error, Event, HashPool, Observer, Password, System,
        password::{Cost, JobSource, Kernel, PoolSettings, Purpose},
    },
    grpc::{GrpcApi, MeasuredBody, Readiness},
    net::{Access, Address, Drain, Limits, Listener, serve},
};

use crate::support::{
    App, CHEAP, Events, ManualClock, StoreKind,
    frames::{END_STREAM, HEADERS, RST_STREAM, SETTINGS, begun, call, frame, next_frame},
    h2::framed,
};

const CALLS: u32 = 10_000;

/// The limit of waiting hash jobs: `QUEUE_JOBS_MAX` in the hash pool.
const QUEUE_JOBS_MAX: usize = 1_000;

const WORKERS: usize = 2;

/// Slow enough that the next callers have left before one hash ends.
const COST: Cost = Cost { memory_kib: 1_024, passes: 1, lanes: 1 };

/// h2 closes a connection with more reset streams that the server has not yet accepted.
const RESETS_PER_BATCH: u32 = 20;

/// Logins whose caller waits for the answer: one in each batch.
const WAITING_LOGINS: usize = (CALLS / RESETS_PER_BATCH) as usize;

/// Sends logins of ada, each followed at once by its reset. Each batch ends with one login that waits for its answer.
///
/// With `held`, the workers stop until the logins of a batch have ended, so that none of them is faster than a reset.
async fn send_reset_logins(to: SocketAddr, headers: &[(&str, &str)], held: Option<&Events>) {
    let login =
        framed(&pb::LoginRequest { username: "ada".into(), password: "not her password".into(), ..Default::default() });
    let mut stream = begun(to, &frame(SETTINGS, 0, 0, &[])).await;
    let mut streams = (1..).step_by(2);
    let registrations = 1;
    for batch in 0..WAITING_LOGINS {
        let mut bytes = Vec::new();
        for stream in streams.by_ref().take(RESETS_PER_BATCH as usize) {
            bytes.extend(call(stream, "/watchword.auth.v1.Auth/Login", headers, &login));
            bytes.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
        }
        if let Some(events) = held {
            let ended_before = registrations + batch * (RESETS_PER_BATCH as usize + 1);
            events.hold_workers(true);
            stream.write_all(&bytes).await.unwrap();
            events.reached("call ended", ended_before + RESETS_PER_BATCH as usize).await;
            events.hold_workers(false);
            bytes.clear();
        }
        // Calls are accepted and hashed in order: after the answer to this one, none of the others is left.
        let last = streams.next().expect("stream ids outnumber the calls");
        bytes.extend(call(last, "/watchword.auth.v1.Auth/Login", &[], &login));
        stream.write_all(&bytes).await.unwrap();
        loop {
            let frame = next_frame(&mut stream).await.expect("the connection stays open");
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

/// The hashes that ran for cancelled calls: all but those of the waiting logins and of ada's registration.
fn hashes_of_cancelled_calls(app: &App) -> usize {
    app.events.count("hashed").saturating_sub(WAITING_LOGINS + 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_cancelled_logins_cost_at_most_the_queued_hashes() {
    for headers in [&[][..], &[("grpc-timeout", "5m")]] {
        let app = server().await;
        send_reset_logins(app.grpc_socket(), headers, Some(&app.events)).await;
        let hashes = hashes_of_cancelled_calls(&app);
        assert!(hashes <= QUEUE_JOBS_MAX + WORKERS, "{hashes} hashes with {headers:?}");
        assert!(app.events.hashes_at_once_max() <= WORKERS.cast_signed());
    }
}

/// The control: a gRPC service that continues a call after its caller has left.
#[derive(Clone)]
struct IgnoresCancellation(GrpcApi);

impl Service<Request<Incoming>> for IgnoresCancellation {
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
async fn control_service_that_ignores_cancellation_exceeds_the_hash_limit() {
    let app = server().await;
    let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap(), Access::Group).unwrap();
    let Address::Tcp(address) = listener.address() else { unreachable!("bound to an internet address") };
    let (_readiness, ready) = watch::channel(Readiness::Ready);
    let (_drain, draining) = Drain::new();
    let api =
        IgnoresCancellation(GrpcApi::new(app.services(), TrustedProxies::default(), ClientAddress::None, ready, false));
    tokio::spawn(serve(listener, api, Limits::default(), draining));
    send_reset_logins(address, &[], None).await;
    assert!(hashes_of_cancelled_calls(&app) > QUEUE_JOBS_MAX + WORKERS, "the control hashed too little");
    assert!(app.events.hashes_at_once_max() <= WORKERS.cast_signed());
}

/// Counts hashes, and blocks the worker at its first hash until the gate is open.
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

/// What the callers do while their jobs wait.
#[derive(Debug, PartialEq, Eq)]
enum Callers {
    /// The control.
    Wait,
    Leave,
    MissDeadline,
}

#[tokio::test]
async fn cancelled_and_late_hash_jobs_are_skipped_and_the_others_are_hashed() {
    const JOBS: usize = 20;
    for callers in [Callers::Wait, Callers::Leave, Callers::MissDeadline] {
        let (clock, gate) = (Arc::new(ManualClock::default()), Arc::new(Gate::default()));
        let environment = Environment { clock: clock.clone(), entropy: Arc::new(System), observer: gate.clone() };
        let pool = HashPool::start(PoolSettings { workers: 1, cost: CHEAP }, Kernel::choose(), &environment);
        let job = |after| {
            let permit = pool.admit(JobSource::Node, Purpose::Account, clock.monotonic() + after).unwrap();
            Box::pin(permit.hash(Password::parse("a password".into()).unwrap()))
        };
        let waiting = |after| {
            let mut job = job(after);
            assert!(job.as_mut().now_or_never().is_none(), "the worker is blocked");
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
            Callers::MissDeadline => clock.advance(Duration::from_secs(5)),
        }
        gate.open();
        assert!(first.await.is_ok());
        let answers = join_all(jobs).await;
        // The queue is in order: when this job is done, no earlier job is left.
        assert!(job(Duration::from_secs(60)).await.is_ok());
        let expected = if callers == Callers::Wait { JOBS } else { 0 };
        assert_eq!(gate.hashes.load(Ordering::SeqCst), 1 + expected + 1, "{callers:?}");
        let missed_deadline = |answer: &Result<_, Error>| *answer == Err(Error::DeadlineExceeded);
        assert!(
            answers.iter().all(|answer| missed_deadline(answer) == (callers == Callers::MissDeadline)),
            "{callers:?}"
        );
    }
}
