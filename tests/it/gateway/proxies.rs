//! nginx, HAProxy and Caddy in front of the HTTP and the gRPC listener, with curl and grpcurl as clients.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use super::{Certificate, Running, certificate, deployed, free_port, start};
use crate::support::{
    App, StoreKind, is_full,
    program::{root, succeeds, tool},
};

const NAME: &str = "auth.example.com";
const GRPC: &str = "127.0.0.1:50051";
const HTTP: &str = "127.0.0.1:5000";

/// The client of HTTP requests: an address that no other part of a test has.
const CLIENT: &str = "127.9.8.7";

#[tokio::test]
async fn nginx_forwards_http_grpc_and_the_client_address() {
    proxy_forwards(async |app, certificate, folder| {
        let port = free_port();
        let (cert, key) = (certificate.cert.display(), certificate.key.display());
        let site = deployed(
            "nginx/watchword.conf",
            &[
                ("listen 443 ssl", &format!("listen 127.0.0.1:{port} ssl")),
                ("/etc/ssl/watchword/cert.pem", &cert.to_string()),
                ("/etc/ssl/watchword/key.pem", &key.to_string()),
                (HTTP, &app.http_socket().to_string()),
                (GRPC, &app.grpc_addr()),
            ],
        );
        fs::write(folder.path().join("site.conf"), site).unwrap();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|of| format!("{of}_temp_path {of};"));
        let main = format!(
            "daemon off; master_process off; pid pid; error_log stderr;\nevents {{}}\n\
             http {{ access_log off; {} include site.conf; }}\n",
            temporary.join(" ")
        );
        let file = folder.path().join("nginx.conf");
        fs::write(&file, main).unwrap();
        let prefix = folder.path().to_owned();
        start(
            Command::new(system_program("nginx")).arg("-p").arg(prefix).arg("-c").arg(file).args(["-e", "stderr"]),
            folder,
            port,
        )
        .await
    })
    .await;
}

#[tokio::test]
async fn haproxy_forwards_http_grpc_and_the_client_address() {
    proxy_forwards(async |app, certificate, folder| {
        let port = free_port();
        let config = deployed(
            "haproxy/haproxy.cfg",
            &[
                ("bind :443", &format!("bind 127.0.0.1:{port}")),
                ("/etc/ssl/watchword/cert-and-key.pem", &certificate.both.display().to_string()),
                (HTTP, &app.http_socket().to_string()),
                (GRPC, &app.grpc_addr()),
                ("50052", &app.ops_socket().port().to_string()),
            ],
        );
        let file = folder.path().join("haproxy.cfg");
        fs::write(&file, config).unwrap();
        let program = system_program("haproxy");
        start(Command::new(program).arg("-f").arg(file).arg("-db"), folder, port).await
    })
    .await;
}

/// In the long form: the first build of Caddy takes minutes.
#[tokio::test]
async fn caddy_forwards_http_grpc_and_the_client_address() {
    if !is_full() {
        return;
    }
    proxy_forwards(async |app, certificate, folder| {
        let port = free_port();
        let tls = format!("{NAME}:{port} {{\n\ttls {} {}", certificate.cert.display(), certificate.key.display());
        let config = deployed(
            "caddy/Caddyfile",
            &[
                ("auth.example.com {", &tls),
                (HTTP, &app.http_socket().to_string()),
                (GRPC, &app.grpc_addr()),
                ("50052", &app.ops_socket().port().to_string()),
            ],
        );
        let file = folder.path().join("Caddyfile");
        let global = "{\n\tadmin off\n\tauto_https disable_redirects\n\tskip_install_trust\n}\n";
        fs::write(&file, format!("{global}{config}")).unwrap();
        let mut caddy = Command::new(tool("caddy"));
        // Caddy keeps its own state there.
        caddy.env("HOME", folder.path()).env("XDG_DATA_HOME", folder.path()).env("XDG_CONFIG_HOME", folder.path());
        start(caddy.arg("run").arg("--config").arg(file).args(["--adapter", "caddyfile"]), folder, port).await
    })
    .await;
}

/// Debian installs it where only the PATH of root looks.
fn system_program(name: &str) -> PathBuf {
    let file = Path::new("/usr/sbin").join(name);
    if file.is_file() { file } else { tool(name) }
}

