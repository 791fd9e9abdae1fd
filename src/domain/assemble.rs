//! Puts the components together, each with the parts that it needs.

use std::sync::Arc;

use super::{
    Auth, Environment, HashPool, RateLimitSettings, Rules, Store, TokenSettings, Username,
    abuse::{AttemptLimits, ProofOfWork},
    account::{Accounts, UserWriter},
    admin::Admin,
    authn::Authenticator,
    gateway::Gateway,
    session::{IntrospectionCache, SessionWriter, Sessions},
    token::KeyRingCache,
};
use crate::common::completion::Completion;

/// The parts that several components share.
struct Parts {
    store: Arc<dyn Store>,
    environment: Environment,
    pool: Arc<HashPool>,
    keys: Arc<KeyRingCache>,
    limits: Arc<AttemptLimits>,
    proof_of_work: Arc<ProofOfWork>,
    cache: Arc<IntrospectionCache>,
    completion: Completion,
}

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
        Username::prepare();
        let parts = Parts::new(store, pool, &rules, &tokens, rate_limits, environment);
        let authenticator = Arc::new(parts.authenticator());
        let sessions = Arc::new(parts.sessions(tokens));
        let accounts = Arc::new(parts.accounts(authenticator.clone(), sessions.clone()));
        let gateway = Gateway { environment: parts.environment.clone(), sessions: sessions.clone() };
        let admin = Arc::new(parts.admin(sessions.clone()));
        let Parts { environment, pool, keys, limits, proof_of_work, .. } = parts;
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

impl Parts {
    fn new(
        store: Arc<dyn Store>,
        pool: HashPool,
        rules: &Rules,
        tokens: &TokenSettings,
        rate_limits: Option<RateLimitSettings>,
        environment: Environment,
    ) -> Self {
        let cache = Arc::new(IntrospectionCache::new(tokens.check_reuse, environment.clock.clone()));
        if !tokens.check_reuse.is_zero() {
            let cache = cache.clone();
            store.watch(Arc::new(move |notice| cache.apply(notice)));
        }
        let pool = Arc::new(pool);
        let keys = Arc::new(KeyRingCache::new(store.clone(), environment.clone()));
        let limits = AttemptLimits::new(store.clone(), keys.clone(), environment.clone(), rate_limits);
        let proof_of_work =
            ProofOfWork::new(store.clone(), keys.clone(), pool.clone(), environment.clone(), rules.challenges);
        let (limits, proof_of_work) = (Arc::new(limits), Arc::new(proof_of_work));
        Self { store, environment, pool, keys, limits, proof_of_work, cache, completion: Completion::new() }
    }

    fn authenticator(&self) -> Authenticator {
        Authenticator {
            store: self.store.clone(),
            environment: self.environment.clone(),
            limits: self.limits.clone(),
            proof_of_work: self.proof_of_work.clone(),
            pool: self.pool.clone(),
        }
    }

    fn sessions(&self, settings: TokenSettings) -> Sessions {
        Sessions {
            store: self.store.clone(),
            environment: self.environment.clone(),
            keys: self.keys.clone(),
            limits: self.limits.clone(),
            settings,
            cache: self.cache.clone(),
            writer: Arc::new(SessionWriter::new(self.store.clone(), self.cache.clone())),
            completion: self.completion.clone(),
        }
    }

    fn users(&self) -> UserWriter {
        let (store, environment) = (self.store.clone(), self.environment.clone());
        UserWriter { store, environment, cache: self.cache.clone() }
    }

    fn accounts(&self, authenticator: Arc<Authenticator>, sessions: Arc<Sessions>) -> Accounts {
        Accounts {
            store: self.store.clone(),
            environment: self.environment.clone(),
            keys: self.keys.clone(),
            pool: self.pool.clone(),
            limits: self.limits.clone(),
            proof_of_work: self.proof_of_work.clone(),
            authenticator,
            sessions,
            users: self.users(),
            user_locks: Arc::default(),
            rehash_tasks: Arc::default(),
            completion: self.completion.clone(),
        }
    }

    fn admin(&self, sessions: Arc<Sessions>) -> Admin {
        Admin {
            store: self.store.clone(),
            environment: self.environment.clone(),
            keys: self.keys.clone(),
            limits: self.limits.clone(),
            users: self.users(),
            sessions,
            completion: self.completion.clone(),
        }
    }
}
