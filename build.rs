//! Compiles `proto/` without protoc.
//!
//! Writes the generated Rust types, the names of all methods for metrics, and one descriptor set with every comment in it.
//! Reflection serves the set, and `watchword descriptor` prints it. The set describes only services that the APIs have.

use std::{error::Error, fs, path::PathBuf};

const FILES: [&str; 8] = [
    "watchword/auth/v1/auth.proto",
    "watchword/auth/v1/auth_admin.proto",
    "watchword/auth/v1/error_reason.proto",
    "envoy/service/auth/v3/external_auth.proto",
    // Clients that use reflection need these two to decode error details.
    "google/rpc/error_details.proto",
    "google/rpc/status.proto",
    "grpc/health/v1/health.proto",
    "grpc/reflection/v1/reflection.proto",
];

/// The old name of reflection: the same messages in another package, so it is described but not generated.
const DESCRIBED_ONLY: [&str; 1] = ["grpc/reflection/v1alpha/reflection.proto"];

/// Services whose server side the method table replaces (`src/api/methods/`). Their clients are generated.
const IN_METHOD_TABLE: [&str; 2] = ["watchword.auth.v1", "envoy.service.auth.v3"];

/// Messages with secrets: their `Debug` is written by hand in `src/api/mod.rs` and prints no field.
const SECRET: [&str; 16] = [
    "watchword.auth.v1.RegisterRequest",
    "watchword.auth.v1.LoginRequest",
    "watchword.auth.v1.RefreshTokenRequest",
    "watchword.auth.v1.IntrospectTokenRequest",
    "watchword.auth.v1.RevokeTokenRequest",
    "watchword.auth.v1.ChangePasswordRequest",
    "watchword.auth.v1.DeleteUserRequest",
    "watchword.auth.v1.RevokeAllSessionsRequest",
    "watchword.auth.v1.ResetPasswordRequest",
    "watchword.auth.v1.CreatePasswordResetCodeResponse",
    "watchword.auth.v1.Tokens",
    // They contain the headers, the address and the user of the request that a gateway checks.
    "envoy.service.auth.v3.CheckRequest",
    "envoy.service.auth.v3.CheckResponse",
    "envoy.service.auth.v3.AttributeContext.HttpRequest",
    "envoy.config.core.v3.HeaderValue",
    "envoy.config.core.v3.SocketAddress",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);

    let mut described = protox::Compiler::new(["proto"])?;
    described.include_imports(true).include_source_info(true).open_files(FILES.iter().chain(&DESCRIBED_ONLY))?;
    // The encoded form keeps custom options such as google.api.field_behavior; the decoded form loses them.
    fs::write(out.join("watchword.binpb"), described.encode_file_descriptor_set())?;
    fs::write(out.join("methods.rs"), format!("{:?}", methods(&described)))?;

    let mut generated = protox::Compiler::new(["proto"])?;
    generated.include_imports(true).include_source_info(false).open_files(FILES)?;
    let mut files = generated.file_descriptor_set();
    // Only annotations for readers of the contract.
    files.file.retain(|file| !file.package().starts_with("google.api"));
    let mut builder = tonic_prost_build::configure();
    for package in IN_METHOD_TABLE {
        builder = builder.server_mod_attribute(package, "#[cfg(false)]");
    }
    builder.build_transport(false).skip_debug(SECRET).include_file("protos.rs").compile_fds(files)?;
    Ok(())
}

/// The name of every method in metrics, such as `watchword.auth.v1.Auth/Login`, sorted.
fn methods(described: &protox::Compiler) -> Vec<String> {
    let files = described.file_descriptor_set().file;
    let mut methods = Vec::new();
    for file in &files {
        for service in &file.service {
            let name = |method: &str| format!("{}.{}/{method}", file.package(), service.name());
            methods.extend(service.method.iter().map(|method| name(method.name())));
        }
    }
    methods.sort();
    methods
}
