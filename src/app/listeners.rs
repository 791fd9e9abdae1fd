//! Binds the listeners of a node, one for each API.

use std::{fs::DirBuilder, os::unix::fs::DirBuilderExt};

use super::StartError;
use crate::{
    common::files::refuse_shared_folder,
    config::Config,
    net::{Access, Address, BindError, Listener},
};

/// The listeners of a node.
pub(super) struct Listeners {
    pub(super) grpc: Listener,
    pub(super) http: Option<Listener>,
    pub(super) ops: Option<Listener>,
    pub(super) admin: Option<Listener>,
}

/// The addresses that a node listens at, with actual ports.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// gRPC API.
    pub grpc: Address,
    /// HTTP API.
    pub http: Option<Address>,
    /// Ops API.
    pub ops: Option<Address>,
    /// Admin API.
    pub admin: Option<Address>,
}

impl Listeners {
    /// Binds all listeners but the admin listener.
    pub(super) fn bind(config: &Config) -> Result<Self, StartError> {
        let bind = |flag, address: &Address| {
            Listener::bind(address, Access::Group).map_err(|error| StartError::Bind { flag, error })
        };
        Ok(Self {
            grpc: bind("--grpc-addr", &config.grpc)?,
            http: config.http.as_ref().map(|address| bind("--http-addr", address)).transpose()?,
            ops: config.ops.as_ref().map(|address| bind("--ops-addr", address)).transpose()?,
            admin: None,
        })
    }

    /// Binds the admin listener, and creates its folder if it is missing.
    pub(super) fn bind_admin(&mut self, config: &Config) -> Result<(), StartError> {
        let Some(path) = &config.admin else { return Ok(()) };
        let address = Address::Unix(path.clone());
        let created = path.parent().map_or(Ok(()), |folder| {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            refuse_shared_folder(folder)
        });
        let bound = match created {
            Ok(()) => Listener::bind(&address, Access::Owner),
            Err(cause) => Err(BindError { address, cause }),
        };
        match bound {
            Ok(listener) => self.admin = Some(listener),
            Err(error) if config.admin_is_named => return Err(StartError::Bind { flag: "--admin-addr", error }),
            // For example a second node in the same folder, or a folder that cannot be written. The node serves its other
            // APIs.
            Err(BindError { address, cause }) => {
                tracing::warn!(%address, %cause, "no admin listener; --admin-addr sets another path");
            }
        }
        Ok(())
    }

    /// The default issuer of tokens: the address of the HTTP listener.
    pub(super) fn issuer(&self) -> String {
        match self.http.as_ref().map(Listener::address) {
            Some(Address::Tcp(address)) => format!("http://{address}"),
            Some(Address::Unix(_)) | None => "http://127.0.0.1".into(),
        }
    }

    /// The number of listeners.
    pub(super) fn count(&self) -> usize {
        1 + [&self.http, &self.ops, &self.admin].into_iter().flatten().count()
    }
}

impl Addresses {
    pub(super) fn of(listeners: &Listeners) -> Self {
        let Listeners { grpc, http, ops, admin } = listeners;
        let address = |listener: &Option<Listener>| listener.as_ref().map(Listener::address);
        Self { grpc: grpc.address(), http: address(http), ops: address(ops), admin: address(admin) }
    }
}
