//! The master keys that a process knows: one, or two while the master key is being changed.
//!
//! A master key is never in the database. Its check value is: eight bytes of a hash, from which the key
//! can't be found, and by which a process knows whether it has the key that is meant.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::VaultError;
use super::cipher::{Cipher, KEY_BYTES};
use crate::config::{Config, Secret};

/// The file of a home that holds its master key.
pub const FILE: &str = "master.key";
/// The file of a home that holds the key which is to take its place.
pub const NEXT_FILE: &str = "master.key.new";
/// What the check value is a hash of, before the key.
const CHECKED: &[u8] = b"companion master key check value v1";

/// Tells master keys apart without showing them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CheckValue([u8; 8]);

impl CheckValue {
    /// As it is stored.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Takes a stored one; `None` when it is not eight bytes.
    pub fn stored(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for CheckValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for CheckValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One master key.
pub struct MasterKey {
    /// Tells it from others.
    pub check: CheckValue,
    pub(super) cipher: Cipher,
}

impl MasterKey {
    /// Reads a key: 32 bytes in base64. `name` says in messages where it comes from.
    ///
    /// # Errors
    /// [`VaultError::MasterKey`] when it is not that.
    pub fn parse(name: &str, key: &Secret) -> Result<Self, VaultError> {
        let bytes = BASE64.decode(key.expose().trim()).map(Zeroizing::new);
        let bytes = bytes.ok().filter(|bytes| bytes.len() == KEY_BYTES);
        let cipher = bytes.as_ref().and_then(|bytes| Cipher::new(bytes));
        let (Some(bytes), Some(cipher)) = (bytes, cipher) else {
            return Err(VaultError::MasterKey(format!(
                "{name} is not 32 bytes in base64; make one with: openssl rand -base64 32"
            )));
        };
        let mut hash = Sha256::new();
        hash.update(CHECKED);
        hash.update(&*bytes);
        let mut check = [0; 8];
        for (to, from) in check.iter_mut().zip(hash.finalize()) {
            *to = from;
        }
        Ok(Self {
            check: CheckValue(check),
            cipher,
        })
    }

    /// Makes a new one, as it is written down.
    ///
    /// # Errors
    /// [`VaultError::Random`] when the system gives no random numbers.
    pub fn generate() -> Result<Secret, VaultError> {
        let mut bytes = Zeroizing::new([0u8; KEY_BYTES]);
        super::random(bytes.as_mut_slice())?;
        Ok(Secret::new(BASE64.encode(bytes.as_slice())))
    }
}

/// The keys that a process knows, its own first. Cheap to clone.
#[derive(Clone)]
pub struct Keyring {
    keys: Arc<RwLock<Vec<Arc<MasterKey>>>>,
    /// Where keys may turn up while the process runs: the home that keeps them.
    home: Option<PathBuf>,
}

impl Keyring {
    /// A ring with one key.
    pub fn of(key: MasterKey) -> Self {
        Self {
            keys: Arc::new(RwLock::new(vec![Arc::new(key)])),
            home: None,
        }
    }

    /// The keys of a configuration: its master key, made in development when there is none, and the new
    /// one if it is being changed.
    ///
    /// # Errors
    /// [`VaultError::MasterKey`] with what to do.
    pub fn open(config: &Config) -> Result<Self, VaultError> {
        let own = super::master_key(config)?;
        let mut ring = Self::of(MasterKey::parse("COMPANION_MASTER_KEY", &own)?);
        if let Some(new) = &config.new_master_key {
            ring.add(MasterKey::parse("COMPANION_NEW_MASTER_KEY", new)?);
        }
        if config.master_key.is_none() {
            ring.home = Some(config.companion_home.clone());
            ring.look_again();
        }
        Ok(ring)
    }

    /// Adds a key, unless it is there.
    pub fn add(&self, key: MasterKey) {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        if keys.iter().all(|known| known.check != key.check) {
            keys.push(Arc::new(key));
        }
    }

    /// All keys, the process's own first.
    pub fn all(&self) -> Vec<Arc<MasterKey>> {
        self.keys
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The key that the configuration names.
    pub fn own(&self) -> Option<Arc<MasterKey>> {
        self.all().into_iter().next()
    }

    /// The key with this check value, if the process knows it; also when it turned up since.
    pub fn find(&self, check: CheckValue) -> Option<Arc<MasterKey>> {
        let known = || self.all().into_iter().find(|key| key.check == check);
        known().or_else(|| self.look_again().then(known).flatten())
    }

    /// Looks for keys that turned up in the home. Whether there are more now.
    pub fn look_again(&self) -> bool {
        let Some(home) = &self.home else { return false };
        let before = self.all().len();
        for name in [FILE, NEXT_FILE] {
            if let Some(key) = read(&home.join(name)) {
                self.add(key);
            }
        }
        self.all().len() > before
    }
}

fn read(path: &Path) -> Option<MasterKey> {
    let text = Zeroizing::new(std::fs::read_to_string(path).ok()?);
    MasterKey::parse("", &Secret::new(text.trim())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> Secret {
        Secret::new(BASE64.encode([byte; KEY_BYTES]))
    }

    fn parsed(byte: u8) -> MasterKey {
        MasterKey::parse("K", &key(byte)).expect("a key")
    }

    #[test]
    fn a_check_value_tells_keys_apart_and_comes_back_from_the_database() {
        let (one, other) = (parsed(1), parsed(2));
        assert_eq!(one.check, parsed(1).check);
        assert_ne!(one.check, other.check);
        assert_eq!(CheckValue::stored(one.check.as_bytes()), Some(one.check));
        assert_eq!(CheckValue::stored(b"short"), None);
        assert_eq!(one.check.to_string().len(), 16);
    }

    #[test]
    fn a_key_that_is_generated_is_a_key_and_unlike_any_other() {
        let made = [MasterKey::generate(), MasterKey::generate()].map(|key| {
            MasterKey::parse("K", &key.expect("random numbers"))
                .expect("a key")
                .check
        });
        assert_ne!(made[0], made[1]);
    }

    #[test]
    fn a_key_that_turns_up_in_the_home_is_found_without_a_restart() {
        let home = tempfile::tempdir().expect("home");
        let ring = Keyring {
            home: Some(home.path().to_owned()),
            ..Keyring::of(parsed(1))
        };
        let new = parsed(2).check;
        assert!(ring.find(new).is_none());
        std::fs::write(home.path().join(NEXT_FILE), key(2).expose()).expect("written");
        assert!(ring.find(new).is_some());
        assert_eq!(ring.own().expect("own").check, parsed(1).check);
        assert!(!ring.look_again(), "nothing more turned up");
    }
}
