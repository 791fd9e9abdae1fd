//! Sessions and tokens: refresh, introspection, revocation, and the published keys.

mod introspection_cache;
mod oauth;
mod sessions;
mod well_known;
