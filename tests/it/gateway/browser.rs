//! Real Chromium: what a web page can do to the listeners of a Watchword on the same machine.
//!
//! In the long form alone. The page has buttons for every way out of a page that needs no permission: forms, scripts,
//! images and frames. It reports to its own server when all of them have ended.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    sync::mpsc,
    time::timeout,
};

use crate::support::{
    App, StoreKind, http, is_full,
    program::{succeeds, tool},
};

/// The start of Chromium takes seconds on a busy machine.
const BROWSER_TIMEOUT: Duration = Duration::from_secs(90);

/// How a page spells an address of this machine. The third is no loopback address for browsers, so they send it no
/// `Sec-Fetch-Site`; the fourth is one that an attacker owns and points here.
const SPELLINGS: [&str; 5] = ["127.0.0.1", "localhost", "[::ffff:7f00:1]", "rebound.example", "0.0.0.0"];

/// The requests of the page for one spelling, of which none may have an effect.
const PAGE: &str = r#"<!doctype html><title>page</title><script>
const spellings = SPELLINGS, port = PORT, ended = [];
const waits = (start) => ended.push(new Promise((end) => { start(end); setTimeout(end, 5000); }));
const target = (host, route, name) => `http://${host}:${port}${route}?username=${name}&password=a-password-of-a-page&data=x`;
addEventListener('load', async () => {
  spellings.forEach((host, number) => {
    waits((end) => {
      // The empty document of a new frame loads first.
      let loads = 0;
      const onload = () => { loads += 1; if (loads === 2) end(); };
      const frame = Object.assign(document.createElement('iframe'), { name: `frame${number}`, onload });
      document.body.append(frame);
      const form = Object.assign(document.createElement('form'), { method: 'post', target: frame.name });
      form.action = target(host, '/register', `form${number}`);
      document.body.append(form);
      form.submit();
    });
    for (const mode of ['no-cors', 'cors']) {
      waits((end) => fetch(target(host, '/register', `${mode}${number}`), { method: 'POST', mode }).finally(end).catch(() => {}));
    }
    waits((end) => {
      const image = Object.assign(new Image(), { onload: end, onerror: end, referrerPolicy: 'no-referrer' });
      image.src = target(host, '/login', `image${number}`);
    });
  });
  await Promise.all(ended);
  await fetch('/ended');
});
</script><body></body>"#;

#[tokio::test(flavor = "multi_thread")]
async fn page_of_another_origin_causes_no_registration_and_no_login() {
    if !is_full() {
        return;
    }
    let app = App::with(StoreKind::Memory).start().await;
    visit("evil.example", app.http_socket(), &SPELLINGS).await;
    assert_eq!((app.events.count("registered"), app.events.count("unknown user")), (0, 0));
    let page = http(app.ops_socket(), "GET", "/metrics", &[], "").await.body;
    let is_refused =
        |line: &&str| line.starts_with("http_server_request_duration_seconds_count") && line.contains("\"403\"");
    let refused: f64 =
        page.lines().filter(is_refused).map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum();
    assert!(refused >= 20.0, "the page reaches the listener and is refused: {refused}\n{page}");
}

/// The control: the same page may register users where the operator allows its origin.
#[tokio::test(flavor = "multi_thread")]
async fn page_of_an_allowed_origin_registers_users() {
    if !is_full() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://shop.example:{}", listener.local_addr().unwrap().port());
    let app = App::with(StoreKind::Memory).args(&["--http-allow-origin", &origin]).start().await;
    visit_from(listener, "shop.example", app.http_socket(), &SPELLINGS[..2]).await;
    let events = ["registered", "unknown user"].map(|name| app.events.count(name));
    assert_eq!(events, [6, 0], "forms and scripts register; an image sends no Origin");
}

#[tokio::test]
async fn rebound_name_shows_no_page_of_either_listener() {
    if !is_full() {
        return;
    }
    let app = App::with(StoreKind::Memory).start().await;
    for (socket, path, shown) in [(app.http_socket(), "/", "Hello World!"), (app.ops_socket(), "/readyz", "ready\n")] {
        for (host, is_shown) in [("127.0.0.1", true), ("rebound.example", false), ("[::ffff:7f00:1]", false)] {
            let folder = TempDir::new().unwrap();
            let mut chromium = chromium(&folder);
            let url = format!("http://{host}:{}{path}", socket.port());
            let dom = succeeds(chromium.args(["--dump-dom", &url])).await;
            assert_eq!(dom.contains(shown), is_shown, "{url}: {dom}");
            assert!(is_shown || dom.contains("--http-allow-host"), "{url}: {dom}");
        }
    }
}

/// Opens the page at a host name and waits until it has tried everything.
async fn visit(host: &str, target: SocketAddr, spellings: &[&str]) {
    visit_from(TcpListener::bind("127.0.0.1:0").await.unwrap(), host, target, spellings).await;
}

async fn visit_from(listener: TcpListener, host: &str, target: SocketAddr, spellings: &[&str]) {
    let url = format!("http://{host}:{}/page", listener.local_addr().unwrap().port());
    let page = PAGE.replace("SPELLINGS", &format!("{spellings:?}")).replace("PORT", &target.port().to_string());
    let (ended, mut has_ended) = mpsc::unbounded_channel();
    let serving = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, page.clone(), ended.clone()));
        }
    });
    let folder = TempDir::new().unwrap();
    let browser: Child = chromium(&folder).arg(&url).kill_on_drop(true).spawn().unwrap();
    timeout(BROWSER_TIMEOUT, has_ended.recv()).await.expect("the page ends").unwrap();
    drop(browser);
    serving.abort();
}

async fn serve(mut stream: TcpStream, page: String, ended: mpsc::UnboundedSender<()>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let body = if head.starts_with(b"GET /page ") { page.as_str() } else { "" };
    let length = body.len();
    let reply = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    drop(stream.write_all(reply.as_bytes()).await);
    if head.starts_with(b"GET /ended ") {
        ended.send(()).unwrap_or(());
    }
}

fn chromium(folder: &TempDir) -> Command {
    let program: PathBuf = tool("chromium");
    let mut chromium = Command::new(program);
    chromium.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]);
    chromium.args(["--no-proxy-server", "--disable-background-networking", "--disable-component-update"]);
    // The attacker's names, one of which was pointed to this machine after the page was loaded.
    chromium.arg("--host-resolver-rules=MAP *.example 127.0.0.1");
    chromium.arg(format!("--user-data-dir={}", folder.path().display())).env("HOME", folder.path());
    chromium.stdin(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    chromium
}
