//! Where events go.

use crate::domain::event::Event;

/// Who wants to know. Called on the path of a request, so it must not block.
pub trait Observer: Send + Sync {
    /// Takes notice of `event`.
    fn on(&self, event: &Event<'_>);
}

/// Nobody wants to know.
impl Observer for () {
    fn on(&self, _: &Event<'_>) {}
}
