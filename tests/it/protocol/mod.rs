//! The APIs: gRPC, the original routes, web pages, errors, the proto contract, the method table, reflection, health, Envoy.

mod envoy;
mod errors;
mod grpc;
mod health;
mod methods;
mod original_routes;
mod proto;
mod reflection;
mod web_pages;
