//! The embedded PostgreSQL of a home: started by whoever needs it first, shared by the commands
//! that come meanwhile.

pub(crate) mod cluster;
pub(crate) mod leftovers;
pub(crate) mod pg_log;
pub(crate) mod placement;
pub(crate) mod postmaster;
pub(crate) mod server;
pub(crate) mod software;

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use companion_adapters::config::{Config, Secret};
use companion_adapters::vault;
use tokio::time::sleep;
use uuid::Uuid;

use self::cluster::Cluster;
use self::placement::Place;
use self::server::{DATABASE, Server};
use crate::disk;
use crate::home::{self, Holder, Lock};
use crate::output::note;

const PASSWORD_FILE: &str = "postgres.password";
/// Names the port of the running server.
const PORT_FILE: &str = "postgres.port";
/// Held, shared, by commands that use a server that another one has started.
const GUESTS_FILE: &str = "postgres.guests";
const SETTINGS: &[(&str, &str)] = &[("max_connections", "100"), ("synchronous_commit", "on")];
/// What a new cluster and its first log need.
const ROOM_BYTES: u64 = 150_000_000;
/// How long another process may take to start or stop the server.
const OTHERS_WITHIN: Duration = Duration::from_secs(60);
/// How long `up` lets a short command finish.
const COMMANDS_WITHIN: Duration = Duration::from_secs(20);
/// How long the system takes to clear away a process that was killed this moment.
pub(crate) const KILLED_WITHIN: Duration = Duration::from_millis(500);
const STEP: Duration = Duration::from_millis(50);

/// What keeps the database reachable while a command uses it.
#[derive(Debug)]
pub(crate) enum Guard {
    /// This process runs the server.
    Owner(Box<Embedded>),
    /// Another process runs it, and waits for us before it stops.
    Guest(#[expect(dead_code, reason = "held, not read")] File),
}

impl Guard {
    /// Gives the database back: stops the server if this process has started it.
    pub(crate) async fn release(self) {
        if let Self::Owner(embedded) = self {
            embedded.stop_after_guests().await;
        }
    }
}

/// The same of a database that is there: a command in the wrong folder is not to make a new one.
///
/// # Errors
/// When there is none, and those of [`url_for`].
pub(crate) async fn url_of_existing(
    config: &Config,
    command: &str,
) -> Result<(Secret, Option<Guard>)> {
    let home = &config.companion_home;
    // Not even the folder is to be made.
    let is_there = || anyhow::Ok(home.is_dir() && Place::of(&home::open(config)?)?.exists());
    if config.postgres_url.is_none() && !is_there()? {
        bail!(
            "there is no database in {}; run this where the service runs, or set COMPANION_HOME or POSTGRES_URL as \
             it has them. A new one is made by: ops/up",
            home.display()
        );
    }
    url_for(config, command).await
}

/// The URL of the database of a configuration: the configured one, or that of the embedded server,
/// which is started for `command` unless it runs already, and made when there is none.
pub(crate) async fn url_for(config: &Config, command: &str) -> Result<(Secret, Option<Guard>)> {
    if let Some(url) = &config.postgres_url {
        return Ok((url.clone(), None));
    }
    let home = home::open(config)?;
    let begun = Instant::now();
    loop {
        if let Ok(lock) = home::try_lock(&home, command)? {
            let embedded = Embedded::start(home, lock).await?;
            return Ok((embedded.url.clone(), Some(Guard::Owner(Box::new(embedded)))));
        }
        if let Some((url, guest)) = join(&home)? {
            return Ok((url, Some(Guard::Guest(guest))));
        }
        if begun.elapsed() > OTHERS_WITHIN {
            bail!(
                "the PostgreSQL of {} is being started or stopped by another command; try again later",
                home.display()
            );
        }
        sleep(STEP).await;
    }
}

/// The running server of a home, if it accepts connections and is not about to stop.
fn join(home: &Path) -> Result<Option<(Secret, File)>> {
    let guests = open_guests(home)?;
    match guests.try_lock_shared() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => {
            return Err(disk::cannot_write(&home.join(GUESTS_FILE), &error));
        }
    }
    // Read under the lock: whoever stops the server takes the lock and removes the file.
    let Some(port) = fs::read_to_string(home.join(PORT_FILE))
        .ok()
        .and_then(|text| parse_port(&text))
    else {
        return Ok(None);
    };
    Ok(Some((
        server::url(port, &password(home)?, DATABASE),
        guests,
    )))
}

fn parse_port(text: &str) -> Option<u16> {
    text.strip_suffix('\n')?
        .parse()
        .ok()
        .filter(|port| *port > 0)
}

fn open_guests(home: &Path) -> Result<File> {
    let path = home.join(GUESTS_FILE);
    File::options()
        .append(true)
        .create(true)
        .open(&path)
        .map_err(|error| disk::cannot_write(&path, &error))
}

fn password(home: &Path) -> Result<Secret> {
    let new = || format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    vault::kept_secret(home, PASSWORD_FILE, new)
        .map_err(|error| disk::cannot_write(&home.join(PASSWORD_FILE), &error))
}

