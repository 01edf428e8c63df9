//! The keys of the users and the sealing of payloads.
//!
//! Each user has a random data key, wrapped by the master key, which is never in the database.
//! Payloads are sealed with XChaCha20-Poly1305; what identifies an event is bound to them as
//! associated data, so that a payload can't be moved to another event.

mod cipher;
pub mod masters;
pub mod rotation;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use companion_domain::ids::UserId;
use foldhash::{HashMap, HashMapExt};
use moka::future::Cache;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;
use zeroize::Zeroizing;

use self::cipher::{Cipher, KEY_BYTES};
use self::masters::{CheckValue, Keyring, MasterKey};
use crate::config::{Config, Environment, Secret};

/// How long an unwrapped key is kept without asking the database again.
const CACHE_FOR: Duration = Duration::from_secs(600);

/// Why something can't be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The user has no key: never registered, or erased.
    #[error("the user has no key")]
    NoKey,
    /// Not made with these keys, or damaged.
    #[error(
        "a payload can't be opened: COMPANION_MASTER_KEY is not the one it was sealed with, or the data is damaged"
    )]
    Sealed,
    /// The master key is missing or malformed.
    #[error("{0}")]
    MasterKey(String),
    /// The system gave no random numbers.
    #[error("the system gave no random numbers: {0}")]
    Random(String),
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
}

/// A user's data key, ready for use.
#[derive(Clone)]
pub struct DataKey {
    /// Names the key, not the user: an erased user who comes back gets another.
    pub id: Uuid,
    cipher: Cipher,
}

/// What a payload is bound to.
#[derive(Debug, Clone, Copy)]
pub struct Binding<'a> {
    /// The event's id.
    pub event_id: Uuid,
    /// The event's stored name.
    pub type_name: &'a str,
    /// The event's schema version.
    pub schema_version: i16,
}

impl Binding<'_> {
    fn bytes(&self) -> Vec<u8> {
        [
            self.event_id.as_bytes().as_slice(),
            &self.schema_version.to_be_bytes(),
            self.type_name.as_bytes(),
        ]
        .concat()
    }
}

impl DataKey {
    fn of(id: Uuid, plain: &[u8]) -> Result<Self, VaultError> {
        let cipher = Cipher::new(plain).ok_or(VaultError::Sealed)?;
        Ok(Self { id, cipher })
    }

    /// Seals a payload: nonce, then ciphertext with its tag.
    ///
    /// # Errors
    /// [`VaultError::Random`] when the system gives no random numbers.
    pub fn seal(&self, binding: Binding<'_>, payload: &[u8]) -> Result<Vec<u8>, VaultError> {
        self.cipher.seal(&binding.bytes(), payload)
    }

    /// Opens what [`DataKey::seal`] sealed.
    ///
    /// # Errors
    /// [`VaultError::Sealed`] for another key, another binding, or damage.
    pub fn open(&self, binding: Binding<'_>, sealed: &[u8]) -> Result<Vec<u8>, VaultError> {
        let opened = self.cipher.open(&binding.bytes(), sealed);
        opened.ok_or(VaultError::Sealed)
    }

    /// The same, where it lies.
    ///
    /// # Errors
    /// As [`DataKey::open`]; the bytes are of no use then.
    pub fn open_in_place<'s>(
        &self,
        binding: Binding<'_>,
        sealed: &'s mut [u8],
    ) -> Result<&'s [u8], VaultError> {
        let opened = self.cipher.open_in_place(&binding.bytes(), sealed);
        opened.ok_or(VaultError::Sealed)
    }
}

/// The keys of all users.
#[derive(Clone)]
pub struct Vault {
    masters: Keyring,
    keys: Cache<UserId, DataKey>,
}

impl Vault {
    /// A vault that wraps with this master key: 32 bytes, base64.
    ///
    /// # Errors
    /// [`VaultError::MasterKey`] when it is not that.
    pub fn new(master_key: &Secret) -> Result<Self, VaultError> {
        let key = MasterKey::parse("COMPANION_MASTER_KEY", master_key)?;
        Ok(Self::with(Keyring::of(key)))
    }

    /// A vault with the master keys of a configuration.
    ///
    /// # Errors
    /// [`VaultError::MasterKey`] with what to do.
    pub fn open(config: &Config) -> Result<Self, VaultError> {
        Ok(Self::with(Keyring::open(config)?))
    }

    fn with(masters: Keyring) -> Self {
        let keys = Cache::builder()
            .max_capacity(50_000)
            .time_to_live(CACHE_FOR)
            .build();
        Self { masters, keys }
    }

