//! Ports that are free.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, Result};

/// A port that is free now.
pub(crate) fn free_port() -> Result<u16> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port is left on 127.0.0.1")?;
    Ok(listener.local_addr()?.port())
}
