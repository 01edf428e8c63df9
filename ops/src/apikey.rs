//! `companion apikey`: keys for programs, issued, listed and revoked by the operator.

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use companion_adapters::api_keys;
use companion_domain::ids::{ApiKeyId, ExternalUserId, UserId};
use uuid::Uuid;

use crate::operator::{Operator, user};
use crate::output::{line, note, only_line};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make a key and print it: alone, and this once
    Issue {
        /// The user whom the key stands for
        #[arg(long, value_parser = user)]
        user: ExternalUserId,
        /// What the key is for
        #[arg(long, value_parser = name)]
        name: String,
    },
    /// List the keys of a user that are accepted
    List {
        /// The user
        #[arg(long, value_parser = user)]
        user: ExternalUserId,
    },
    /// Revoke a key
    Revoke {
        /// The key's id, as `list` shows it
        id: Uuid,
    },
}

fn name(text: &str) -> Result<String, String> {
    match text.chars().count() {
        1..=100 if !text.trim().is_empty() => Ok(text.to_owned()),
        _ => Err("a name is 1 to 100 characters, and not blank".to_owned()),
    }
}

pub(crate) async fn run(command: Command) -> Result<()> {
    let operator = Operator::open("apikey").await?;
    let done = perform(&operator, command).await;
    operator.close().await;
    done
}

async fn perform(operator: &Operator, command: Command) -> Result<()> {
    let Operator { pool, store, .. } = operator;
    match command {
        Command::Issue { user, name } => {
            store.ensure_user(&user).await?;
            let new = api_keys::issue(store, &user, &name).await?;
            only_line(&new.key).with_context(|| {
                let id = new.id;
                format!("the key {id} was made and could not be printed; take it back: companion apikey revoke {id}")
            })?;
            note(format_args!(
                "The key {} stands for {}. It can't be shown again.",
                new.id,
                user.as_str()
            ));
        }
        Command::List { user } => {
            let keys = api_keys::list(pool, UserId::of(&user)).await?;
            if keys.is_empty() {
                note(format_args!("{} has no key.", user.as_str()));
            }
            for key in keys {
                let used = key.last_used_at.map_or_else(
                    || "never used".to_owned(),
                    |at| format!("last used {}", at.format("%Y-%m-%d %H:%M")),
                );
                let made = key.created_at.format("%Y-%m-%d %H:%M");
                line(format_args!(
                    "{}  made {made}, {used}  {}",
                    key.key_id,
                    // It is the user's: it must not speak to the terminal.
                    key.name.escape_debug()
                ));
            }
        }
        Command::Revoke { id } => {
            let key = ApiKeyId(id);
            let Some(owner) = api_keys::owner(pool, key).await? else {
                bail!(
                    "there is no key {id} that is accepted; list them with: companion apikey list --user NAME"
                );
            };
            api_keys::revoke(store, owner, key).await?;
            note(format_args!("The key {id} is not accepted any more."));
        }
    }
    Ok(())
}
