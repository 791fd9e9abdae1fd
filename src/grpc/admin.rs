//! `watchword.auth.v1.AuthAdmin`: one thin method for each RPC.

use std::sync::Arc;

use tonic::{Request, Response};

use super::auth::{Answer, open, refused};
use crate::{
    domain::Auth,
    wire::{convert, pb},
};

/// The service; the rules are in [`Auth`].
#[derive(Clone)]
pub(super) struct AdminService {
    auth: Arc<Auth>,
}

impl AdminService {
    pub(super) fn new(auth: Arc<Auth>) -> Self {
        Self { auth }
    }
}

#[tonic::async_trait]
impl pb::auth_admin_server::AuthAdmin for AdminService {
    async fn rotate_signing_key(
        &self,
        request: Request<pb::RotateSigningKeyRequest>,
    ) -> Answer<pb::RotateSigningKeyResponse> {
        let (caller, request) = open(request);
        let (public, key) = self.auth.rotate_signing_key(&caller, request.drop_old_keys).await.map_err(refused)?;
        let use_time = Some(convert::timestamp(key.use_time));
        Ok(Response::new(pb::RotateSigningKeyResponse { key_id: public.key_id, use_time }))
    }
}
