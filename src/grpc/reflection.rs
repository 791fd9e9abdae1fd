//! Server reflection, v1 and v1alpha, for grpcurl, grpcui, Postman and `buf curl`.
//!
//! A file is answered with all of its imports, byte for byte as it was compiled, with comments and custom options. This is
//! not tonic-reflection, because that ends the stream at an unknown symbol, finds no extensions and keeps a decoded copy
//! of every file.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
    sync::{Arc, OnceLock},
};

use futures_util::{Stream, StreamExt};
use prost::Message;
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto};
use tokio::sync::watch;
use tonic::{Code, Request, Response, Status, Streaming};

use super::{Readiness, status};
use crate::api::{
    FILE_DESCRIPTOR_SET,
    reflection::{
        ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse, ListServiceResponse, ServerReflectionRequest,
        ServerReflectionResponse, ServiceResponse, server_reflection_request::MessageRequest,
        server_reflection_response::MessageResponse, server_reflection_server,
    },
};

/// The reflection service of one listener.
#[derive(Clone)]
pub(super) struct ReflectionService {
    services: Arc<[&'static str]>,
    readiness: watch::Receiver<Readiness>,
    /// Built at the first request, so that it costs nothing where reflection is not used.
    index: Arc<OnceLock<DescriptorIndex>>,
}

impl ReflectionService {
    /// Describes these services: those of the listener.
    pub(super) fn new(services: Vec<&'static str>, readiness: watch::Receiver<Readiness>) -> Self {
        Self { services: services.into(), readiness, index: Arc::default() }
    }

    fn answer(&self, request: ServerReflectionRequest) -> ServerReflectionResponse {
        let answer = match &request.message_request {
            Some(question) => self.look_up(question),
            None => None,
        };
        // An error is a response: the stream stays open for the next request.
        let answer = answer.unwrap_or_else(|| {
            MessageResponse::ErrorResponse(ErrorResponse {
                error_code: Code::NotFound.into(),
                error_message: "not found".into(),
            })
        });
        ServerReflectionResponse {
            valid_host: request.host.clone(),
            original_request: Some(request),
            message_response: Some(answer),
        }
    }

    fn look_up(&self, question: &MessageRequest) -> Option<MessageResponse> {
        let index = self.index.get_or_init(DescriptorIndex::new);
        match question {
            MessageRequest::FileByFilename(name) => index.file(name),
            MessageRequest::FileContainingSymbol(symbol) => {
                index.file(index.symbols.get(symbol.trim_start_matches('.'))?)
            }
            MessageRequest::FileContainingExtension(wanted) => {
                let number = index.extensions.get(wanted.containing_type.trim_start_matches('.'))?;
                index.file(number.get(&wanted.extension_number)?)
            }
            MessageRequest::AllExtensionNumbersOfType(name) => {
                let name = name.trim_start_matches('.');
                index.symbols.get(name)?;
                let extension_number =
                    index.extensions.get(name).map(|numbers| numbers.keys().copied().collect()).unwrap_or_default();
                Some(MessageResponse::AllExtensionNumbersResponse(ExtensionNumberResponse {
                    base_type_name: name.into(),
                    extension_number,
                }))
            }
            MessageRequest::ListServices(_) => {
                let service = self.services.iter().map(|name| ServiceResponse { name: (*name).into() }).collect();
                Some(MessageResponse::ListServicesResponse(ListServiceResponse { service }))
            }
        }
    }
}

#[tonic::async_trait]
impl server_reflection_server::ServerReflection for ReflectionService {
    type ServerReflectionInfoStream = Pin<Box<dyn Stream<Item = Result<ServerReflectionResponse, Status>> + Send>>;

