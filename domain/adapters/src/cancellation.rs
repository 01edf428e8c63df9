//! Tells all processes that a reply is to be stopped: the one that makes it knows its text.

use companion_domain::ids::{ReplyId, UserId};
use sqlx::postgres::PgListener;
use sqlx::{PgExecutor, PgPool};
use uuid::Uuid;

const CHANNEL: &str = "companion_cancel";

/// What is to be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// This reply.
    Reply(ReplyId),
    /// All replies to this user.
    User(UserId),
    /// No reply, but to go on with what was loaded from the read models of this user, or of all: they
    /// were built anew.
    Loaded(Option<UserId>),
}

impl Asked {
    fn payload(self) -> String {
        match self {
            Self::Reply(reply) => format!("reply {reply}"),
            Self::User(user) => format!("user {user}"),
            Self::Loaded(Some(user)) => format!("loaded {user}"),
            Self::Loaded(None) => "loaded all".to_owned(),
        }
    }

    fn parse(payload: &str) -> Option<Self> {
        let (what, id) = payload.split_once(' ')?;
        if payload == "loaded all" {
            return Some(Self::Loaded(None));
        }
        let id = Uuid::parse_str(id).ok()?;
        match what {
            "loaded" => Some(Self::Loaded(Some(UserId(id)))),
            "reply" => Some(Self::Reply(ReplyId(id))),
            "user" => Some(Self::User(UserId(id))),
            _ => None,
        }
    }
}

/// Asks whoever makes it to stop.
///
/// # Errors
/// When the database fails.
pub async fn ask(executor: impl PgExecutor<'_>, what: Asked) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_notify($1, $2)")
        .bind(CHANNEL)
        .bind(what.payload())
        .execute(executor)
        .await?;
    Ok(())
}

/// Hears what is asked. What was asked while nobody listened, nobody knows: whenever it begins to listen,
/// it hears `None`, and is to go on with nothing that is at hand. Ends when the connection can't be had.
///
/// # Errors
/// When the database fails.
pub async fn listen(
    pool: &PgPool,
    mut heard: impl FnMut(Option<Asked>),
) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    loop {
        heard(None);
        // None when the connection was lost; by then it is there again.
        while let Some(asked) = listener.try_recv().await? {
            if let Some(asked) = Asked::parse(asked.payload()) {
                heard(Some(asked));
            }
        }
    }
}
