//! `backup.json`: which pieces a backup of the log has, in order, with their checksums.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result, bail};
use companion_adapters::log::subscription::Checkpoint;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::files::Writer;

pub(crate) const FILE: &str = "backup.json";
const FORMAT: &str = "companion-backup";
/// The version of the format that is written and read.
const VERSION: u32 = 1;

/// What a folder holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    format: String,
    version: u32,
    /// The version of the software that began it.
    software: String,
    /// The pieces of the log, in order.
    pub(crate) pieces: Vec<PieceFile>,
}

/// A file with a piece of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PieceFile {
    pub(crate) file: String,
    pub(crate) events: u64,
    pub(crate) bytes: u64,
    /// Hexadecimal.
    pub(crate) sha256: String,
    /// The place of its last event in the feed of the database that it comes from.
    pub(crate) xid: i64,
    pub(crate) position: i64,
    /// That event's id: tells whether a database is the one that it comes from.
    pub(crate) last_event: Uuid,
}

impl PieceFile {
    pub(crate) fn to(&self) -> Checkpoint {
        Checkpoint {
            xid: self.xid,
            position: self.position,
        }
    }
}

impl Manifest {
    pub(crate) fn new() -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            software: env!("CARGO_PKG_VERSION").to_owned(),
            pieces: Vec::new(),
        }
    }

    /// The place in the feed up to which there is a backup.
    pub(crate) fn end(&self) -> Checkpoint {
        self.pieces
            .last()
            .map_or_else(Checkpoint::default, PieceFile::to)
    }

    /// How many events there are.
    pub(crate) fn events(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.events).sum()
    }

    /// Reads that of a folder, if there is one.
    pub(crate) fn load(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("{} can't be read", path.display()));
            }
        };
        let manifest: Self = serde_json::from_slice(&text).with_context(|| {
            format!(
                "{} is damaged; take it from another copy of the backup",
                path.display()
            )
        })?;
        if manifest.format != FORMAT || manifest.version != VERSION {
            bail!(
                "{} is of format {} version {}, and this version of the software reads {FORMAT} version {VERSION}",
                path.display(),
                manifest.format,
                manifest.version
            );
        }
        let plain = |name: &str| !name.contains(['/', '\\']) && name != "..";
        if !manifest.pieces.iter().all(|piece| plain(&piece.file)) {
            bail!("{} names files of other folders", path.display());
        }
        Ok(Some(manifest))
    }

    /// Writes it in the place of the former one.
    pub(crate) fn save(&self, folder: &Path) -> Result<()> {
        let mut writer = Writer::create(&folder.join(FILE))?;
        writer.write(&serde_json::to_vec_pretty(self)?)?;
        writer.finish()?;
        Ok(())
    }
}
