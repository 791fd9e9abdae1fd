//! The proto contract: the descriptors agree with the code.

use prost_reflect::{DescriptorPool, Kind, MessageDescriptor, Value};
use watchword::api::{FILE_DESCRIPTOR_SET, pb};

fn pool() -> DescriptorPool {
    DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap()
}

fn watchword_messages() -> Vec<MessageDescriptor> {
    pool().all_messages().filter(|message| message.parent_file().package_name() == "watchword.auth.v1").collect()
}

#[test]
fn every_secret_field_is_marked_and_hidden_in_debug() {
    // Their names look like secrets.
    const HARMLESS: [&str; 4] = ["page_token", "next_page_token", "token_type", "token_type_hint"];
    let mut secrets = Vec::new();
    for message in watchword_messages() {
        for field in message.fields().filter(|field| field.kind() == Kind::String) {
            let is_secret = ["password", "token", "secret", "code"].iter().any(|word| field.name().contains(word));
            let is_secret = is_secret && !HARMLESS.contains(&field.name());
            let options = field.options();
            let redacted = options.get_field_by_name("debug_redact").is_some_and(|value| *value == Value::Bool(true));
            assert_eq!(is_secret, redacted, "{}", field.full_name());
            if is_secret {
                secrets.push(message.full_name().to_owned());
            }
        }
    }
    assert!(secrets.len() >= 10, "{secrets:?}");
    // build.rs derives no `Debug` for these messages; src/api/mod.rs prints only their names.
    let build = include_str!("../../../build.rs");
    for message in secrets {
        assert!(build.contains(&format!("\"{message}\"")), "build.rs derives a Debug for {message}");
    }
    let canary = || "canary".to_owned();
    let shown = [
        format!("{:?}", pb::RegisterRequest { username: canary(), password: canary(), ..Default::default() }),
        format!("{:?}", pb::LoginRequest { username: canary(), password: canary(), ..Default::default() }),
        format!(
            "{:?}",
            pb::ChangePasswordRequest { current_password: canary(), new_password: canary(), ..Default::default() }
        ),
        format!("{:?}", pb::Tokens { access_token: canary(), refresh_token: canary(), ..Default::default() }),
        format!(
            "{:?}",
            pb::LoginResponse { user: None, tokens: Some(pb::Tokens { access_token: canary(), ..Default::default() }) }
        ),
    ];
    assert!(shown.iter().all(|text| !text.contains("canary")), "{shown:?}");
}

#[test]
fn every_request_field_has_a_field_behavior() {
    for message in watchword_messages().iter().filter(|message| message.name().ends_with("Request")) {
        for field in message.fields() {
            let behaviour = pool().get_extension_by_name("google.api.field_behavior").unwrap();
            assert!(field.options().has_extension(&behaviour), "{}", field.full_name());
        }
    }
}

/// Limits can ask for proof of work wherever a password is verified.
#[test]
fn every_request_that_shows_a_password_takes_a_solution() {
    let shows_password = |message: &MessageDescriptor| {
        ["password", "current_password"].iter().any(|name| message.get_field_by_name(name).is_some())
    };
    let found: Vec<_> = watchword_messages().into_iter().filter(shows_password).collect();
    let without = found.iter().filter(|message| message.get_field_by_name("challenge_solution").is_none());
    assert_eq!(without.map(MessageDescriptor::full_name).collect::<Vec<_>>(), Vec::<&str>::new());
    assert_eq!(found.len(), 5, "Register, Login, ChangePassword, DeleteUser, RevokeAllSessions");
}

#[test]
fn every_method_comment_has_a_grpcurl_call_of_the_method() {
    for (service, address) in [
        ("watchword.auth.v1.Auth", "localhost:50051"),
        ("watchword.auth.v1.AuthAdmin", "-unix $PWD/watchword-data/admin.sock"),
    ] {
        assert_grpcurl_calls(service, address);
    }
}

fn assert_grpcurl_calls(service: &str, address: &str) {
    let auth = pool().get_service_by_name(service).unwrap();
    let file = auth.parent_file().file_descriptor_proto().clone();
    for method in auth.methods() {
        let comment = file
            .source_code_info
            .as_ref()
            .unwrap()
            .location
            .iter()
            .find(|location| location.path == method.path())
            .and_then(|location| location.leading_comments.clone())
            .unwrap_or_default();
        let call = format!("{address} {service}/{}`", method.name());
        assert!(comment.contains("`grpcurl -plaintext ") && comment.contains(&call), "{}: {comment}", method.name());
    }
}

#[test]
fn descriptor_command_writes_the_set_that_reflection_serves() {
    let output = crate::support::command(&["descriptor"]).output().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout, FILE_DESCRIPTOR_SET);
}
