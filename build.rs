//! Compiles `proto/` without protoc.
//!
//! Writes the generated Rust types, one descriptor set with all comments, and the names of all methods for metrics.
//! Reflection serves the descriptor set and `watchword descriptor` prints it. It contains only the services of the
//! APIs.

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

/// The old version of reflection: equal messages in another package, so it is described but not generated.
const DESCRIBED_ONLY: [&str; 1] = ["grpc/reflection/v1alpha/reflection.proto"];

/// Messages with secrets: their `Debug` is implemented in `src/api/mod.rs` and shows no field.
const SECRET: [&str; 14] = [
    "watchword.auth.v1.RegisterRequest",
    "watchword.auth.v1.LoginRequest",
    "watchword.auth.v1.RefreshTokenRequest",
    "watchword.auth.v1.IntrospectTokenRequest",
    "watchword.auth.v1.RevokeTokenRequest",
    "watchword.auth.v1.ChangePasswordRequest",
    "watchword.auth.v1.DeleteUserRequest",
    "watchword.auth.v1.ResetPasswordRequest",
    "watchword.auth.v1.CreatePasswordResetCodeResponse",
    "watchword.auth.v1.Tokens",
    // They contain the headers, the client address and the user of a request to another service.
    "envoy.service.auth.v3.CheckRequest",
    "envoy.service.auth.v3.CheckResponse",
    "envoy.service.auth.v3.AttributeContext.HttpRequest",
    "envoy.config.core.v3.HeaderValue",
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
    // Annotations for readers of the contract; the code does not use them.
    files.file.retain(|file| !file.package().starts_with("google.api"));
    tonic_prost_build::configure()
        .build_transport(false)
        .skip_debug(SECRET)
        .include_file("protos.rs")
        .compile_fds(files)?;
    Ok(())
}

/// The names of all methods in metrics, such as `watchword.auth.v1.Auth/Login`, sorted.
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
