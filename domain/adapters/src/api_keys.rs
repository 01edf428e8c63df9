//! Keys for programs: issued once, kept as a hash, revocable.
//!
//! A key is `ck_<id>_<secret>`: the id finds it, the secret of 256 random bits proves it. As nobody
//! can guess such a secret, a plain SHA-256 of it is enough to keep.

use chrono::{DateTime, Utc};
use companion_domain::events::{ApiKeyIssued, ApiKeyRevoked, Metadata};
use companion_domain::ids::{ApiKeyId, ExternalUserId, StreamId, UserId};
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, PgExecutor, PgPool};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::log::event_store::{Append, AppendError, EventStore, Expected};
use crate::vault;

const SECRET_BYTES: usize = 32;
/// How exactly the last use is recorded, seconds.
const USE_STEP: f64 = 60.0;

/// A key as its owner sees it later: without the secret.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct ApiKey {
    /// The public half.
    pub key_id: Uuid,
    /// What the user calls it.
    pub name: String,
    /// When it was issued.
    pub created_at: DateTime<Utc>,
    /// When it was last used, to the minute; `None` when it never was.
    pub last_used_at: Option<DateTime<Utc>>,
}

/// A key that was just made: the only time that it is whole.
pub struct NewApiKey {
    /// The public half.
    pub id: ApiKeyId,
    /// The whole key.
    pub key: String,
    /// When it was issued.
    pub created_at: DateTime<Utc>,
}

/// Issues a key to a user who is registered. It can be used as soon as this returns.
///
/// # Errors
/// [`AppendError`] when there is no such user, the system gives no random numbers, or the database fails.
pub async fn issue(
    store: &EventStore,
    external: &ExternalUserId,
    name: &str,
) -> Result<NewApiKey, AppendError> {
    let user = UserId::of(external);
    let mut secret = [0u8; SECRET_BYTES];
    vault::random(&mut secret)?;
    let secret = hex(&secret);
    let id = ApiKeyId(Uuid::now_v7());
    let event = ApiKeyIssued {
        key_id: id,
        name: name.to_owned(),
        secret_hash: hash(&secret),
        issued_at: Utc::now(),
    };
    let append = Append {
        stream: StreamId::user(user),
        expected: Expected::Any,
        events: vec![(event.clone().into(), Metadata::default())],
    };
    let also = async |connection: &mut PgConnection| {
        note_user(&mut *connection, user, external).await?;
        take_in(connection, user, &event).await
    };
    store.append_together(user, vec![append], also).await?;
    Ok(NewApiKey {
        id,
        key: format!("ck_{id}_{secret}"),
        created_at: event.issued_at,
    })
}

/// Revokes a key of a user: it is not accepted any more when this returns. `false` when the user has
/// no such key.
///
/// # Errors
/// [`AppendError`] when the database fails.
pub async fn revoke(store: &EventStore, user: UserId, key: ApiKeyId) -> Result<bool, AppendError> {
    let own: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM api_keys WHERE user_id = $1 AND key_id = $2 AND revoked_at IS NULL)",
    )
    .bind(user.0)
    .bind(key.0)
    .fetch_one(store.pool())
    .await?;
    if !own {
        return Ok(false);
    }
    let event = ApiKeyRevoked {
        key_id: key,
        revoked_at: Utc::now(),
    };
    let append = Append {
        stream: StreamId::user(user),
        expected: Expected::Any,
        events: vec![(event.clone().into(), Metadata::default())],
    };
    let also = async |connection: &mut PgConnection| take_back(connection, user, &event).await;
    store.append_together(user, vec![append], also).await?;
    Ok(true)
}

/// The owner of a key by its id alone, for the operator.
///
/// # Errors
/// When the database fails.
pub async fn owner(
    executor: impl PgExecutor<'_>,
    key: ApiKeyId,
) -> Result<Option<UserId>, sqlx::Error> {
    let owner: Option<Uuid> =
        sqlx::query_scalar("SELECT user_id FROM api_keys WHERE key_id = $1 AND revoked_at IS NULL")
            .bind(key.0)
            .fetch_optional(executor)
            .await?;
    Ok(owner.map(UserId))
}

