//! `companion events stats`.

use std::fmt::Write;
use std::process::ExitCode;

use anyhow::Result;
use companion_adapters::log::view::{self, Count, Statistics};
use companion_domain::ids::{ExternalUserId, UserId};

use crate::operator::Operator;
use crate::output::line;
use crate::printable::printable;

pub(super) async fn run(
    operator: &Operator,
    user: Option<&ExternalUserId>,
    json: bool,
) -> Result<ExitCode> {
    operator.tell_of_nobody(user).await?;
    let mut connection = operator.pool.acquire().await?;
    let counted = view::statistics(&mut connection, user.map(UserId::of));
    let statistics = operator
        .unless_stopped("Nothing is counted yet.", counted)
        .await??;
    line(if json {
        serde_json::to_string(&statistics)?
    } else {
        text(&statistics)
    });
    Ok(ExitCode::SUCCESS)
}

fn text(statistics: &Statistics) -> String {
    let mut text = format!(
        "{} events of {} users, payloads {}, the table with its indexes {} on disk",
        statistics.events,
        statistics.users,
        size(statistics.payload_bytes),
        size(statistics.bytes_on_disk),
    );
    if let (Some(oldest), Some(newest)) = (statistics.oldest, statistics.newest) {
        let format = "%Y-%m-%d %H:%M:%S";
        let _ = write!(
            text,
            "\noldest {} UTC, newest {} UTC",
            oldest.format(format),
            newest.format(format)
        );
    }
    let feed = &statistics.feed;
    let _ = match feed.oldest_transaction_seconds {
        Some(seconds) => write!(
            text,
            "\nfeed: {} events wait for the oldest transaction, which has run for {seconds:.1} s",
            feed.held_back
        ),
        None => write!(text, "\nfeed: {} events wait", feed.held_back),
    };
    table(&mut text, "by type", &statistics.by_type, |name| {
        printable(name)
    });
    table(&mut text, "by day (UTC)", &statistics.by_day, |day| {
        day.to_string()
    });
    text
}

fn table<T>(text: &mut String, title: &str, counts: &[Count<T>], name: impl Fn(&T) -> String) {
    let _ = write!(text, "\n\n{title}");
    for count in counts {
        let _ = write!(
            text,
            "\n{:>12}  {:>10}  {}",
            count.events,
            size(count.payload_bytes),
            name(&count.of)
        );
    }
}

/// Bytes as people read them.
fn size(bytes: i64) -> String {
    let mut amount = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if amount < 1_000.0 {
            return if unit == "B" {
                format!("{bytes} B")
            } else {
                format!("{amount:.1} {unit}")
            };
        }
        amount /= 1_000.0;
    }
    format!("{amount:.1} TB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_at_a_glance() {
        for (bytes, shown) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_500, "1.5 kB"),
            (2_340_000_000, "2.3 GB"),
        ] {
            assert_eq!(size(bytes), shown);
        }
    }
}
