//! SIGTERM and SIGINT as a token that every task watches.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Cancels `stop` on the first SIGTERM or SIGINT. A second one ends the process at once.
///
/// # Errors
/// When the system refuses the handlers.
pub fn on_signal(stop: CancellationToken) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        for nth in 0.. {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if nth > 0 {
                std::process::exit(130);
            }
            stop.cancel();
        }
    });
    Ok(())
}
