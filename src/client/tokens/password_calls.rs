//! Calls in a session that show the password again, with proof of work where that opens them.

use tonic::Status;

use super::TokenSource;
use crate::{
    api::pb::{self, ChallengePurpose},
    client::connection::refusal,
};

impl TokenSource {
    /// Replaces the user's password, ends all sessions, and returns the tokens of a new one, which need a source of their own.
    /// Sends the call again with proof of work, as [`Client::login`](crate::client::Client::login) does.
    ///
    /// # Errors
    ///
    /// Those of the contract's ChangePassword, and CHALLENGE_REQUIRED as from [`Client::login`](crate::client::Client::login).
    pub async fn change_password(&self, current: &str, new: &str) -> Result<pb::Tokens, Status> {
        let change = |challenge_solution| {
            let (current_password, new_password) = (current.into(), new.into());
            let message = pb::ChangePasswordRequest { current_password, new_password, challenge_solution };
            self.call(message, |request| {
                let mut auth = self.client().auth();
                async move { auth.change_password(request).await }
            })
        };
        let response = self.client().with_proof_of_work(|| self.challenge(), change).await?;
        response.into_inner().tokens.ok_or_else(|| refusal::invalid_response("the response lacks the tokens"))
    }

    /// Deletes the user and ends all sessions, with proof of work as [`change_password`](Self::change_password).
    ///
    /// # Errors
    ///
    /// Those of the contract's DeleteUser, and CHALLENGE_REQUIRED as from [`Client::login`](crate::client::Client::login).
    pub async fn delete_user(&self, current: &str) -> Result<(), Status> {
        let delete = |challenge_solution| {
            let message = pb::DeleteUserRequest { current_password: current.into(), challenge_solution };
            self.call(message, |request| {
                let mut auth = self.client().auth();
                async move { auth.delete_user(request).await }
            })
        };
        self.client().with_proof_of_work(|| self.challenge(), delete).await?;
        Ok(())
    }

    /// Ends all sessions of the user but this one, with proof of work as [`change_password`](Self::change_password). Returns
    /// how many were ended.
    ///
    /// # Errors
    ///
    /// Those of the contract's RevokeAllSessions, and CHALLENGE_REQUIRED as from
    /// [`Client::login`](crate::client::Client::login).
    pub async fn revoke_other_sessions(&self, current: &str) -> Result<i32, Status> {
        let revoke = |challenge_solution| {
            let current_password = current.into();
            let message = pb::RevokeAllSessionsRequest { keep_current: true, current_password, challenge_solution };
            self.call(message, |request| {
                let mut auth = self.client().auth();
                async move { auth.revoke_all_sessions(request).await }
            })
        };
        let response = self.client().with_proof_of_work(|| self.challenge(), revoke).await?;
        Ok(response.into_inner().revoked_count)
    }

    /// The request for a challenge that opens the account of these tokens.
    async fn challenge(&self) -> Result<pb::CreateChallengeRequest, Status> {
        let response = self.call(pb::GetUserRequest {}, |request| {
            let mut auth = self.client().auth();
            async move { auth.get_user(request).await }
        });
        let user = response.await?.into_inner().user;
        let user = user.ok_or_else(|| refusal::invalid_response("the response lacks the user"))?;
        Ok(pb::CreateChallengeRequest { purpose: ChallengePurpose::Login.into(), username: user.username })
    }
}
