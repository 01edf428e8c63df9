//! The user as a whole.

use companion_adapters::erasure::Eraser;
use companion_domain::ids::UserId;
use poem::web::Data;
use poem_openapi::OpenApi;

use crate::app::App;
use crate::auth::Caller;
use crate::commands::{Done, to_the_end};
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
        let (app, user) = (app.clone(), caller.user);
        to_the_end(async move { Ok(erase(&app, user).await?) }).await?;
        Ok(Done::Done)
    }
}

async fn erase(app: &App, user: UserId) -> Result<(), sqlx::Error> {
    let eraser = Eraser::of(&app.core);
    eraser.begin(user).await?;
    // Before there can be a next life, whose replies are none of these.
    app.replies.cancel_of(user);
    app.core.forget(user).await;
    if let Err(error) = eraser.finish(user).await {
        // The user is gone already, for every caller.
        tracing::warn!("what is left of an erased user is swept away later: {error}");
    }
    Ok(())
}
