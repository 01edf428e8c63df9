//! Who runs PostgreSQL: it refuses root, so that under root it is run as `nobody`, who may not pass
//! every folder.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Result, anyhow};

/// A user and its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The user's number.
    pub(crate) uid: u32,
    /// The number of its group.
    pub(crate) gid: u32,
}

impl Identity {
    /// Who is to run PostgreSQL; `None`: whoever runs this process.
    pub(crate) fn for_postgres() -> Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let nobody = find(&users, "nobody").ok_or_else(|| {
            anyhow!(
                "PostgreSQL refuses to run as root and there is no user 'nobody' here; run this as \
                 another user, or set POSTGRES_URL"
            )
        })?;
        Ok(Some(nobody))
    }

    /// Whether this user may enter a folder and all those above it. Looks at the permissions of
    /// what is really there, behind symbolic links.
    pub(crate) fn can_enter(self, folder: &Path) -> bool {
        let Ok(folder) = folder.canonicalize() else {
            return false;
        };
        folder
            .ancestors()
            .all(|folder| folder.metadata().is_ok_and(|found| self.may_pass(&found)))
    }

    fn may_pass(self, folder: &Metadata) -> bool {
        self.allowed(folder.uid(), folder.gid(), folder.mode())
    }

    /// Whether the mode gives this user the right to pass (the `x` that counts for it).
    fn allowed(self, uid: u32, gid: u32, mode: u32) -> bool {
        let shift = if uid == self.uid {
            6
        } else if gid == self.gid {
            3
        } else {
            0
        };
        (mode >> shift) & 0o1 == 0o1
    }
}

/// The numbers of a user in the text of `/etc/passwd`.
fn find(users: &str, name: &str) -> Option<Identity> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then_some(())?;
        // Some systems write the number of `nobody` as -2.
        let mut number = || {
            fields
                .next()?
                .parse::<i64>()
                .ok()
                .map(|number| number as u32)
        };
        let (_, uid, gid) = (number(), number()?, number()?);
        Some(Identity { uid, gid })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    const NOBODY: Identity = Identity {
        uid: 65534,
        gid: 65533,
    };

    #[test]
    fn the_right_to_pass_is_that_of_owner_group_or_others_whichever_is_first() {
        assert!(NOBODY.allowed(0, 0, 0o755));
        assert!(!NOBODY.allowed(0, 0, 0o770));
        assert!(NOBODY.allowed(0, 65533, 0o710));
        assert!(!NOBODY.allowed(0, 65533, 0o701));
        assert!(NOBODY.allowed(65534, 0, 0o700));
        assert!(!NOBODY.allowed(65534, 65533, 0o077));
    }

    #[test]
    fn a_closed_folder_above_closes_what_is_below() {
        let closed = tempfile::tempdir().expect("folder");
        let below = closed.path().join("open");
        fs::create_dir(&below).expect("created");
        fs::set_permissions(&below, Permissions::from_mode(0o755)).expect("opened");
        fs::set_permissions(closed.path(), Permissions::from_mode(0o700)).expect("closed");
        let stranger = Identity {
            uid: 54321,
            gid: 54321,
        };
        assert!(!stranger.can_enter(&below));
        fs::set_permissions(closed.path(), Permissions::from_mode(0o711)).expect("opened");
        assert_eq!(
            stranger.can_enter(&below),
            stranger.can_enter(&std::env::temp_dir())
        );
        assert!(!stranger.can_enter(&below.join("missing")));
    }

    #[test]
    fn nobody_is_found_in_the_list_of_users() {
        let users = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65533:n:/:/sbin/nologin\n";
        assert_eq!(find(users, "nobody"), Some(NOBODY));
        assert_eq!(
            find("nobody:*:-2:-2:n:/:/f", "nobody").map(|who| who.uid),
            Some(4_294_967_294)
        );
        assert_eq!(find("nobody2:x:1:1::/:/f", "nobody"), None);
    }
}