    async fn server_reflection_info(
        &self,
        request: Request<Streaming<ServerReflectionRequest>>,
    ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
        let reflection = self.clone();
        let mut readiness = self.readiness.clone();
        // Tools keep their stream open. A node that drains does not wait for them.
        let draining = async move { drop(readiness.wait_for(|now| *now == Readiness::Draining).await) };
        let answers = request
            .into_inner()
            .map(move |question| Ok(reflection.answer(question.map_err(status::completed)?)))
            .take_until(draining);
        Ok(Response::new(Box::pin(answers)))
    }
}

/// The file that describes each name.
struct DescriptorIndex {
    files: BTreeMap<String, IndexedFile>,
    /// Fully qualified name -> file.
    symbols: BTreeMap<String, String>,
    /// Extended message -> field number -> file.
    extensions: BTreeMap<String, BTreeMap<i32, String>>,
}

struct IndexedFile {
    encoded: Vec<u8>,
    imports: Vec<String>,
}

/// A descriptor set whose files stay encoded. Decoding would lose their custom options.
#[derive(Clone, PartialEq, Message)]
struct EncodedFiles {
    #[prost(bytes = "vec", repeated, tag = "1")]
    file: Vec<Vec<u8>>,
}

// === impl DescriptorIndex ===

impl DescriptorIndex {
    fn new() -> Self {
        let set = EncodedFiles::decode(FILE_DESCRIPTOR_SET).expect("the build wrote a descriptor set");
        let mut index = Self { files: BTreeMap::new(), symbols: BTreeMap::new(), extensions: BTreeMap::new() };
        for encoded in set.file {
            let file = FileDescriptorProto::decode(&*encoded).expect("the build wrote whole files");
            index.add(&file);
            index.files.insert(file.name().into(), IndexedFile { encoded, imports: file.dependency });
        }
        index
    }

    fn add(&mut self, file: &FileDescriptorProto) {
        let (name, scope) = (file.name(), file.package());
        for message in &file.message_type {
            self.add_message(name, scope, message);
        }
        for enumeration in &file.enum_type {
            self.add_enum(name, scope, enumeration);
        }
        self.add_extensions(name, scope, &file.extension);
        for service in &file.service {
            let service_name = self.add_symbol(name, scope, service.name());
            for method in &service.method {
                self.add_symbol(name, &service_name, method.name());
            }
        }
    }

    fn add_message(&mut self, file: &str, scope: &str, message: &DescriptorProto) {
        let scope = &self.add_symbol(file, scope, message.name());
        for field in &message.field {
            self.add_symbol(file, scope, field.name());
        }
        for oneof in &message.oneof_decl {
            self.add_symbol(file, scope, oneof.name());
        }
        for nested in &message.nested_type {
            self.add_message(file, scope, nested);
        }
        for enumeration in &message.enum_type {
            self.add_enum(file, scope, enumeration);
        }
        self.add_extensions(file, scope, &message.extension);
    }

    fn add_enum(&mut self, file: &str, scope: &str, enumeration: &EnumDescriptorProto) {
        self.add_symbol(file, scope, enumeration.name());
        // The scope of a value is the scope that holds its enum (C++ scoping).
        for value in &enumeration.value {
            self.add_symbol(file, scope, value.name());
        }
    }

    fn add_extensions(&mut self, file: &str, scope: &str, extensions: &[FieldDescriptorProto]) {
        for extension in extensions {
            self.add_symbol(file, scope, extension.name());
            let extended = extension.extendee().trim_start_matches('.').to_owned();
            self.extensions.entry(extended).or_default().insert(extension.number(), file.into());
        }
    }

    fn add_symbol(&mut self, file: &str, scope: &str, name: &str) -> String {
        let full = if scope.is_empty() { name.to_owned() } else { format!("{scope}.{name}") };
        self.symbols.insert(full.clone(), file.into());
        full
    }

    /// The file, then all of its imports.
    fn file(&self, name: &str) -> Option<MessageResponse> {
        let mut wanted = vec![self.files.get_key_value(name)?.0.as_str()];
        let mut seen = BTreeSet::new();
        let mut file_descriptor_proto = Vec::new();
        while let Some(name) = wanted.pop() {
            let Some(file) = self.files.get(name) else { continue };
            if seen.insert(name) {
                file_descriptor_proto.push(file.encoded.clone());
                wanted.extend(file.imports.iter().map(String::as_str));
            }
        }
        Some(MessageResponse::FileDescriptorResponse(FileDescriptorResponse { file_descriptor_proto }))
    }
}