    /// The master keys that this process knows.
    pub fn masters(&self) -> &Keyring {
        &self.masters
    }

    /// Checks that the master key that is in force is known, and one that opens what others wrapped.
    ///
    /// # Errors
    /// [`VaultError::MasterKey`] when the database was filled under another master key.
    pub async fn check(&self, pool: &PgPool) -> Result<(), VaultError> {
        if let Some(in_force) = rotation::in_force(pool).await?
            && self.masters.find(in_force).is_none()
        {
            return Err(unknown_master(Some(in_force)));
        }
        let known: Vec<Vec<u8>> = self
            .masters
            .all()
            .iter()
            .map(|key| key.check.as_bytes().to_vec())
            .collect();
        // Those of before check values, and those of a rotation that is under way.
        let other: Option<KeyRow> = sqlx::query_as(
            "SELECT user_id, key_id, wrapped, wrapped_by FROM user_keys
             WHERE wrapped_by IS NULL OR wrapped_by <> ALL($1) LIMIT 1",
        )
        .bind(known)
        .fetch_optional(pool)
        .await?;
        match other {
            Some(row) => self.unwrap_key(&row).map(drop),
            None => Ok(()),
        }
    }

    /// Whether a user has this key still, as the database has it and not a cache.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn is_in_force(
        &self,
        pool: &PgPool,
        user: UserId,
        key: &DataKey,
    ) -> Result<bool, sqlx::Error> {
        let has = "SELECT EXISTS (SELECT FROM user_keys WHERE user_id = $1 AND key_id = $2)";
        let has: bool = sqlx::query_scalar(has)
            .bind(user.0)
            .bind(key.id)
            .fetch_one(pool)
            .await?;
        if !has {
            self.forget(user).await;
        }
        Ok(has)
    }

    /// The key of a user.
    ///
    /// # Errors
    /// [`VaultError::NoKey`] when there is none.
    pub async fn key(&self, pool: &PgPool, user: UserId) -> Result<DataKey, VaultError> {
        if let Some(key) = self.keys.get(&user).await {
            return Ok(key);
        }
        let found = self.load(pool, &[user]).await?;
        found.get(&user).cloned().ok_or(VaultError::NoKey)
    }

    /// The keys of several users, each named once, by the id of the key that is needed, if known; who
    /// has none is missing from the answer, and who has another has that.
    ///
    /// # Errors
    /// [`VaultError`] when the database fails or a key was wrapped by another master key.
    pub async fn keys(
        &self,
        connection: &mut PgConnection,
        wanted: impl IntoIterator<Item = (UserId, Option<Uuid>)>,
    ) -> Result<HashMap<UserId, DataKey>, VaultError> {
        let (mut known, mut missing) = (HashMap::default(), Vec::new());
        for (user, key_id) in wanted {
            // A cached key may be that of a former life of the user.
            match self
                .keys
                .get(&user)
                .await
                .filter(|key| key_id.is_none_or(|id| id == key.id))
            {
                Some(key) => drop(known.insert(user, key)),
                None => missing.push(user),
            }
        }
        if !missing.is_empty() {
            known.extend(self.load(connection, &missing).await?);
        }
        Ok(known)
    }

    /// Makes a key for a user who has none. The caller holds the lock on the user's stream, and commits:
    /// until then it is not kept at hand. `None` when somebody else was first, while the user is being
    /// erased, or when they were not erased last at the time given.
    ///
    /// # Errors
    /// [`VaultError`] when the database or the random source fails.
    pub async fn create(
        &self,
        connection: &mut PgConnection,
        user: UserId,
        erased_at: Option<DateTime<Utc>>,
    ) -> Result<Option<DataKey>, VaultError> {
        let mut plain = Zeroizing::new([0u8; KEY_BYTES]);
        random(plain.as_mut_slice())?;
        let key_id = Uuid::now_v7();
        let master = self.master_in_force(&mut *connection).await?;
        let wrapped = master
            .cipher
            .seal(&wrapping(user, key_id), plain.as_slice())?;
        let made = sqlx::query(
            "INSERT INTO user_keys (user_id, key_id, wrapped, wrapped_by, created_at)
             SELECT $1, $2, $3, $4, clock_timestamp() WHERE NOT EXISTS (
                 SELECT FROM erasures WHERE user_id = $1 AND (swept_at IS NULL OR erased_at IS DISTINCT FROM $5))
             ON CONFLICT (user_id) DO NOTHING",
        )
        .bind(user.0)
        .bind(key_id)
        .bind(wrapped)
        .bind(master.check.as_bytes())
        .bind(erased_at)
        .execute(connection)
        .await?;
        if made.rows_affected() == 0 {
            return Ok(None);
        }
        Ok(Some(DataKey::of(key_id, plain.as_slice())?))
    }

    /// The master key that wraps new data keys; it stays in force until the transaction ends.
    async fn master_in_force(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Arc<MasterKey>, VaultError> {
        let own = self.masters.own().ok_or_else(|| unknown_master(None))?;
        sqlx::query("INSERT INTO master_key (check_value) VALUES ($1) ON CONFLICT DO NOTHING")
            .bind(own.check.as_bytes())
            .execute(&mut *connection)
            .await?;
        let in_force: Vec<u8> = sqlx::query_scalar("SELECT check_value FROM master_key FOR SHARE")
            .fetch_one(connection)
            .await?;
        let in_force = CheckValue::stored(&in_force);
        in_force
            .and_then(|check| self.masters.find(check))
            .ok_or_else(|| unknown_master(in_force))
    }

    /// Forgets what is cached of a user's key: it turned out to be gone.
    pub async fn forget(&self, user: UserId) {
        self.keys.invalidate(&user).await;
    }

    /// Forgets all keys that are cached.
    pub fn forget_all(&self) {
        self.keys.invalidate_all();
    }

    async fn load<'c>(
        &self,
        executor: impl sqlx::PgExecutor<'c>,
        users: &[UserId],
    ) -> Result<HashMap<UserId, DataKey>, VaultError> {
        let ids: Vec<Uuid> = users.iter().map(|user| user.0).collect();
        let rows: Vec<KeyRow> = sqlx::query_as(
            "SELECT user_id, key_id, wrapped, wrapped_by FROM user_keys WHERE user_id = ANY($1)",
        )
        .bind(ids)
        .fetch_all(executor)
        .await?;
        let mut keys = HashMap::with_capacity(rows.len());
        for row in rows {
            let key = self.unwrap_key(&row)?;
            self.keys.insert(UserId(row.user_id), key.clone()).await;
            keys.insert(UserId(row.user_id), key);
        }
        Ok(keys)
    }

    /// Checks that these keys can be unwrapped.
    ///
    /// # Errors
    /// [`VaultError::MasterKey`] when one of them can't.
    pub(crate) fn check_rows(&self, rows: &[KeyRow]) -> Result<(), VaultError> {
        rows.iter()
            .try_for_each(|row| self.unwrap_key(row).map(drop))
    }

    fn unwrap_key(&self, row: &KeyRow) -> Result<DataKey, VaultError> {
        DataKey::of(row.key_id, &self.unwrap_plain(row)?)
    }

    /// A data key as another master key wraps it.
    ///
    /// # Errors
    /// [`VaultError::MasterKey`] when none of the known master keys opens it.
    pub(crate) fn wrap_anew(&self, row: &KeyRow, to: &MasterKey) -> Result<Vec<u8>, VaultError> {
        let plain = self.unwrap_plain(row)?;
        let aad = wrapping(UserId(row.user_id), row.key_id);
        to.cipher.seal(&aad, &plain)
    }

    fn unwrap_plain(&self, row: &KeyRow) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let aad = wrapping(UserId(row.user_id), row.key_id);
        let attempt = || {
            let masters = self.masters.all();
            masters
                .iter()
                .find_map(|master| master.cipher.open(&aad, &row.wrapped))
        };
        let plain = attempt().or_else(|| self.masters.look_again().then(attempt).flatten());
        let wrapped_by = row.wrapped_by.as_deref().and_then(CheckValue::stored);
        plain
            .map(Zeroizing::new)
            .ok_or_else(|| unknown_master(wrapped_by))
    }
}

