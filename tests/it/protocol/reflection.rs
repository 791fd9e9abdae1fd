//! Reflection: every served symbol can be resolved, with comments, in the versions v1 and v1alpha.

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

/// Sends all requests in one stream to one version, and collects the responses.
async fn call(channel: Channel, version: &str, messages: Vec<MessageRequest>) -> Vec<MessageResponse> {
    let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
    let mut grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(16 << 20);
    grpc.ready().await.unwrap();
    let requests: Vec<_> = messages
        .into_iter()
        .map(|message| ServerReflectionRequest { host: String::new(), message_request: Some(message) })
        .collect();
    let codec = tonic_prost::ProstCodec::<ServerReflectionRequest, ServerReflectionResponse>::default();
    let responses = grpc.streaming(Request::new(iter(requests)), PathAndQuery::try_from(path).unwrap(), codec).await;
    let responses = responses.unwrap().into_inner().map(|response| response.unwrap().message_response.unwrap());
    responses.collect().await
}

fn files(response: &MessageResponse) -> Vec<FileDescriptorProto> {
    let MessageResponse::FileDescriptorResponse(found) = response else { panic!("not a file response: {response:?}") };
    found.file_descriptor_proto.iter().map(|file| FileDescriptorProto::decode(&**file).unwrap()).collect()
}

fn not_found(response: &MessageResponse) -> bool {
    matches!(response, MessageResponse::ErrorResponse(error) if error.error_code == 5)
}

#[tokio::test]
async fn every_service_method_file_and_import_resolves_in_both_versions() {
    let app = app().await;
    for version in ["v1", "v1alpha"] {
        let responses = call(app.channel().await, version, vec![MessageRequest::ListServices(String::new())]).await;
        let MessageResponse::ListServicesResponse(list) = &responses[0] else { panic!("{responses:?}") };
        let services: BTreeSet<_> = list.service.iter().map(|service| service.name.as_str()).collect();
        let mounted = [
            "envoy.service.auth.v3.Authorization",
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
            "watchword.auth.v1.Auth",
        ];
        assert_eq!(services, BTreeSet::from(mounted), "exactly the served services");

        for service in services {
            let responses =
                call(app.channel().await, version, vec![MessageRequest::FileContainingSymbol(service.into())]).await;
            let found: BTreeMap<_, _> =
                files(&responses[0]).into_iter().map(|file| (file.name().to_owned(), file)).collect();
            for file in found.values() {
                for import in &file.dependency {
                    assert!(
                        found.contains_key(import),
                        "{} imports {import}, which is not in the response",
                        file.name()
                    );
                }
            }
            for method in found.values().flat_map(|file| &file.service).flat_map(|service| &service.method) {
                let symbol = format!("{service}.{}", method.name());
                let responses =
                    call(app.channel().await, version, vec![MessageRequest::FileContainingSymbol(symbol)]).await;
                assert!(!not_found(&responses[0]));
            }
        }
    }
}

#[tokio::test]
async fn unknown_symbol_is_not_found_and_the_stream_continues() {
    let app = app().await;
    for version in ["v1", "v1alpha"] {
        let messages = vec![
            MessageRequest::FileContainingSymbol("nope.Nope".into()),
            MessageRequest::FileByFilename("nope.proto".into()),
            MessageRequest::FileContainingSymbol("watchword.auth.v1.LoginRequest.username".into()),
            MessageRequest::FileContainingSymbol("watchword.auth.v1.ERROR_REASON_INTERNAL".into()),
            MessageRequest::FileContainingSymbol("google.rpc.BadRequest.FieldViolation".into()),
        ];
        let responses = call(app.channel().await, version, messages).await;
        assert_eq!(responses.len(), 5);
        assert!(not_found(&responses[0]) && not_found(&responses[1]));
        assert_eq!(files(&responses[2])[0].name(), "watchword/auth/v1/auth.proto", "the file of the symbol is first");
        assert_eq!(files(&responses[3])[0].name(), "watchword/auth/v1/error_reason.proto");
        assert_eq!(files(&responses[4])[0].name(), "google/rpc/error_details.proto");
    }
}

#[tokio::test]
async fn extensions_and_their_files_are_found() {
    let app = app().await;
    let field_options = "google.protobuf.FieldOptions";
    let messages = vec![
        MessageRequest::AllExtensionNumbersOfType(field_options.into()),
        MessageRequest::FileContainingExtension(ExtensionRequest {
            containing_type: field_options.into(),
            extension_number: 1052,
        }),
        MessageRequest::AllExtensionNumbersOfType("nope.Nope".into()),
    ];
    let responses = call(app.channel().await, "v1", messages).await;
    let MessageResponse::AllExtensionNumbersResponse(numbers) = &responses[0] else { panic!("{responses:?}") };
    assert!(numbers.extension_number.contains(&1052), "google.api.field_behavior");
    assert_eq!(files(&responses[1])[0].name(), "google/api/field_behavior.proto");
    assert!(not_found(&responses[2]));
}

#[tokio::test]
async fn served_files_equal_the_compiled_files_with_their_comments() {
    #[derive(Clone, PartialEq, Message)]
    struct Encoded {
        #[prost(bytes = "bytes", repeated, tag = "1")]
        file: Vec<Bytes>,
    }
    let compiled = Encoded::decode(FILE_DESCRIPTOR_SET).unwrap().file;
    let names = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap().file;
    let app = app().await;
    let messages = names.iter().map(|file| MessageRequest::FileByFilename(file.name().into())).collect();
    let responses = call(app.channel().await, "v1", messages).await;
    for (response, compiled) in responses.iter().zip(&compiled) {
        let MessageResponse::FileDescriptorResponse(found) = response else { panic!("{response:?}") };
        assert_eq!(found.file_descriptor_proto[0], **compiled);
    }
    let auth = names.iter().find(|file| file.name() == "watchword/auth/v1/auth.proto").unwrap();
    let comments: Vec<_> =
        auth.source_code_info.as_ref().unwrap().location.iter().filter_map(|l| l.leading_comments.as_deref()).collect();
    assert!(comments.iter().any(|comment| comment.contains("grpcurl -plaintext")));
}

#[tokio::test]
async fn open_reflection_stream_ends_at_the_drain() {
    let mut app = app().await;
    let mut grpc = tonic::client::Grpc::new(app.channel().await);
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<ServerReflectionRequest, ServerReflectionResponse>::default();
    let path = PathAndQuery::from_static("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo");
    let first = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let requests = iter([first]).chain(futures_util::stream::pending());
    let mut responses = grpc.streaming(Request::new(requests), path, codec).await.unwrap().into_inner();
    assert!(responses.message().await.unwrap().is_some());
    app.stop();
    assert!(responses.message().await.unwrap().is_none(), "the stream ends without an error");
}
