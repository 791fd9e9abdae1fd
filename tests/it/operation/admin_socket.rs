//! The admin socket: commands ask who answers before they send anything, and a node creates it where no other user can
//! replace it.

use std::{
    fs,
    io::Read,
    os::unix::{
        fs::{PermissionsExt, chown},
        net::UnixListener,
    },
    path::Path,
    process::Command,
    sync::mpsc,
    thread,
};

use rustix::thread::{Uid, set_thread_res_uid};
use tempfile::TempDir;

use crate::support::{BINARY, Node, WAIT_MAX, command, command_by, run, run_command};

/// A user that runs nodes, and one that runs none.
const SERVICE: u32 = 65_534;
const STRANGER: u32 = 12_345;

/// Listens at a path as another user, and returns what the first caller sends.
fn listen_as(user: u32, socket: &Path) -> thread::JoinHandle<Vec<u8>> {
    let (socket, (listens, is_ready)) = (socket.to_owned(), mpsc::channel());
    let thread = thread::spawn(move || {
        // Of this thread alone. The kernel keeps the user who listens.
        let id = Uid::from_raw(user);
        set_thread_res_uid(id, id, id).unwrap();
        let listener = UnixListener::bind(&socket).unwrap();
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
        listens.send(()).unwrap();
        let mut sent = Vec::new();
        listener.accept().unwrap().0.read_to_end(&mut sent).unwrap();
        sent
    });
    is_ready.recv_timeout(WAIT_MAX).unwrap();
    thread
}

fn as_user(user: u32, program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups", program]);
    command
}

/// Shows a user through the socket, as a user of this machine. Returns what the command says.
fn show(user: u32, socket: &Path) -> String {
    let address = format!("unix:{}", socket.display());
    let (code, _, err) =
        run_command(command_by(as_user(user, BINARY), &["user", "show", "ada", "--admin-addr", &address]));
    assert_eq!(code, 1, "there is no such user: {err}");
    err
}

/// A folder in which every user can create files.
fn shared_folder(mode: u32) -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
    folder
}

#[test]
fn command_sends_nothing_to_a_process_of_another_user() {
    let folder = shared_folder(0o1777);
    for (listens, calls) in [(SERVICE, 0), (SERVICE, STRANGER)] {
        let socket = folder.path().join(format!("{calls}.sock"));
        let listener = listen_as(listens, &socket);
        let said = show(calls, &socket);
        let expected = format!("a process of user {listens} answers, and you are user {calls}: nothing was sent");
        assert!(said.contains(&expected), "{said}");
        assert_eq!(listener.join().unwrap(), b"", "what the command sent");
    }
}

/// As under systemd, where the service has a user of its own and root administers it.
#[test]
fn command_of_root_or_of_the_same_user_calls_the_node_of_a_service_user() {
    let folder = shared_folder(0o755);
    chown(folder.path(), Some(SERVICE), Some(SERVICE)).unwrap();
    let mut serve = command_by(
        as_user(SERVICE, BINARY),
        &["--grpc-addr", "127.0.0.1:0", "--http-addr", "off", "--ops-addr", "off"],
    );
    serve.arg("--data-dir").arg(folder.path()).current_dir("/");
    let _node = Node::spawn(serve).unwrap_or_else(|log| panic!("{log}"));
    let socket = folder.path().join("admin.sock");
    for user in [0, SERVICE] {
        let said = show(user, &socket);
        assert!(!said.contains("nothing was sent") && said.contains("user"), "{user}: {said}");
        assert!(!said.contains("does not answer"), "{user}: {said}");
    }
    // In a folder that others can write, root cannot tell whose node it is.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(show(0, &socket).contains("nothing was sent"));
}

#[test]
fn node_creates_no_admin_socket_where_other_users_can_replace_it() {
    let data = TempDir::new().unwrap();
    let start = |folder: &TempDir| {
        let address = format!("unix:{}/admin.sock", folder.path().display());
        Node::try_start(data.path(), &["--admin-addr", &address])
    };
    let log = start(&shared_folder(0o777)).err().expect("a folder that others can write");
    assert!(log.contains("--admin-addr") && log.contains("other users can write the folder"), "{log}");
    let foreign = shared_folder(0o755);
    chown(foreign.path(), Some(STRANGER), None).unwrap();
    let log = start(&foreign).err().expect("a folder of another user");
    assert!(log.contains(&format!("belongs to user {STRANGER}")), "{log}");
    let sticky = shared_folder(0o1777);
    assert!(start(&sticky).is_ok(), "a folder such as /tmp");

    // The default path: the node serves its other APIs.
    let shared = shared_folder(0o777);
    let mut serve = command(&["--grpc-addr", "127.0.0.1:0", "--http-addr", "off", "--ops-addr", "off"]);
    serve.args(["--store", "memory:", "--data-dir"]).arg(shared.path());
    let node = Node::spawn(serve).unwrap_or_else(|log| panic!("{log}"));
    node.signal("TERM");
    let (_, log) = node.wait();
    assert!(log.contains("no admin listener") && log.contains("other users can write the folder"), "{log}");
    let (code, _, err) = run(&["user", "show", "ada", "--data-dir", shared.path().to_str().unwrap()]);
    assert!(code == 1 && err.contains("does not answer"), "{err}");
}
