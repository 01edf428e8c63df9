//! `keys.jsonl`: the users' wrapped keys, and what is known about erasures, as JSON Lines. The last line
//! is the checksum of those before it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, Utc};
use companion_adapters::backup::{DestroyedKey, ErasedUser, Snapshot, UserKey};
use companion_adapters::vault::masters::CheckValue;
use companion_domain::ids::{ExternalUserId, UserId};
use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::files::{Writer, cannot_write, hex};

pub(crate) const FILE: &str = "keys.jsonl";
const FORMAT: &str = "companion-keys";
/// The version of the format that is written and read.
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// The first line.
    Keys {
        format: String,
        version: u32,
        made_at: DateTime<Utc>,
        /// The check value of the master key that is in force.
        master_key: Option<String>,
    },
    Key {
        user_id: Uuid,
        key_id: Uuid,
        /// Base64.
        wrapped: String,
        /// The check value of the master key, hexadecimal.
        wrapped_by: Option<String>,
        created_at: DateTime<Utc>,
    },
    Erased {
        user_id: Uuid,
        erased_at: DateTime<Utc>,
    },
    Destroyed {
        key_id: Uuid,
        user_id: Uuid,
        destroyed_at: DateTime<Utc>,
    },
    /// The last line.
    Sha256(String),
}

/// What a file of keys holds.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    pub(crate) keys: Vec<UserKey>,
    pub(crate) erased: Vec<ErasedUser>,
    pub(crate) destroyed: Vec<DestroyedKey>,
    /// Lines that name users who are to be erased.
    pub(crate) named: Vec<String>,
    /// The check value of the master key that was in force.
    pub(crate) in_force: Option<CheckValue>,
}

/// Where the keys of a backup lie.
pub(crate) fn folder(dir: &Path, keys_dir: Option<&Path>) -> PathBuf {
    keys_dir.map_or_else(|| dir.join("keys"), Path::to_owned)
}

/// Writes the keys of a snapshot in the place of the former ones; how many users have one.
pub(crate) async fn write(
    folder: &Path,
    snapshot: &mut Snapshot,
    in_force: Option<CheckValue>,
) -> Result<u64> {
    fs::create_dir_all(folder).map_err(|error| cannot_write(folder, &error))?;
    let mut writer = Writer::create(&folder.join(FILE))?;
    let mut put = |line: &Line| -> Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        writer.write(&text)
    };
    put(&Line::Keys {
        format: FORMAT.to_owned(),
        version: VERSION,
        made_at: Utc::now(),
        master_key: in_force.map(|check| check.to_string()),
    })?;
    let mut users = 0;
    let mut keys = snapshot.keys();
    while let Some(key) = keys.try_next().await? {
        users += 1;
        put(&Line::Key {
            user_id: key.user_id,
            key_id: key.key_id,
            wrapped: BASE64.encode(&key.wrapped),
            wrapped_by: key.wrapped_by.as_deref().map(hex),
            created_at: key.created_at,
        })?;
    }
    drop(keys);
    let mut erasures = snapshot.erasures();
    while let Some(ErasedUser { user_id, erased_at }) = erasures.try_next().await? {
        put(&Line::Erased { user_id, erased_at })?;
    }
    drop(erasures);
    let mut destroyed = snapshot.destroyed();
    while let Some(key) = destroyed.try_next().await? {
        put(&Line::Destroyed {
            key_id: key.key_id,
            user_id: key.user_id,
            destroyed_at: key.destroyed_at,
        })?;
    }
    drop(destroyed);
    let mut last = serde_json::to_vec(&Line::Sha256(writer.sha256()))?;
    last.push(b'\n');
    writer.write(&last)?;
    writer.finish()?;
    Ok(users)
}

/// Reads the keys of a folder.
pub(crate) fn read(folder: &Path) -> Result<Keys> {
    let path = folder.join(FILE);
    let text = fs::read_to_string(&path).with_context(|| {
        format!(
            "{} can't be read; say where the keys are with --keys-dir",
            path.display()
        )
    })?;
    parse(&path, &text)
}

/// Reads a whole file of keys, of which the last line is the checksum of the others.
fn parse(path: &Path, text: &str) -> Result<Keys> {
    let damaged = || {
        anyhow!(
            "{} is damaged: it is not what the backup wrote. Take it from another copy",
            path.display()
        )
    };
    let (content, last) = text
        .strip_suffix('\n')
        .and_then(|text| text.rsplit_once('\n'))
        .ok_or_else(damaged)?;
    let Ok(Line::Sha256(noted)) = serde_json::from_str(last) else {
        return Err(damaged());
    };
    let mut hash = Sha256::new();
    hash.update(content);
    hash.update("\n");
    if hex(&hash.finalize()) != noted {
        return Err(damaged());
    }
    let mut keys = Keys::default();
    let mut lines = content.lines();
    match lines.next().map(serde_json::from_str) {
        Some(Ok(Line::Keys {
            format,
            version,
            master_key,
            ..
        })) => {
            if format != FORMAT || version != VERSION {
                bail!(
                    "{} is of format {format} version {version}, and this version of the software reads {FORMAT} version {VERSION}",
                    path.display()
                );
            }
            keys.in_force = master_key.and_then(|check| CheckValue::stored(&unhex(&check)?));
        }
        _ => return Err(damaged()),
    }
    for line in lines {
        take(
            &mut keys,
            serde_json::from_str(line).map_err(|_| damaged())?,
        )
        .ok_or_else(damaged)?;
    }
    Ok(keys)
}

