//! The contract itself: what the descriptors say, held against what the code does.

use prost_reflect::{DescriptorPool, Kind, MessageDescriptor, Value};
use watchword::api::{FILE_DESCRIPTOR_SET, pb};

fn pool() -> DescriptorPool {
    DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap()
}

fn ours() -> Vec<MessageDescriptor> {
    pool().all_messages().filter(|message| message.parent_file().package_name() == "watchword.auth.v1").collect()
}

#[test]
fn every_secret_is_marked_and_its_message_shows_nothing() {
    // Named like secrets, and none.
    const HARMLESS: [&str; 3] = ["page_token", "next_page_token", "token_type"];
    let mut secrets = Vec::new();
    for message in ours() {
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
    // Each of them is left out of the derived `Debug` in build.rs, and src/api/mod.rs prints only its name.
    let build = include_str!("../../../build.rs");
    for message in secrets {
        assert!(build.contains(&format!("\"{message}\"")), "build.rs derives a Debug for {message}");
    }
    let canary = || "canary".to_owned();
    let shown = [
        format!("{:?}", pb::RegisterRequest { username: canary(), password: canary(), ..Default::default() }),
        format!("{:?}", pb::LoginRequest { username: canary(), password: canary(), ..Default::default() }),
        format!("{:?}", pb::ChangePasswordRequest { current_password: canary(), new_password: canary() }),
        format!("{:?}", pb::Tokens { access_token: canary(), refresh_token: canary(), ..Default::default() }),
        format!(
            "{:?}",
            pb::LoginResponse { user: None, tokens: Some(pb::Tokens { access_token: canary(), ..Default::default() }) }
        ),
    ];
    assert!(shown.iter().all(|text| !text.contains("canary")), "{shown:?}");
}

#[test]
fn every_request_field_says_whether_it_is_required() {
    for message in ours().iter().filter(|message| message.name().ends_with("Request")) {
        for field in message.fields() {
            let behaviour = pool().get_extension_by_name("google.api.field_behavior").unwrap();
            assert!(field.options().has_extension(&behaviour), "{}", field.full_name());
        }
    }
}

#[test]
fn every_method_has_a_call_to_copy_that_names_it() {
    for (service, address) in [
        ("watchword.auth.v1.Auth", "localhost:50051"),
        ("watchword.auth.v1.AuthAdmin", "-unix $PWD/watchword-data/admin.sock"),
    ] {
        assert_calls_to_copy(service, address);
    }
}

fn assert_calls_to_copy(service: &str, address: &str) {
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
fn the_descriptor_command_writes_the_very_set_that_reflection_serves() {
    let output = crate::support::command(&["descriptor"]).output().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout, FILE_DESCRIPTOR_SET);
}
