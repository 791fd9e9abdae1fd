//! The hash queue when it is contended: a client that floods it with right passwords fills its own share.

use std::net::SocketAddr;

use futures_util::future::join_all;
use tokio::{task::JoinSet, time::timeout};

use crate::support::{App, StoreKind, WAIT_MAX, http_from, password, query};

/// The accounts of the attacker, and the logins of each that are under way.
const ACCOUNTS: usize = 12;
const LOGINS: usize = 16;

const ATTACKER: [u8; 4] = [127, 1, 1, 1];

/// A login with the right password, from an address. Returns the HTTP status.
async fn login_status(to: SocketAddr, from: [u8; 4], name: &str) -> u16 {
    let target = format!("/login?{}", query(&[("username", name), ("password", &password(name))]));
    http_from(from, to, "GET", &target).await.status
}

/// Twelve accounts of one attacker, whose passwords are right, do not keep users at other addresses out.
#[tokio::test(flavor = "multi_thread")]
async fn flood_of_right_passwords_refuses_itself_and_no_other_address() {
    for kind in StoreKind::ALL {
        let app = App::with(kind).args(&["--hash-workers", "1"]).start().await;
        let to = app.http_socket();
        for account in 0..ACCOUNTS {
            app.registered(&format!("own-{account}")).await;
        }
        app.registered("ada").await;
        // The queue fills: the worker stops at the first hash.
        app.events.hold_workers(true);
        let mut flood = JoinSet::new();
        for login in 0..ACCOUNTS * LOGINS {
            flood.spawn(async move { login_status(to, ATTACKER, &format!("own-{}", login % ACCOUNTS)).await });
        }
        for refused in 0..ACCOUNTS * LOGINS / 2 {
            let status = timeout(WAIT_MAX, flood.join_next()).await.expect("the queue is full").unwrap().unwrap();
            assert_eq!(status, 429, "{kind:?}: {refused} refused before");
        }
        let (refused, waiting) = (app.events.count("overloaded"), app.rules.hash_pool().depth());
        let users = (1..=8).map(|number| login_status(to, [127, 2, number, 1], "ada"));
        let release = async {
            // The jobs of the users wait, or a call was refused.
            let is_decided =
                || app.rules.hash_pool().depth() >= waiting + 8 || app.events.count("overloaded") > refused;
            while !is_decided() {
                tokio::task::yield_now().await;
            }
            app.events.hold_workers(false);
        };
        let (statuses, ()) = tokio::join!(join_all(users), release);
        assert_eq!(statuses, [200; 8], "{kind:?}: users at other addresses");
        let attackers = flood.join_all().await;
        assert!(attackers.contains(&200), "{kind:?}: the attacker has a share too");
    }
}