impl Keys {
    /// Whether anything is known of a user.
    fn know(&self, user: UserId) -> bool {
        self.keys.iter().any(|key| key.user_id == user.0)
            || self.erased.iter().any(|erased| erased.user_id == user.0)
            || self.destroyed.iter().any(|key| key.user_id == user.0)
    }
}

/// Whom lines name: by the id by which callers know a user, or by that of the log. Those lines that name nobody
/// of whom the keys of the backup know come apart.
pub(crate) fn whom(named: &[String], known: &Keys) -> (Vec<UserId>, Vec<String>) {
    let (mut users, mut unknown) = (Vec::new(), Vec::new());
    for line in named {
        let external = ExternalUserId::parse(line).ok().map(|id| UserId::of(&id));
        let internal = Uuid::parse_str(line).ok().map(UserId);
        let meant: Vec<UserId> = [external, internal]
            .into_iter()
            .flatten()
            .filter(|user| known.know(*user))
            .collect();
        if meant.is_empty() {
            unknown.push(line.clone());
            // Of a user whom the backup of the keys does not know yet, credentials are to be refused, too.
            users.extend(external);
        }
        users.extend(meant);
    }
    (users, unknown)
}

/// Reads erasures: from a file of keys, of which only these count and which must be whole, or users' ids, one a
/// line.
pub(crate) fn read_erasures(path: &Path) -> Result<Keys> {
    let text =
        fs::read_to_string(path).with_context(|| format!("{} can't be read", path.display()))?;
    if matches!(
        text.lines().next().map(serde_json::from_str),
        Some(Ok(Line::Keys { .. }))
    ) {
        let mut found = parse(path, &text)?;
        found.keys.clear();
        return Ok(found);
    }
    let mut found = Keys::default();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        if ExternalUserId::parse(line).is_ok() {
            found.named.push(line.to_owned());
            continue;
        }
        let taken = serde_json::from_str(line)
            .ok()
            .and_then(|line| take(&mut found, line));
        taken.with_context(|| {
            format!(
                "{}, line {}, is neither a user's id nor a line of {FILE}",
                path.display(),
                number + 1
            )
        })?;
    }
    found.keys.clear();
    Ok(found)
}

/// Takes in a line; `None` when it makes no sense.
fn take(keys: &mut Keys, line: Line) -> Option<()> {
    match line {
        Line::Keys { .. } | Line::Sha256(_) => {}
        Line::Key {
            user_id,
            key_id,
            wrapped,
            wrapped_by,
            created_at,
        } => {
            let wrapped_by = match wrapped_by {
                Some(check) => Some(unhex(&check)?),
                None => None,
            };
            keys.keys.push(UserKey {
                user_id,
                key_id,
                wrapped: BASE64.decode(wrapped).ok()?,
                wrapped_by,
                created_at,
            });
        }
        Line::Erased { user_id, erased_at } => keys.erased.push(ErasedUser { user_id, erased_at }),
        Line::Destroyed {
            key_id,
            user_id,
            destroyed_at,
        } => keys.destroyed.push(DestroyedKey {
            key_id,
            user_id,
            destroyed_at,
        }),
    }
    Some(())
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erasures_are_read_from_ids_and_from_a_file_of_keys() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("erased");
        let id = Uuid::nil();
        let lines = format!(
            "alice\n\n{{\"erased\":{{\"user_id\":\"{id}\",\"erased_at\":\"2026-11-24T00:00:00Z\"}}}}\n"
        );
        fs::write(&path, lines).expect("written");
        let found = read_erasures(&path).expect("reads");
        assert_eq!((found.named.len(), found.erased.len()), (1, 1));
        fs::write(&path, "alice\nnot an id\n").expect("written");
        let error = read_erasures(&path).expect_err("no id").to_string();
        assert!(error.contains("line 2"), "{error}");
    }

    #[test]
    fn a_file_of_keys_that_was_cut_off_names_nobody_who_is_to_be_erased() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join(FILE);
        let header = Line::Keys {
            format: FORMAT.to_owned(),
            version: VERSION,
            made_at: Utc::now(),
            master_key: None,
        };
        let erased = Line::Erased {
            user_id: Uuid::nil(),
            erased_at: Utc::now(),
        };
        let lines = [header, erased].map(|line| serde_json::to_string(&line).expect("a line"));
        let text = lines.join("\n") + "\n";
        let sum = Line::Sha256(hex(&Sha256::digest(&text)));
        let whole = format!("{text}{}\n", serde_json::to_string(&sum).expect("a line"));
        fs::write(&path, &whole).expect("written");
        assert_eq!(read_erasures(&path).expect("reads").erased.len(), 1);
        fs::write(&path, &text).expect("written");
        let error = read_erasures(&path).expect_err("cut off").to_string();
        assert!(error.contains("damaged"), "{error}");
    }

    #[test]
    fn who_is_to_be_erased_is_named_by_either_id_and_a_mistyped_one_is_told() {
        let alice = UserId::of(&ExternalUserId::parse("alice").expect("an id"));
        let bob = UserId::of(&ExternalUserId::parse("bob").expect("an id"));
        let erased = |user: UserId| ErasedUser {
            user_id: user.0,
            erased_at: Utc::now(),
        };
        let known = Keys {
            erased: vec![erased(alice), erased(bob)],
            ..Keys::default()
        };
        let named = ["alice".to_owned(), bob.to_string(), "alcie".to_owned()];
        let (users, unknown) = whom(&named, &known);
        assert_eq!(unknown, ["alcie"]);
        assert!(users.contains(&alice) && users.contains(&bob));
    }

    #[test]
    fn hexadecimal_goes_there_and_back() {
        assert_eq!(unhex(&hex(&[0, 255, 16])), Some(vec![0, 255, 16]));
        assert_eq!(unhex("zz"), None);
    }
}
