//! Other processes of this machine, by their number.

use std::process::Command;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

/// Whether a process has this number.
pub(crate) fn is_alive(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return false;
    };
    !matches!(test_kill_process(pid), Err(Errno::SRCH))
}

/// Whether the command line of a process holds `program`; `true` when that can't be known.
pub(crate) fn runs(pid: u32, program: &str) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).or_else(|_| {
        let ps = Command::new("ps")
            .args(["-o", "command=", "-p", &pid.to_string()])
            .output()?;
        Ok::<_, std::io::Error>(ps.stdout)
    });
    line.map_or(true, |line| {
        String::from_utf8_lossy(&line).contains(program)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_is_no_postgres() {
        assert!(is_alive(std::process::id()));
        assert!(!runs(std::process::id(), "postgres-that-nobody-runs"));
        assert!(!is_alive(0));
        assert!(!is_alive(u32::MAX));
    }
}
