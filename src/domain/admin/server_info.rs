//! What operators read about the server.

use super::Admin;
use crate::domain::{
    abuse::RateLimitSettings,
    context::CallContext,
    event::{AdminAction, Event},
};

impl Admin {
    /// Notes that an operator has read the server's state.
    pub fn note_server_read(&self, context: &CallContext) {
        let action = AdminAction::ReadServer;
        self.environment.note(&Event::AdminActed { context, act: action, user: None, refusal: None });
    }

    /// The rate limits; none where nothing is limited.
    pub fn rate_limit_settings(&self) -> Option<&RateLimitSettings> {
        self.limits.settings()
    }
}
