//! The row of `envoy.service.auth.v3.Authorization`: gateways ask about each request that they hold.
//!
//! The call itself is OK, whatever the decision about the request is: the decision is in the response.

use super::{Services, method_table};
use crate::{
    api::{
        envoy_auth::{CheckRequest, CheckResponse},
        ext_authz::{AuthorizationCheck, check_response},
    },
    domain::{CallContext, Error},
};

/// Bytes of a description of a request. Envoy accepts 60 KiB of headers by default, all of which may be a path that is
/// sent twice, and may add a certificate. A gateway that fails open lets a request pass whose check is too large.
const CHECK_BYTES_MAX: usize = 256 * 1024;

method_table! {
    "envoy.service.auth.v3.Authorization";
    reads Check(CheckRequest) -> CheckResponse = check, CHECK_BYTES_MAX;
}

async fn check(services: &Services, gateway: &CallContext, request: CheckRequest) -> Result<CheckResponse, Error> {
    let AuthorizationCheck { bearer, client, route, changes } = request.into();
    // The token and the client of the held request count, not the gateway's own.
    let client = client.or(gateway.client);
    let context = CallContext { bearer, client, user_agent: gateway.user_agent.clone(), ..*gateway };
    let authorized = services.auth.authorize(&context, route).await;
    Ok(check_response(authorized, changes))
}
