//! Server reflection, v1 and v1alpha, for grpcurl, grpcui, Postman and `buf curl`.
//!
//! A file is answered with all of its imports, byte for byte as it was compiled, with comments and custom options. This is
//! not tonic-reflection, because that ends the stream at an unknown symbol, finds no extensions and keeps a decoded copy
//! of every file.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
};

use futures_util::{Stream, StreamExt};
use tokio::sync::watch;
use tonic::{Code, Request, Response, Status, Streaming};

use super::{Readiness, descriptor_index::DescriptorIndex, status};
use crate::api::reflection::{
    ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse, ListServiceResponse, ServerReflectionRequest,
    ServerReflectionResponse, ServiceResponse, server_reflection_request::MessageRequest,
    server_reflection_response::MessageResponse, server_reflection_server,
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
            MessageRequest::FileByFilename(name) => files(index, name),
            MessageRequest::FileContainingSymbol(symbol) => {
                files(index, index.symbols.get(symbol.trim_start_matches('.'))?)
            }
            MessageRequest::FileContainingExtension(wanted) => {
                let number = index.extensions.get(wanted.containing_type.trim_start_matches('.'))?;
                files(index, number.get(&wanted.extension_number)?)
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
        // Tools keep their stream open. A node that closes its connections does not wait for them.
        let closing = async move { drop(readiness.wait_for(|now| *now == Readiness::Closing).await) };
        let answers = request
            .into_inner()
            .map(move |question| Ok(reflection.answer(question.map_err(status::completed)?)))
            .take_until(closing);
        Ok(Response::new(Box::pin(answers)))
    }
}

fn files(index: &DescriptorIndex, name: &str) -> Option<MessageResponse> {
    let file_descriptor_proto = index.file(name)?;
    Some(MessageResponse::FileDescriptorResponse(FileDescriptorResponse { file_descriptor_proto }))
}
