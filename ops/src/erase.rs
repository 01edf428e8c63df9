//! `companion erase`: a user is forgotten, for good.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use companion_adapters::buffer::Buffer;
use companion_adapters::erasure::{self, Eraser, Holdings, Step};
use companion_adapters::redis_link::RedisLink;
use companion_adapters::reply_texts::ReplyTexts;
use companion_domain::ids::{ExternalUserId, UserId};
use serde_json::json;
use tokio::sync::oneshot;

use crate::operator::{Interrupted, Manner, Operator, Progress, user};
use crate::output::note;

/// What is said when the command is stopped in time.
const NOT_ERASED: &str = "Nothing was erased.";

/// Who is erased.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The user, as callers name them
    #[arg(value_name = "USER", value_parser = user)]
    user: ExternalUserId,
    /// Don't ask for the user's id again
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    manner: Manner,
}

pub(crate) async fn run(options: Options) -> Result<ExitCode> {
    let operator = Operator::open_with_any_model("erase").await?;
    let done = perform(&operator, &options).await;
    operator.close().await;
    done
}

async fn perform(operator: &Operator, options: &Options) -> Result<ExitCode> {
    let redis = RedisLink::open(&operator.config)?;
    let eraser = Eraser::new(
        operator.pool.clone(),
        operator.store.vault().clone(),
        Buffer::new(&operator.config, redis.clone()),
        ReplyTexts::new(redis),
    );
    let user = UserId::of(&options.user);
    let name = options.user.as_str();
    let counted = operator.unless_stopped(NOT_ERASED, eraser.holdings(user));
    let holdings = counted.await??;
    if options.manner.dry_run {
        return report(options, &holdings, || {
            format!("{}\nNothing was changed.", told(name, &holdings))
        });
    }
    if !holdings.registered && !holdings.under_way {
        // A script that has the name wrong is not to take it for done.
        let Some(erased) = erasure::last(&operator.pool, user).await? else {
            bail!(
                "there is nobody called {name}, and nothing to erase; ids are told apart by upper and lower case, too"
            );
        };
        return report(options, &holdings, || {
            format!(
                "{name} was erased at {} already.",
                erased.erased_at.to_rfc3339()
            )
        });
    }
    if !options.yes {
        let typed = operator.unless_stopped(NOT_ERASED, confirmed(name, &holdings));
        if !typed.await?? {
            bail!("not erased: what was typed is not {name}");
        }
    }
    if operator.stop.is_cancelled() {
        return Err(Interrupted::with(NOT_ERASED));
    }
    if holdings.registered {
        eraser.begin(user).await?;
    }
    let rows = holdings.rows + holdings.jobs + holdings.conversations;
    let mut progress = Progress::new("rows", u64::try_from(rows).unwrap_or(0));
    let swept_later = || {
        format!(
            "{name} is erased, and not all rows are swept away yet: a worker goes on with that, or: companion erase {name}"
        )
    };
    while let Step::More(swept) = eraser.step(user).await.with_context(swept_later)? {
        progress.advance(swept);
        if operator.stop.is_cancelled() {
            return Err(Interrupted::with(format!(
                "{name} is erased: nobody can open what the log holds. A worker sweeps away the rest, or: \
                 companion erase {name}"
            )));
        }
    }
    progress.finish();
    report(options, &holdings, || {
        format!("{name} is erased, with {}.", holds(&holdings))
    })
}

fn report(
    options: &Options,
    holdings: &Holdings,
    text: impl FnOnce() -> String,
) -> Result<ExitCode> {
    let result = json!({
        "user": options.user.as_str(),
        "user_id": UserId::of(&options.user),
        "dry_run": options.manner.dry_run,
        "was": holdings,
    });
    options.manner.print(&result, text)?;
    Ok(ExitCode::SUCCESS)
}

fn told(name: &str, holdings: &Holdings) -> String {
    let state = match (holdings.registered, holdings.under_way) {
        (_, true) => "is being erased",
        (true, _) => "has a key",
        (false, _) => "has no key",
    };
    format!("{name} {state}. To be erased: {}.", holds(holdings))
}

/// What goes with a user.
fn holds(holdings: &Holdings) -> String {
    let Holdings {
        events,
        conversations,
        jobs,
        rows,
        ..
    } = holdings;
    format!(
        "the key without which nobody can open what the log holds (events: {events}), and what is deleted \
         (conversations: {conversations}, jobs: {jobs}, other rows: {rows})"
    )
}

/// Whether the operator means it.
async fn confirmed(name: &str, holdings: &Holdings) -> Result<bool> {
    if !io::stdin().is_terminal() {
        bail!("erasing can't be undone; add --yes to do it without being asked");
    }
    note(told(name, holdings));
    let _ = write!(
        io::stderr(),
        "This can't be undone. Type {name} to erase them: "
    );
    // On a thread that nobody waits for: Ctrl-C must not have to wait for a line.
    let (send, typed) = oneshot::channel();
    std::thread::spawn(move || {
        let mut typed = String::new();
        send.send(io::stdin().read_line(&mut typed).map(|_| typed))
    });
    let typed = typed.await??;
    Ok(typed.trim() == name)
}
