//! The method table: complete, true to the proto, and callable without the types of its messages.

use std::{collections::BTreeSet, future::Future, pin::Pin, time::Duration};

use prost::Message;
use prost_reflect::{DescriptorPool, MethodDescriptor};
use prost_types::method_options::IdempotencyLevel;
use watchword::{
    api::{
        FILE_DESCRIPTOR_SET,
        methods::{Method, Protocol, ServiceTable, Services},
        pb,
    },
    domain::{Api, Bearer, CallContext, Error, Peer},
};

use crate::support::{app, password};

/// What a row says about its RPC.
#[derive(Debug, PartialEq, Eq)]
struct Description {
    name: String,
    request: String,
    response: String,
    has_side_effects: bool,
    is_streaming: bool,
}

impl Protocol for Description {
    type Row = Self;

    fn row<M: Method>() -> Self {
        Self {
            name: M::NAME.into(),
            request: proto_name::<M::Request>(),
            response: proto_name::<M::Response>(),
            has_side_effects: M::HAS_SIDE_EFFECTS,
            // `Method` takes one message and returns one.
            is_streaming: false,
        }
    }
}

/// `watchword.auth.v1.LoginRequest`, from the path of the generated type.
fn proto_name<T>() -> String {
    let (_, path) = std::any::type_name::<T>().split_once("generated::").expect("the messages are generated");
    path.replace("::", ".")
}

fn tables<P: Protocol>() -> [ServiceTable<P::Row>; 3] {
    [ServiceTable::auth::<P>(), ServiceTable::auth_admin::<P>(), ServiceTable::ext_authz::<P>()]
}

fn pool() -> DescriptorPool {
    DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap()
}

fn description(method: &MethodDescriptor) -> Description {
    let options = method.method_descriptor_proto().options.clone().unwrap_or_default();
    let reads = ["Get", "List", "Introspect", "Check"].iter().any(|verb| method.name().starts_with(verb));
    Description {
        name: format!("{}/{}", method.parent_service().full_name(), method.name()),
        request: method.input().full_name().into(),
        response: method.output().full_name().into(),
        has_side_effects: match options.idempotency_level() {
            // The proto says nothing, so the verb does (AIP-131, AIP-132).
            IdempotencyLevel::IdempotencyUnknown => !reads,
            IdempotencyLevel::NoSideEffects => false,
            IdempotencyLevel::Idempotent => true,
        },
        is_streaming: method.is_client_streaming() || method.is_server_streaming(),
    }
}

#[test]
fn every_service_of_the_proto_has_a_table_and_no_other() {
    let pool = pool();
    // Health and reflection belong to gRPC itself, so no other protocol has them.
    let described = pool.services().filter(|service| !service.full_name().starts_with("grpc."));
    let described: BTreeSet<String> = described.map(|service| service.full_name().to_owned()).collect();
    let tables: BTreeSet<String> = tables::<Description>().into_iter().map(|table| table.name.to_owned()).collect();
    assert_eq!(tables, described);
}

#[test]
fn every_rpc_of_the_proto_has_one_row_with_its_messages_in_order() {
    for table in tables::<Description>() {
        let service = pool().get_service_by_name(table.name).unwrap();
        let described: Vec<_> = service.methods().map(|method| description(&method)).collect();
        let names = |rows: &[Description]| rows.iter().map(|row| row.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&table.rows), names(&described));
        for (row, described) in table.rows.iter().zip(&described) {
            assert_eq!(row, described);
        }
    }
}

/// A protocol that knows messages only as bytes.
struct BytesProtocol;

struct BytesMethod {
    name: &'static str,
    call: BytesCall,
}

type BytesCall = for<'a> fn(
    &'a Services,
    &'a CallContext,
    &'a [u8],
) -> Pin<Box<dyn Future<Output = Result<Vec<u8>, Error>> + Send + 'a>>;

impl Protocol for BytesProtocol {
    type Row = BytesMethod;

    fn row<M: Method>() -> BytesMethod {
        let call: BytesCall = |services, context, request| {
            Box::pin(async move {
                let request = M::Request::decode(request).expect("the test sends messages");
                Ok(M::call(services, context, request).await?.encode_to_vec())
            })
        };
        BytesMethod { name: M::NAME, call }
    }
}

async fn call<Response: Message + Default>(
    services: &Services,
    name: &str,
    request: &impl Message,
) -> Result<Response, Error> {
    let rows = tables::<BytesProtocol>().into_iter().flat_map(|table| table.rows);
    let row = rows.into_iter().find(|row| row.name == name).expect("the table has the method");
    let context = CallContext {
        api: Api::Grpc,
        peer: Peer::Local { uid: None },
        client: None,
        deadline: services.auth.environment().clock.monotonic() + Duration::from_secs(5),
        bearer: Bearer::Missing,
        user_agent: String::new(),
    };
    let response = (row.call)(services, &context, &request.encode_to_vec()).await?;
    Ok(Response::decode(&*response).expect("the row encodes its response"))
}

#[tokio::test]
async fn protocol_without_message_types_calls_the_same_rows() {
    let app = app().await;
    let services = app.services();
    let (username, password) = ("ada".to_owned(), password("ada"));
    let register = pb::RegisterRequest { username: username.clone(), password: password.clone(), ..Default::default() };
    let registered: pb::RegisterResponse = call(&services, "watchword.auth.v1.Auth/Register", &register).await.unwrap();

    let login = pb::LoginRequest { username: username.clone(), password, ..Default::default() };
    let authenticated: pb::LoginResponse = call(&services, "watchword.auth.v1.Auth/Login", &login).await.unwrap();
    assert_eq!(authenticated.user.unwrap().user_id, registered.user.unwrap().user_id);

    let token = pb::IntrospectTokenRequest { token: authenticated.tokens.unwrap().access_token, ..Default::default() };
    let name = "watchword.auth.v1.Auth/IntrospectToken";
    let introspection: pb::IntrospectTokenResponse = call(&services, name, &token).await.unwrap();
    assert_eq!((introspection.active, introspection.username), (true, username));

    let wrong = pb::LoginRequest { password: "another one".into(), ..login };
    let refused = call::<pb::LoginResponse>(&services, "watchword.auth.v1.Auth/Login", &wrong).await;
    assert_eq!(refused.unwrap_err(), Error::InvalidCredentials);
}