/// Starts Watchword and a proxy, and calls it as clients and as an attacker.
async fn proxy_forwards(proxy: impl AsyncFnOnce(&App, &Certificate, TempDir) -> Running) {
    let folder = TempDir::new().unwrap();
    let audit = folder.path().join("audit");
    let app = App::with(StoreKind::Memory)
        .args(&["--token-issuer", "https://auth.example.com", "--trusted-proxy", "127.0.0.1"])
        .args(&["--audit-log", &audit.display().to_string()])
        .start()
        .await;
    let certificate = certificate(folder.path()).await;
    let proxy = proxy(&app, &certificate, TempDir::new().unwrap()).await;
    let (port, cert) = (proxy.port, &certificate.cert);

    let keys = curl(cert, port, "/.well-known/jwks.json", &[]).await;
    assert!(keys.ends_with(" 200") && keys.contains("\"keys\""), "{keys}");
    let own = format!("origin: https://{NAME}:{port}");
    let forged = "x-forwarded-for: 198.51.100.1";
    let register = "/register?username=ada&password=a+password+of+ada&data=x";
    let reply = curl(cert, port, register, &["-X", "POST", "-H", &own, "-H", forged]).await;
    assert_eq!(reply, "Success 200", "a form of the site itself");
    let reply = curl(cert, port, "/login?username=ada&password=wrong", &["-H", "origin: https://evil.example"]).await;
    assert!(reply.contains("--http-allow-origin") && reply.ends_with(" 403"), "{reply}");
    let reply = curl(cert, port, "/", &["-H", "host: rebound.example"]).await;
    // Caddy answers itself, without a body.
    assert!(reply.ends_with(" 403") || reply == " 200", "another name: {reply}");

    let login = grpc(
        cert,
        port,
        "watchword.auth.v1.Auth/Login",
        "user-agent: x",
        r#"{"username":"ada","password":"a password of ada"}"#,
    )
    .await;
    assert!(login.contains("accessToken"), "{login}");
    let service = grpc(cert, port, "grpc.health.v1.Health/Check", "x: y", "{}").await;
    assert!(service.contains("SERVING"), "{service}");
    let hidden = Command::new(tool("grpcurl"))
        .args(grpc_args(cert, port, "x: y", "{}"))
        .arg("envoy.service.auth.v3.Authorization/Check")
        .output()
        .await;
    assert!(!hidden.unwrap().status.success(), "the authorization of gateways is not for clients");
    let wrong = r#"{"username":"ada","password":"a wrong password"}"#;
    let mut refused = Command::new(tool("grpcurl"));
    refused.args(grpc_args(cert, port, forged, wrong)).arg("watchword.auth.v1.Auth/Login");
    assert!(!refused.output().await.unwrap().status.success());

    drop(proxy);
    app.stopped().await;
    let lines: Vec<Value> =
        fs::read_to_string(&audit).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let clients: Vec<_> = lines.iter().filter_map(|line| line["client"].as_str()).collect();
    assert!(clients.contains(&CLIENT), "{lines:?}");
    assert!(!clients.contains(&"198.51.100.1"), "a forged address: {lines:?}");
}

/// The body and the status of a request to the proxy.
async fn curl(cert: &Path, port: u16, target: &str, args: &[&str]) -> String {
    let mut curl = Command::new(tool("curl"));
    curl.args(["-sS", "--noproxy", "*", "--interface", CLIENT, "-w", " %{http_code}"]).arg("--cacert").arg(cert);
    curl.arg("--resolve").arg(format!("{NAME}:{port}:127.0.0.1")).args(args);
    succeeds(curl.arg(format!("https://{NAME}:{port}{target}"))).await
}

async fn grpc(cert: &Path, port: u16, method: &str, header: &str, request: &str) -> String {
    succeeds(Command::new(tool("grpcurl")).args(grpc_args(cert, port, header, request)).arg(method)).await
}

fn grpc_args(cert: &Path, port: u16, header: &str, request: &str) -> Vec<String> {
    let proto = root().join("proto");
    let mut args = vec!["-cacert".to_owned(), cert.display().to_string(), "-authority".to_owned(), NAME.to_owned()];
    args.extend(["-import-path".to_owned(), proto.display().to_string()]);
    for file in
        ["watchword/auth/v1/auth.proto", "grpc/health/v1/health.proto", "envoy/service/auth/v3/external_auth.proto"]
    {
        args.extend(["-proto".to_owned(), file.to_owned()]);
    }
    args.extend(["-H".to_owned(), header.to_owned(), "-d".to_owned(), request.to_owned()]);
    args.push(format!("127.0.0.1:{port}"));
    args
}
