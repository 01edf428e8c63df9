//! The user as a whole.

use companion_adapters::erasure;
use poem::web::Data;
use poem_openapi::OpenApi;

use crate::app::App;
use crate::auth::Caller;
use crate::code::Code;
use crate::commands::Done;
use crate::error::Problem;

pub(crate) struct UsersApi;

#[OpenApi]
impl UsersApi {
    /// Erase me
    ///
    /// Destroys the key to everything that the service holds of the caller and deletes what was
    /// derived from it. There is no way back. Tokens and keys from before are not accepted any more;
    /// the same user id can begin anew, empty.
    #[oai(path = "/users/me", method = "delete")]
    async fn erase(&self, app: Data<&App>, caller: Caller) -> Result<Done, Problem> {
        // A task of its own: a client who hangs up now must not leave half of it done.
        let (core, user) = (app.core.clone(), caller.user);
        let erased = tokio::spawn(async move { erasure::erase(&core, user).await });
        erased.await.map_err(|error| {
            tracing::error!("erasing a user failed: {error}");
            Code::InternalError
        })??;
        app.replies.cancel_of(caller.user);
        Ok(Done::Done)
    }
}
