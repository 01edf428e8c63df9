//! Where a home's cluster lies: in the home, or, when `nobody` has to run it and can't get there,
//! in a folder of the system that the home names by a symbolic link.

use std::fs::{self, DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use uuid::Uuid;

use super::{leftovers, software};
use crate::disk;
use crate::identity::Identity;

/// What a home calls its cluster.
const CLUSTER: &str = "postgres";

/// Where a cluster lies and how it is run.
#[derive(Debug)]
pub(crate) struct Place {
    /// The cluster's folder; nothing is there before the first start.
    pub(crate) data: PathBuf,
    /// The folder that holds `bin`.
    pub(crate) software: PathBuf,
    /// Who runs it.
    pub(crate) identity: Option<Identity>,
    /// The home's link to it, when it is not in the home.
    link: Option<PathBuf>,
}

impl Place {
    /// Finds the cluster of a home, or a place for it. `home` exists and is absolute.
    pub(crate) fn of(home: &Path) -> Result<Self> {
        let name = home.join(CLUSTER);
        let identity = Identity::for_postgres()?;
        match (fs::symlink_metadata(&name), identity) {
            (Ok(found), _) => {
                let data = name.canonicalize().map_err(|error| {
                    anyhow!("{} leads to the database, which can't be reached ({error}); put it back, or delete {0} to begin anew", name.display())
                })?;
                let elsewhere = found.is_symlink();
                if elsewhere {
                    check_owner(&data, home)?;
                }
                // Root may look after a home that somebody else runs.
                let identity = identity.map(|nobody| owner(&data).unwrap_or(nobody));
                check_reach(&data, identity)?;
                let software = software::runnable(identity, || base(identity, Some(&data)))?;
                Ok(Self {
                    data,
                    software,
                    identity,
                    link: elsewhere.then_some(name),
                })
            }
            (Err(_), None) => Ok(Self {
                data: name,
                software: software::runnable(None, PathBuf::new)?,
                identity,
                link: None,
            }),
            (Err(_), Some(nobody)) if nobody.can_enter(home) && can_give(home, nobody) => {
                let software = software::runnable(identity, || base(identity, None))?;
                Ok(Self {
                    data: name,
                    software,
                    identity,
                    link: None,
                })
            }
            (Err(_), Some(_)) => {
                let base = base(identity, None);
                let software = software::runnable(identity, || base.clone())?;
                let clusters = base.join("clusters");
                make_open(&clusters).map_err(|error| disk::cannot_write(&clusters, &error))?;
                leftovers::remove_orphans(&clusters);
                // A name of its own: a home that is made anew never meets the cluster of a former one.
                let data = clusters.join(Uuid::new_v4().to_string());
                Ok(Self {
                    data,
                    software,
                    identity,
                    link: Some(name),
                })
            }
        }
    }

    /// Whether the cluster is there.
    pub(crate) fn exists(&self) -> bool {
        self.data.join("PG_VERSION").is_file()
    }

    /// Where the data lies, when that is not in the home.
    pub(crate) fn elsewhere(&self) -> Option<&Path> {
        self.link.as_ref().map(|_| self.data.as_path())
    }

    /// Lets the home name the cluster that was made.
    pub(crate) fn connect(&self, home: &Path) -> Result<()> {
        let Some(link) = &self.link else {
            return Ok(());
        };
        let connect = || -> std::io::Result<()> {
            fs::write(owner_file(&self.data), home.as_os_str().as_encoded_bytes())?;
            let draft = link.with_added_extension(format!("partial-{}", Uuid::new_v4()));
            symlink(&self.data, &draft)?;
            fs::rename(&draft, link)
        };
        connect().map_err(|error| disk::cannot_write(link, &error))
    }
}

/// Whether a home has a cluster already.
pub(crate) fn has_cluster(home: &Path) -> bool {
    home.join(CLUSTER).join("PG_VERSION").is_file()
}

/// The system's folder for what can't lie in a home, if this process may write there and
/// `identity` may go there.
pub(crate) fn system_base(identity: Option<Identity>) -> Option<PathBuf> {
    let base = PathBuf::from("/var/lib/companion");
    if !base.exists() {
        make_open(&base).ok()?;
    }
    tempfile::tempfile_in(&base).ok()?;
    identity
        .is_none_or(|identity| identity.can_enter(&base))
        .then_some(base)
}

/// Where copies and clusters are kept: in the system's folder, else where the cluster is, else in a
/// new folder with a name that nobody could have prepared.
fn base(identity: Option<Identity>, cluster: Option<&Path>) -> PathBuf {
    let beside = || {
        let cluster = cluster.filter(|cluster| owner_file(cluster).is_file())?;
        Some(cluster.parent()?.parent()?.to_owned())
    };
    system_base(identity).or_else(beside).unwrap_or_else(|| {
        let base = PathBuf::from("/tmp").join(format!("companion-{}", Uuid::new_v4()));
        // When it fails, so does what is put there, and says so.
        let _ = make_open(&base);
        base
    })
}

/// Makes a folder that everybody may pass, whatever the `umask` is.
pub(crate) fn make_open(folder: &Path) -> std::io::Result<()> {
    match DirBuilder::new().mode(0o755).create(folder) {
        Ok(()) => fs::set_permissions(folder, Permissions::from_mode(0o755)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// The file beside a cluster outside the home that names its home.
pub(crate) fn owner_file(data: &Path) -> PathBuf {
    data.with_added_extension("home")
}

/// A copied home brings the link along, not the cluster: two homes on one cluster would mix.
fn check_owner(data: &Path, home: &Path) -> Result<()> {
    let Ok(owner) = fs::read_to_string(owner_file(data)) else {
        return Ok(());
    };
    if Path::new(&owner) == home {
        return Ok(());
    }
    let leads_here = Path::new(&owner)
        .join(CLUSTER)
        .canonicalize()
        .is_ok_and(|other| other == data);
    if leads_here {
        bail!(
            "{} leads to the database of {owner} (a copy of that folder has only the link); delete {0} to begin \
             with an empty database",
            home.join(CLUSTER).display()
        );
    }
    // The home was moved.
    fs::write(owner_file(data), home.as_os_str().as_encoded_bytes())
        .with_context(|| format!("{} can't be written", owner_file(data).display()))
}

fn check_reach(data: &Path, identity: Option<Identity>) -> Result<()> {
    let folder = data.parent().unwrap_or(data);
    match identity {
        Some(who) if !who.can_enter(folder) => bail!(
            "PostgreSQL refuses to run as root, and the user {} that owns the database in {} can't enter that \
             folder; open the folders above it with chmod o+x, or run this as that user",
            who.uid,
            data.display()
        ),
        _ => Ok(()),
    }
}

/// Who owns a cluster; `None` for root, who can't run it.
fn owner(data: &Path) -> Option<Identity> {
    let found = fs::metadata(data).ok()?;
    (found.uid() != 0).then(|| Identity {
        uid: found.uid(),
        gid: found.gid(),
    })
}

/// Whether what is made in a folder can be given to another user; some file systems refuse.
fn can_give(folder: &Path, to: Identity) -> bool {
    tempfile::NamedTempFile::new_in(folder)
        .is_ok_and(|file| chown(file.path(), Some(to.uid), Some(to.gid)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster_of(home: &Path, folder: &Path) -> Place {
        fs::create_dir_all(home).expect("home");
        let data = folder.join("clusters/1");
        fs::create_dir_all(&data).expect("cluster");
        let link = Some(home.join(CLUSTER));
        Place {
            data,
            software: PathBuf::new(),
            identity: None,
            link,
        }
    }

    #[test]
    fn a_home_leads_to_its_cluster_and_a_copy_of_the_home_is_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let folder = folder.path().canonicalize().expect("path");
        let (home, copy) = (folder.join("home"), folder.join("copy"));
        let place = cluster_of(&home, &folder);
        place.connect(&home).expect("connected");
        assert_eq!(home.join(CLUSTER).canonicalize().expect("link"), place.data);
        check_owner(&place.data, &home).expect("its own");
        let error = check_owner(&place.data, &copy)
            .expect_err("a copy")
            .to_string();
        assert!(
            error.contains("copy/postgres leads to the database of"),
            "{error}"
        );
    }

    #[test]
    fn a_home_that_was_moved_keeps_its_cluster() {
        let folder = tempfile::tempdir().expect("folder");
        let folder = folder.path().canonicalize().expect("path");
        let (home, moved) = (folder.join("home"), folder.join("moved"));
        let place = cluster_of(&home, &folder);
        place.connect(&home).expect("connected");
        fs::rename(&home, &moved).expect("moved");
        check_owner(&place.data, &moved).expect("taken along");
        check_owner(&place.data, &moved).expect("and known");
    }
}
