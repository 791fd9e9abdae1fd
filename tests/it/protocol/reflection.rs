//! Reflection: everything that is served can be resolved, with comments, by its new and its old name.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures_util::{StreamExt, stream::iter};
use prost::Message;
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use tonic::{Request, codegen::http::uri::PathAndQuery, transport::Channel};
use watchword::api::{
    FILE_DESCRIPTOR_SET,
    reflection::{
        ExtensionRequest, ServerReflectionRequest, ServerReflectionResponse, server_reflection_request::MessageRequest,
        server_reflection_response::MessageResponse,
    },
};

use crate::support::app;

/// Asks all questions in one stream of one version, and collects the answers.
async fn ask(channel: Channel, version: &str, questions: Vec<MessageRequest>) -> Vec<MessageResponse> {
    let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
    let mut grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(16 << 20);
    grpc.ready().await.unwrap();
    let requests: Vec<_> = questions
        .into_iter()
        .map(|question| ServerReflectionRequest { host: String::new(), message_request: Some(question) })
        .collect();
    let codec = tonic_prost::ProstCodec::<ServerReflectionRequest, ServerReflectionResponse>::default();
    let answers = grpc.streaming(Request::new(iter(requests)), PathAndQuery::try_from(path).unwrap(), codec).await;
    let answers = answers.unwrap().into_inner().map(|answer| answer.unwrap().message_response.unwrap());
    answers.collect().await
}

fn files(answer: &MessageResponse) -> Vec<FileDescriptorProto> {
    let MessageResponse::FileDescriptorResponse(found) = answer else { panic!("no files: {answer:?}") };
    found.file_descriptor_proto.iter().map(|file| FileDescriptorProto::decode(&**file).unwrap()).collect()
}

fn not_found(answer: &MessageResponse) -> bool {
    matches!(answer, MessageResponse::ErrorResponse(error) if error.error_code == 5)
}

#[tokio::test]
async fn every_service_method_file_and_import_resolves_in_both_versions() {
    let app = app().await;
    for version in ["v1", "v1alpha"] {
        let answers = ask(app.channel().await, version, vec![MessageRequest::ListServices(String::new())]).await;
        let MessageResponse::ListServicesResponse(list) = &answers[0] else { panic!("{answers:?}") };
        let services: BTreeSet<_> = list.service.iter().map(|service| service.name.as_str()).collect();
        let mounted = [
            "envoy.service.auth.v3.Authorization",
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
            "watchword.auth.v1.Auth",
        ];
        assert_eq!(services, BTreeSet::from(mounted), "exactly what is mounted");

        for service in services {
            let answers =
                ask(app.channel().await, version, vec![MessageRequest::FileContainingSymbol(service.into())]).await;
            let found: BTreeMap<_, _> =
                files(&answers[0]).into_iter().map(|file| (file.name().to_owned(), file)).collect();
            for file in found.values() {
                for import in &file.dependency {
                    assert!(found.contains_key(import), "{} imports {import}, which did not come along", file.name());
                }
            }
            for method in found.values().flat_map(|file| &file.service).flat_map(|service| &service.method) {
                let symbol = format!("{service}.{}", method.name());
                let answers =
                    ask(app.channel().await, version, vec![MessageRequest::FileContainingSymbol(symbol)]).await;
                assert!(!not_found(&answers[0]));
            }
        }
    }
}

#[tokio::test]
async fn an_unknown_symbol_is_an_answer_and_the_stream_goes_on() {
    let app = app().await;
    for version in ["v1", "v1alpha"] {
        let questions = vec![
            MessageRequest::FileContainingSymbol("nope.Nope".into()),
            MessageRequest::FileByFilename("nope.proto".into()),
            MessageRequest::FileContainingSymbol("watchword.auth.v1.LoginRequest.username".into()),
            MessageRequest::FileContainingSymbol("watchword.auth.v1.ERROR_REASON_INTERNAL".into()),
            MessageRequest::FileContainingSymbol("google.rpc.BadRequest.FieldViolation".into()),
        ];
        let answers = ask(app.channel().await, version, questions).await;
        assert_eq!(answers.len(), 5);
        assert!(not_found(&answers[0]) && not_found(&answers[1]));
        assert_eq!(files(&answers[2])[0].name(), "watchword/auth/v1/auth.proto", "itself first");
        assert_eq!(files(&answers[3])[0].name(), "watchword/auth/v1/error_reason.proto");
        assert_eq!(files(&answers[4])[0].name(), "google/rpc/error_details.proto");
    }
}

#[tokio::test]
async fn extensions_are_found() {
    let app = app().await;
    let field_options = "google.protobuf.FieldOptions";
    let questions = vec![
        MessageRequest::AllExtensionNumbersOfType(field_options.into()),
        MessageRequest::FileContainingExtension(ExtensionRequest {
            containing_type: field_options.into(),
            extension_number: 1052,
        }),
        MessageRequest::AllExtensionNumbersOfType("nope.Nope".into()),
    ];
    let answers = ask(app.channel().await, "v1", questions).await;
    let MessageResponse::AllExtensionNumbersResponse(numbers) = &answers[0] else { panic!("{answers:?}") };
    assert!(numbers.extension_number.contains(&1052), "google.api.field_behavior");
    assert_eq!(files(&answers[1])[0].name(), "google/api/field_behavior.proto");
    assert!(not_found(&answers[2]));
}

#[tokio::test]
async fn files_travel_as_they_were_compiled_with_comments_and_options() {
    #[derive(Clone, PartialEq, Message)]
    struct Encoded {
        #[prost(bytes = "bytes", repeated, tag = "1")]
        file: Vec<Bytes>,
    }
    let compiled = Encoded::decode(FILE_DESCRIPTOR_SET).unwrap().file;
    let names = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap().file;
    let app = app().await;
    let questions = names.iter().map(|file| MessageRequest::FileByFilename(file.name().into())).collect();
    let answers = ask(app.channel().await, "v1", questions).await;
    for (answer, compiled) in answers.iter().zip(&compiled) {
        let MessageResponse::FileDescriptorResponse(found) = answer else { panic!("{answer:?}") };
        assert_eq!(found.file_descriptor_proto[0], **compiled);
    }
    let auth = names.iter().find(|file| file.name() == "watchword/auth/v1/auth.proto").unwrap();
    let comments: Vec<_> =
        auth.source_code_info.as_ref().unwrap().location.iter().filter_map(|l| l.leading_comments.as_deref()).collect();
    assert!(comments.iter().any(|comment| comment.contains("grpcurl -plaintext")));
}

#[tokio::test]
async fn an_open_reflection_stream_ends_at_the_drain() {
    let mut app = app().await;
    let mut grpc = tonic::client::Grpc::new(app.channel().await);
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<ServerReflectionRequest, ServerReflectionResponse>::default();
    let path = PathAndQuery::from_static("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo");
    let first = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let open = iter([first]).chain(futures_util::stream::pending());
    let mut answers = grpc.streaming(Request::new(open), path, codec).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().is_some());
    app.stop();
    assert!(answers.message().await.unwrap().is_none(), "the stream ends without an error");
}
