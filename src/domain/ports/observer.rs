//! The receiver of events.

use crate::domain::event::Event;

/// Receives events. Called while a request is served, so it must not block.
pub trait Observer: Send + Sync {
    /// Receives `event`.
    fn on(&self, event: &Event<'_>);
}

/// Ignores all events.
impl Observer for () {
    fn on(&self, _: &Event<'_>) {}
}
