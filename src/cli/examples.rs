//! `watchword examples`: calls to copy, for what a node with these settings serves.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use super::print;
use crate::{
    config::{GrpcListenerArgs, HttpListenerArgs},
    net::Address,
};

/// What the listeners serve beside the RPCs.
#[derive(Clone, Copy)]
pub(super) struct Open {
    pub legacy_routes: bool,
    pub reflection: bool,
}

pub(super) fn run(grpc: &GrpcListenerArgs, http: &HttpListenerArgs) -> Result<ExitCode, String> {
    let open = Open { legacy_routes: http.legacy_routes_are_on(), reflection: grpc.reflection_is_on() };
    print(&examples(&grpc.grpc_addr, http.http_addr.0.as_ref(), open))
}

pub(super) fn examples(grpc: &Address, http: Option<&Address>, open: Open) -> String {
    const SERVICE: &str = "watchword.auth.v1.Auth";
    let user = r#""username":"soham","password":"insecure""#;
    let (mut flags, address) = match grpc {
        Address::Tcp(address) => ("-plaintext".to_owned(), address.to_string()),
        // grpcurl takes no relative path.
        Address::Unix(path) => ("-plaintext -unix".to_owned(), absolute(path).display().to_string()),
    };
    let mut text = String::new();
    // Without reflection the contract comes from a file.
    if !open.reflection {
        flags.push_str(" -protoset watchword.binpb");
        text.push_str("  watchword descriptor > watchword.binpb\n");
    }
    text.push_str(&format!("  grpcurl {flags} {address} describe {SERVICE}\n"));
    text.push_str(&format!("  grpcurl {flags} -d '{{{user},\"data\":\"testing\"}}' {address} {SERVICE}/Register\n"));
    text.push_str(&format!("  grpcurl {flags} -d '{{{user}}}' {address} {SERVICE}/Login\n"));
    if let Some(http) = http.filter(|_| open.legacy_routes) {
        let target = match http {
            Address::Tcp(address) => format!("'http://{address}"),
            Address::Unix(path) => format!("--unix-socket {} 'http://localhost", absolute(path).display()),
        };
        text.push_str(&format!("  curl {target}/login?username=soham&password=insecure'\n"));
    }
    text
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
