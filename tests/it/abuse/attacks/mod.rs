//! Simulated attacks: an hour of each at servers with the default limits, beside a victim and honest users.
//!
//! The calls go through the gRPC API, one after the other; the clock moves a second at a time. So the figures are the same in
//! every run. They are the table of `docs/security/brute-force.md`. In the short form the two largest attacks are a tenth as
//! large, and their rows are not compared.
//!
//! `WATCHWORD_TEST_FULL=1 WATCHWORD_TEST_WRITE=1 cargo test --locked --test it abuse::attacks` writes the table.

mod attack;
mod graphics_card;
mod outcome;
mod passwords;
mod people;
mod service;
mod table;

use futures_util::future::join_all;

use self::{attack::Attack, outcome::Outcome, people::People, service::Service};

/// Runs one attack.
async fn simulate(attack: Attack) -> (Attack, Outcome) {
    let service = Service::start(&attack).await;
    let mut people = People::registered(&service, &attack).await;
    let (mut outcome, mut passwords, mut card) = (Outcome::default(), attack.passwords, attack.card.clone());
    for second in 0..attack.seconds {
        if let Some(passwords) = &mut passwords {
            passwords.second(&service, second, attack.scale, &mut outcome.attempts).await;
        }
        if let Some(card) = &mut card {
            card.second(&service, second, &mut outcome.attempts).await;
        }
        if People::is_victim_due(second) {
            // The victim's success is about to clear a record.
            outcome.records = outcome.records.max(service.failure_records().await);
        }
        people.second(&service, second, &mut outcome).await;
        service.end_second().await;
    }
    service.assert_verified_attempts_are_the_hashes();
    (attack, outcome)
}

async fn simulate_all(attacks: Vec<Attack>) -> Vec<(Attack, Outcome)> {
    let running = join_all(attacks.into_iter().map(|attack| tokio::spawn(simulate(attack)))).await;
    running.into_iter().map(|ended| ended.expect("the simulation ends")).collect()
}

/// What does not hold of what the page promises about this attack.
fn broken_claims(attack: &Attack, outcome: &Outcome) -> Vec<String> {
    let (claims, attempts) = (&attack.claims, &outcome.attempts);
    let mut broken = Vec::new();
    let (verified, at_one_account) = (attempts.verified(), attempts.at_one_account());
    if verified > claims.verified_max / attack.scale {
        broken.push(format!("{verified} attempts were verified"));
    }
    if at_one_account > claims.at_one_account_max {
        broken.push(format!("{at_one_account} attempts were verified at one account"));
    }
    for way in claims.open_ways {
        let successes = outcome.victim.of(*way);
        if !successes.is_all() {
            broken.push(format!("the victim got in {successes} by {way:?}"));
        }
    }
    if outcome.honest.right < outcome.honest.tried {
        broken.push(format!("the honest users got in {}", outcome.honest));
    }
    broken.iter().map(|claim| format!("{}: {claim}", attack.name)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn hour_of_each_attack_lets_the_users_in_and_has_the_figures_of_the_page() {
    let simulated = simulate_all(attack::all()).await;
    let broken: Vec<_> = simulated.iter().flat_map(|(attack, outcome)| broken_claims(attack, outcome)).collect();
    let table = table::table(&simulated);
    assert!(broken.is_empty(), "{broken:#?}\n\n{table}");
    table::assert_page_has(&simulated, &table);
}

/// The control: the same attack without limits breaks the claims.
#[tokio::test(flavor = "multi_thread")]
async fn control_without_limits_all_attempts_are_verified() {
    let attack = attack::all().into_iter().find(|attack| attack.nodes > 1).unwrap();
    let attack = Attack { seconds: 60, throttle: "off", ..attack };
    let (attack, outcome) = simulate(attack).await;
    assert_eq!(outcome.attempts.verified(), outcome.attempts.sent);
    let broken = broken_claims(&attack, &outcome).join("\n");
    assert!(broken.contains("attempts were verified at one account"), "{broken}");
}