fn unknown_master(check: Option<CheckValue>) -> VaultError {
    let which = check.map_or_else(String::new, |check| {
        format!(" (its check value is {check})")
    });
    VaultError::MasterKey(format!(
        "COMPANION_MASTER_KEY is not the one this database was filled with{which}; set the former one, or after \
         companion rotate-master-key the new one"
    ))
}

/// A data key as it lies in the table.
#[derive(sqlx::FromRow)]
pub(crate) struct KeyRow {
    pub(crate) user_id: Uuid,
    pub(crate) key_id: Uuid,
    pub(crate) wrapped: Vec<u8>,
    pub(crate) wrapped_by: Option<Vec<u8>>,
}

/// The master key: configured, or in development read from `COMPANION_HOME`, where it is made once.
///
/// # Errors
/// [`VaultError::MasterKey`] with what to do.
pub fn master_key(config: &Config) -> Result<Secret, VaultError> {
    if let Some(key) = &config.master_key {
        return Ok(key.clone());
    }
    if config.environment == Environment::Production {
        return Err(VaultError::MasterKey(
            "COMPANION_MASTER_KEY is missing; make one with: openssl rand -base64 32".to_owned(),
        ));
    }
    let new = MasterKey::generate()?;
    kept_secret(&config.companion_home, masters::FILE, || new.expose().to_owned()).map_err(|error| {
        VaultError::MasterKey(format!(
            "{} can't be used to keep the master key: {error}; make it writable or set COMPANION_HOME to another folder",
            config.companion_home.display()
        ))
    })
}