/// A user's keys that are accepted, the oldest first.
///
/// # Errors
/// When the database fails.
pub async fn list(executor: impl PgExecutor<'_>, user: UserId) -> Result<Vec<ApiKey>, sqlx::Error> {
    sqlx::query_as(
        "SELECT k.key_id, k.name, k.created_at, u.last_used_at FROM api_keys k LEFT JOIN api_key_uses u USING (key_id)
         WHERE k.user_id = $1 AND k.revoked_at IS NULL ORDER BY k.created_at, k.key_id",
    )
    .bind(user.0)
    .fetch_all(executor)
    .await
}

/// Judges a key: its user, or `None` when it is not accepted. Records the use.
///
/// # Errors
/// When the database fails.
pub async fn judge(pool: &PgPool, key: &str) -> Result<Option<ExternalUserId>, sqlx::Error> {
    let Some((id, secret)) = parse(key) else {
        return Ok(None);
    };
    let row: Option<(String, Uuid, String, bool)> = sqlx::query_as(
        "SELECT u.external_id, u.user_id, k.secret_hash, coalesce(s.last_used_at < now() - make_interval(secs => $2), true)
         FROM api_keys k JOIN users u USING (user_id) LEFT JOIN api_key_uses s USING (key_id)
         WHERE k.key_id = $1 AND k.revoked_at IS NULL AND u.external_id IS NOT NULL",
    )
    .bind(id)
    .bind(USE_STEP)
    .fetch_optional(pool)
    .await?;
    let Some((external, user, kept, note_use)) = row else {
        return Ok(None);
    };
    if !bool::from(hash(secret).as_bytes().ct_eq(kept.as_bytes())) {
        return Ok(None);
    }
    if note_use {
        sqlx::query(
            // Not behind the back of whoever erases the user.
            "INSERT INTO api_key_uses (key_id, last_used_at)
             SELECT $1, now() FROM (SELECT FROM user_keys WHERE user_id = $2 FOR KEY SHARE) AS k
             ON CONFLICT (key_id) DO UPDATE SET last_used_at = excluded.last_used_at",
        )
        .bind(id)
        .bind(user)
        .execute(pool)
        .await?;
    }
    Ok(ExternalUserId::parse(&external).ok())
}

/// Names a user ahead of the projection: a key leads to the name.
async fn note_user(
    connection: &mut PgConnection,
    user: UserId,
    external: &ExternalUserId,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO users (user_id, external_id) VALUES ($1, $2)
         ON CONFLICT (user_id) DO UPDATE SET external_id = excluded.external_id",
    )
    .bind(user.0)
    .bind(external.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes in an issued key ahead of the projection, which makes the same row of the event.
async fn take_in(
    connection: &mut PgConnection,
    user: UserId,
    event: &ApiKeyIssued,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO api_keys (key_id, user_id, name, secret_hash, created_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT DO NOTHING",
    )
    .bind(event.key_id.0)
    .bind(user.0)
    .bind(&event.name)
    .bind(&event.secret_hash)
    .bind(event.issued_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes in ahead of the projection that a key was revoked.
async fn take_back(
    connection: &mut PgConnection,
    user: UserId,
    event: &ApiKeyRevoked,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE api_keys SET revoked_at = coalesce(revoked_at, $3) WHERE user_id = $1 AND key_id = $2",
    )
    .bind(user.0)
    .bind(event.key_id.0)
    .bind(event.revoked_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// The id and the secret of what may be a key.
fn parse(key: &str) -> Option<(Uuid, &str)> {
    let (id, secret) = key.strip_prefix("ck_")?.split_once('_')?;
    let hexadecimal =
        secret.len() == 2 * SECRET_BYTES && secret.bytes().all(|c| c.is_ascii_hexdigit());
    Uuid::parse_str(id)
        .ok()
        .filter(|_| hexadecimal)
        .map(|id| (id, secret))
}

fn hash(secret: &str) -> String {
    hex(&Sha256::digest(secret.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_looks_like_a_key_is_looked_up() {
        let id = Uuid::nil();
        let secret = "0f".repeat(SECRET_BYTES);
        assert_eq!(
            parse(&format!("ck_{id}_{secret}")),
            Some((id, secret.as_str()))
        );
        for bad in [
            String::new(),
            "user_alice_x".to_owned(),
            format!("ck_{id}_"),
            format!("ck_{id}_{}", &secret[2..]),
            format!("ck_{id}_{}", "zz".repeat(SECRET_BYTES)),
            format!("ck_no-uuid_{secret}"),
            format!("ck__{secret}"),
        ] {
            assert_eq!(parse(&bad), None, "{bad}");
        }
    }
}
