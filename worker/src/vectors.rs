//! Keeps the vectors of this process's embedding model whole while the database has those of several.
//!
//! A worker embeds what its jobs bring with the model that it holds. While the processes of a service are
//! restarted with another model, some jobs go to workers of the one and some to workers of the other; each
//! makes up for what the others embedded. With a single model there is nothing to do.

use std::time::Duration;

use companion_adapters::core::Core;
use companion_adapters::errors;
use companion_adapters::vectors::filling;
use companion_adapters::vectors::models::{self, ModelState};
use tokio_util::sync::CancellationToken;

/// The pause after a round that made some, and after one that had nothing to make.
const BUSY: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(10);

/// Keeps them whole until shutdown.
pub(crate) async fn run(core: Core, shutdown: CancellationToken) {
    let mut told = false;
    loop {
        let made = round(&core, &shutdown, &mut told)
            .await
            .unwrap_or_else(|error| {
                tracing::warn!(
                    "missing vectors could not be looked for or made: {}",
                    errors::in_one_line(&*error)
                );
                0
            });
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(if made > 0 { BUSY } else { IDLE }) => {}
        }
    }
}

/// Makes what is lacking; how many that was.
async fn round(core: &Core, shutdown: &CancellationToken, told: &mut bool) -> anyhow::Result<u64> {
    *told = models::tell_if_former(&core.derived, &core.config, *told).await?;
    let models = models::all(&core.derived).await?;
    let Some(own) = models.iter().find(|model| model.is_of(&core.config)) else {
        return Ok(0);
    };
    // Nobody uses one that is being filled: `companion reembed` makes what it lacks.
    let used = models
        .iter()
        .filter(|model| model.state() != ModelState::Filling);
    if used.count() < 2 {
        return Ok(0);
    }
    let round = filling::catch_up(&core.derived, own, &core.embedder, shutdown, |_| {}).await?;
    Ok(round.made)
}