/// A secret kept in a file of `home` that only its owner may read; made by `new` the first time.
///
/// # Errors
/// What the file system says.
pub fn kept_secret(
    home: &Path,
    name: &str,
    new: impl FnOnce() -> String,
) -> std::io::Result<Secret> {
    let path = home.join(name);
    match fs::read_to_string(&path) {
        Ok(secret) => return Ok(Secret::new(secret.trim())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    fs::create_dir_all(home)?;
    // Written whole under another name first: a crash leaves no half of a secret, and of two
    // processes that start together one wins.
    let draft = home.join(format!("{name}.{}", Uuid::now_v7()));
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let kept = options.open(&draft).and_then(|mut file| {
        file.write_all(new().as_bytes())?;
        file.sync_all()?;
        match fs::hard_link(&draft, &path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    });
    // Also when the disk is full.
    let removed = fs::remove_file(&draft);
    kept?;
    removed?;
    Ok(Secret::new(fs::read_to_string(&path)?.trim()))
}

fn wrapping(user: UserId, key_id: Uuid) -> Vec<u8> {
    [user.0.as_bytes().as_slice(), key_id.as_bytes().as_slice()].concat()
}

/// Fills with random bytes from the system.
pub(crate) fn random(bytes: &mut [u8]) -> Result<(), VaultError> {
    getrandom::fill(bytes).map_err(|error| VaultError::Random(error.to_string()))
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD as BASE64;

    use super::*;

    fn key() -> DataKey {
        let cipher = Cipher::new(&[7; KEY_BYTES]).expect("length");
        DataKey {
            id: Uuid::nil(),
            cipher,
        }
    }

    fn binding(type_name: &str) -> Binding<'_> {
        Binding {
            event_id: Uuid::nil(),
            type_name,
            schema_version: 1,
        }
    }

    #[test]
    fn what_is_sealed_can_be_opened_and_does_not_show() {
        let sealed = key()
            .seal(binding("UserMessageReceived"), b"my canary")
            .expect("seals");
        assert!(!sealed.windows(6).any(|part| part == b"canary"));
        assert_eq!(
            key()
                .open(binding("UserMessageReceived"), &sealed)
                .expect("opens"),
            b"my canary"
        );
    }

    #[test]
    fn a_payload_can_not_be_moved_to_another_event_or_altered() {
        let mut sealed = key()
            .seal(binding("UserMessageReceived"), b"text")
            .expect("seals");
        assert!(key().open(binding("ReplyCompleted"), &sealed).is_err());
        let other = Binding {
            event_id: Uuid::max(),
            ..binding("UserMessageReceived")
        };
        assert!(key().open(other, &sealed).is_err());
        sealed[30] ^= 1;
        assert!(key().open(binding("UserMessageReceived"), &sealed).is_err());
        assert!(
            key()
                .open(binding("UserMessageReceived"), &[1, 2, 3])
                .is_err()
        );
    }

    #[test]
    fn a_master_key_of_the_wrong_length_is_refused_with_the_way_to_make_one() {
        for bad in ["", "short", "not base64 !!", &BASE64.encode([1; 31])] {
            let error = Vault::new(&Secret::new(bad)).err().expect(bad).to_string();
            assert!(error.contains("openssl rand -base64 32"), "{error}");
        }
        assert!(Vault::new(&Secret::new(BASE64.encode([1; 32]))).is_ok());
    }

    #[test]
    fn a_kept_secret_is_made_once_and_only_its_owner_may_read_it() {
        let home = std::env::temp_dir().join(format!("companion-{}", Uuid::now_v7()));
        let first = kept_secret(&home, "k", || "one".to_owned()).expect("made");
        let second = kept_secret(&home, "k", || "two".to_owned()).expect("read");
        assert_eq!((first.expose(), second.expose()), ("one", "one"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(home.join("k"))
                .expect("metadata")
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(&home).expect("home").count(), 1);
        fs::remove_dir_all(&home).expect("removed");
    }
}
