//! What the admin API reads about the server.

use super::Admin;
use crate::domain::{
    abuse::RateLimitSettings,
    context::CallContext,
    event::{AdminAction, Event},
};

impl Admin {
    /// Reports that an operator has read the state of the server.
    pub fn note_server_read(&self, context: &CallContext) {
        let action = AdminAction::ReadServer;
        self.environment.note(&Event::AdminActed { context, act: action, user: None, refusal: None });
    }

    /// The rate limits. `None` if they are off.
    pub fn rate_limit_settings(&self) -> Option<&RateLimitSettings> {
        self.limits.settings()
    }
}
