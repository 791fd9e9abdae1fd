//! Runs the example clients.
