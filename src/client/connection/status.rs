//! Reads the refusals of Watchword from a `tonic::Status`.

use std::time::Duration;

use prost::Message;
use tonic::Status;

use crate::api::{DOMAIN, PUSHBACK, pb::ErrorReason, rpc};

/// What a `tonic::Status` of Watchword contains beyond its code and its text, for programs.
pub trait StatusExt {
    /// The reason of a refusal. `None` for errors that are not from Watchword, such as a connection error, and for reasons
    /// that this version does not know.
    fn auth_reason(&self) -> Option<ErrorReason>;

    /// How long to wait before a retry (gRFC A6). `None` if the server sends no time, or asks not to retry.
    fn retry_after(&self) -> Option<Duration>;
}

impl StatusExt for Status {
    fn auth_reason(&self) -> Option<ErrorReason> {
        ErrorReason::from_str_name(&format!("ERROR_REASON_{}", error_info(self)?.reason))
    }

    fn retry_after(&self) -> Option<Duration> {
        let pushback = self.metadata().get(PUSHBACK)?.to_str().ok()?;
        // A signed 32-bit number. A negative one means: do not retry.
        let millis = u64::try_from(pushback.parse::<i32>().ok()?).ok()?;
        Some(Duration::from_millis(millis))
    }
}

/// What Watchword says about a refusal for programs, beside its code.
pub(super) fn error_info(status: &Status) -> Option<rpc::ErrorInfo> {
    let details = rpc::Status::decode(status.details()).ok()?.details;
    let infos = details.iter().filter(|detail| detail.type_url.ends_with("/google.rpc.ErrorInfo"));
    let mut infos = infos.filter_map(|info| rpc::ErrorInfo::decode(&*info.value).ok());
    infos.find(|info| info.domain == DOMAIN)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "statuses of another server")]
mod tests {
    use super::*;

    #[test]
    fn pushback_is_parsed_as_in_grfc_a6() {
        for (text, wait) in [
            ("0", Some(0)),
            ("250", Some(250)),
            ("2147483647", Some(2_147_483_647)),
            ("2147483648", None),
            ("-1", None),
            ("", None),
            ("1s", None),
        ] {
            let mut status = Status::ok("");
            status.metadata_mut().insert(PUSHBACK, text.parse().expect("ASCII"));
            assert_eq!(status.retry_after(), wait.map(Duration::from_millis), "{text}");
        }
        assert_eq!(Status::ok("").retry_after(), None);
    }

    #[test]
    fn details_of_other_domains_have_no_auth_reason() {
        assert_eq!(Status::ok("").auth_reason(), None);
        for (domain, reason) in [("another.example", "TOKEN_EXPIRED"), (DOMAIN, "UNKNOWN_REASON")] {
            let info = rpc::ErrorInfo { reason: reason.into(), domain: domain.into(), ..Default::default() };
            assert_eq!(super::super::refusal::packed(tonic::Code::Unknown, &info, "").auth_reason(), None);
        }
    }
}
