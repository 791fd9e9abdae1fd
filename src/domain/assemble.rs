//! Puts the components together, each with the parts that it needs.

use std::sync::Arc;

use super::{
    Auth, Environment, HashPool, RateLimitSettings, Rules, Store, TokenSettings,
    abuse::{AttemptLimits, ProofOfWork},
    account::{Accounts, UserWriter},
    admin::Admin,
    authn::Authenticator,
    gateway::Gateway,
    session::{IntrospectionCache, SessionWriter, Sessions},
    token::KeyRingCache,
};
use crate::common::completion::Completion;

impl Auth {
    /// The service over a store. Without rate-limit settings nothing is limited.
    pub fn new(
        store: Arc<dyn Store>,
        pool: HashPool,
        rules: Rules,
        tokens: TokenSettings,
        rate_limits: Option<RateLimitSettings>,
        environment: Environment,
    ) -> Self {
        let cache = Arc::new(IntrospectionCache::new(tokens.check_reuse, environment.clock.clone()));
        if !tokens.check_reuse.is_zero() {
            let cache = cache.clone();
            store.watch(Arc::new(move |notice| cache.apply(notice)));
        }
        let (pool, completion) = (Arc::new(pool), Completion::new());
        let keys = Arc::new(KeyRingCache::new(store.clone(), environment.clone()));
        let limits = AttemptLimits::new(store.clone(), keys.clone(), environment.clone(), rate_limits);
        let limits = Arc::new(limits);
        let challenges = rules.challenges;
        let proof_of_work =
            ProofOfWork::new(store.clone(), keys.clone(), pool.clone(), environment.clone(), challenges);
        let proof_of_work = Arc::new(proof_of_work);
        let authenticator = Arc::new(Authenticator {
            store: store.clone(),
            environment: environment.clone(),
            limits: limits.clone(),
            proof_of_work: proof_of_work.clone(),
            pool: pool.clone(),
        });
        let sessions = Arc::new(Sessions {
            store: store.clone(),
            environment: environment.clone(),
            keys: keys.clone(),
            settings: tokens,
            cache: cache.clone(),
            writer: Arc::new(SessionWriter::new(store.clone(), cache.clone())),
            completion: completion.clone(),
        });
        let users = UserWriter { store: store.clone(), environment: environment.clone(), cache };
        let accounts = Arc::new(Accounts {
            store: store.clone(),
            environment: environment.clone(),
            keys: keys.clone(),
            pool: pool.clone(),
            limits: limits.clone(),
            proof_of_work: proof_of_work.clone(),
            authenticator: authenticator.clone(),
            sessions: sessions.clone(),
            users: users.clone(),
            user_locks: Arc::default(),
            rehash_tasks: Arc::default(),
            completion: completion.clone(),
        });
        let gateway = Gateway { environment: environment.clone(), sessions: sessions.clone() };
        let admin = Admin {
            store,
            environment: environment.clone(),
            keys: keys.clone(),
            limits: limits.clone(),
            users,
            completion,
        };
        let admin = Arc::new(admin);
        Self {
            environment,
            rules,
            keys,
            pool,
            limits,
            proof_of_work,
            authenticator,
            sessions,
            accounts,
            gateway,
            admin,
        }
    }
}