/// The server of a home, run by this process.
#[derive(Debug)]
pub(crate) struct Embedded {
    /// The URL of the service's database.
    pub(crate) url: Secret,
    /// Where the data lies, when that is not in the home.
    pub(crate) elsewhere: Option<PathBuf>,
    home: PathBuf,
    server: Server,
    _lock: Lock,
}

impl Embedded {
    /// Starts the server for the service itself.
    pub(crate) async fn start_for_service(config: &Config) -> Result<Self> {
        let home = home::open(config)?;
        let begun = Instant::now();
        loop {
            let holder = match home::try_lock(&home, "up")? {
                Ok(lock) => return Self::start(home, lock).await,
                Err(holder) => holder,
            };
            let service = holder.as_ref().is_some_and(|holder| holder.command == "up");
            let patience = if service {
                KILLED_WITHIN
            } else {
                COMMANDS_WITHIN
            };
            if begun.elapsed() > patience {
                return Err(taken(&home, holder.as_ref(), config.port));
            }
            sleep(STEP).await;
        }
    }

    async fn start(home: PathBuf, lock: Lock) -> Result<Self> {
        remove_port_file(&home);
        // The lock says that nobody works on them.
        leftovers::remove_partial(&home, Duration::ZERO);
        let place = Place::of(&home)?;
        let cluster = Cluster {
            software: place.software.clone(),
            data: place.data.clone(),
            identity: place.identity,
            log: home.join("postgres.log"),
            settings: SETTINGS,
        };
        if place.exists() {
            if !home.join(PASSWORD_FILE).is_file() {
                bail!(
                    "{} is missing, the password of the database in {}; put it back, or move that folder away to \
                     begin with an empty database",
                    home.join(PASSWORD_FILE).display(),
                    place.data.display()
                );
            }
            postmaster::wait_for_former(&place.data).await?;
        } else {
            create(&home, &place, &cluster).await?;
        }
        let password = password(&home)?;
        let server = cluster.start().await?;
        server.make_database(&password).await?;
        let port_file = home.join(PORT_FILE);
        fs::write(&port_file, format!("{}\n", server.port))
            .map_err(|error| disk::cannot_write(&port_file, &error))?;
        Ok(Self {
            url: server.url(&password, DATABASE),
            elsewhere: place.elsewhere().map(Path::to_owned),
            home,
            server,
            _lock: lock,
        })
    }

    /// Waits until the server ends without having been asked to, and says why.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        self.server.failed().await
    }

    /// Stops the server.
    pub(crate) async fn stop(self) {
        remove_port_file(&self.home);
        self.server.stop().await;
    }

    /// Stops the server when no other command uses it any more.
    async fn stop_after_guests(self) {
        let Ok(guests) = open_guests(&self.home) else {
            return self.stop().await;
        };
        let mut told = false;
        while let Err(TryLockError::WouldBlock) = guests.try_lock() {
            if !told {
                note("Another command still uses the database; waiting for it.");
                told = true;
            }
            sleep(STEP).await;
        }
        self.stop().await;
        drop(guests);
    }
}

fn remove_port_file(home: &Path) {
    // There may be none.
    let _ = fs::remove_file(home.join(PORT_FILE));
}

async fn create(home: &Path, place: &Place, cluster: &Cluster) -> Result<()> {
    let parent = place.data.parent().unwrap_or(home);
    if disk::free_bytes(parent).is_ok_and(|free| free < ROOM_BYTES) {
        return Err(disk::full(&place.data));
    }
    cluster.create(&password(home)?, true).await?;
    place.connect(home)
}

/// Says who uses a home and what to do.
fn taken(home: &Path, holder: Option<&Holder>, port: u16) -> anyhow::Error {
    let who = holder.map_or_else(
        || "another companion".to_owned(),
        |holder| format!("`companion {}` (process {})", holder.command, holder.pid),
    );
    anyhow!(
        "{} is in use by {who}; stop that, or run a second one beside it: COMPANION_HOME={0}-2 PORT={}",
        home.display(),
        port.checked_add(1).unwrap_or(8000)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_read_only_when_the_line_is_whole() {
        assert_eq!(parse_port("5432\n"), Some(5432));
        for bad in ["", "54", "\n", "0\n", "70000\n", "x\n"] {
            assert_eq!(parse_port(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_home_in_use_is_told_with_both_ways_out() {
        let holder = Holder {
            command: "up".to_owned(),
            pid: 7,
        };
        let error = taken(Path::new("/srv/home"), Some(&holder), 8000).to_string();
        assert_eq!(
            error,
            "/srv/home is in use by `companion up` (process 7); stop that, or run a second one beside it: \
             COMPANION_HOME=/srv/home-2 PORT=8001"
        );
    }

    #[test]
    fn a_server_that_nobody_announced_can_not_be_joined() {
        let home = tempfile::tempdir().expect("home");
        assert!(join(home.path()).expect("usable").is_none());
        fs::write(home.path().join(PORT_FILE), "5432\n").expect("written");
        let (url, _guest) = join(home.path()).expect("usable").expect("announced");
        assert!(url.expose().ends_with("@127.0.0.1:5432/companion"));
    }
}
