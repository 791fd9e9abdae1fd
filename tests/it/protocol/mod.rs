//! The APIs: gRPC, the original routes, errors, the proto contract, reflection, health, Envoy.

mod envoy;
mod errors;
mod grpc;
mod health;
mod original_routes;
mod proto;
mod reflection;
