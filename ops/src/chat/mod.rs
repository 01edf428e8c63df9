//! `companion chat`: talking to the companion in a terminal.

mod client;
mod input;

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;

use anyhow::{Result, anyhow};
use companion_adapters::config::Config;
use companion_adapters::errors;
use futures_util::{StreamExt, pin_mut};
use uuid::Uuid;

use self::client::{Client, Piece, Recalled};
use self::input::{Input, Line};
use crate::output::{line, note};
use crate::port::reachable;

const HELP: &str = "  /new        begin a new conversation
  /memories   list what the companion remembers of you
  /help       show this
  /quit       leave (so does Ctrl-D)
  Ctrl-C      stop listening to a reply; it goes on and is stored
Anything else is said to the companion.";

/// How to reach the service, and as whom.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Where the service is; on this machine, where HOST and PORT say, unless given
    #[arg(long)]
    url: Option<String>,
    /// Whom to talk as, where the service takes X-User-Id
    #[arg(long, value_name = "NAME", default_value = "me")]
    user: String,
    /// A JWT to use instead
    #[arg(
        long,
        value_name = "JWT",
        env = "COMPANION_TOKEN",
        hide_env_values = true
    )]
    token: Option<String>,
    /// The conversation to go on with
    #[arg(long, value_name = "ID")]
    conversation: Option<Uuid>,
}

/// Talks until the user leaves. Where nobody types, the first failure ends it.
pub(crate) async fn run(options: Options) -> Result<()> {
    let url = match options.url {
        Some(url) => url,
        None => {
            let config = Config::from_env()?;
            let address = SocketAddr::new(config.host, config.port);
            format!("http://{}", reachable(address))
        }
    };
    let client = Client::new(&url, &options.user, options.token.as_deref())?;
    client.greet().await?;
    let mut input = Input::new();
    let terminal = input.is_terminal();
    let mut chat = Chat {
        client,
        conversation: options.conversation,
        terminal,
        style: Style::of_terminal(),
    };
    if terminal {
        line(chat.style.dim("Say something; /help lists the commands."));
    }
    loop {
        let text = match input.read("you> ").await? {
            Line::Text(text) => text,
            Line::End => break,
        };
        let last = match text.trim() {
            "" => continue,
            "/quit" | "/exit" => break,
            command if command.starts_with('/') => chat.command(command).await,
            message => chat.say(message).await,
        };
        if let Err(error) = &last {
            if !terminal {
                // A script wants to know at once.
                return last;
            }
            note(chat.style.red(&errors::in_one_line(&**error)));
        }
    }
    Ok(())
}

struct Chat {
    client: Client,
    conversation: Option<Uuid>,
    terminal: bool,
    style: Style,
}

impl Chat {
    async fn command(&mut self, command: &str) -> Result<()> {
        match command {
            "/help" => line(HELP),
            "/new" => {
                self.conversation = None;
                line(self.style.dim("A new conversation."));
            }
            "/memories" => self.list_memories().await?,
            other => return Err(anyhow!("there is no command {other}; /help lists them")),
        }
        Ok(())
    }

    async fn list_memories(&self) -> Result<()> {
        let (memories, total) = self.client.memories().await?;
        for memory in &memories {
            let about = format!("({}, importance {:.2})", memory.kind, memory.importance_now);
            line(format_args!(
                "  {} {}",
                memory.content,
                self.style.dim(&about)
            ));
        }
        let count = match total {
            0 => "Nothing is remembered yet; that takes a few seconds after a message.".to_owned(),
            total if total > memories.len() as u64 => {
                format!("{} of {total} memories", memories.len())
            }
            1 => "1 memory".to_owned(),
            total => format!("{total} memories"),
        };
        line(self.style.dim(&count));
        Ok(())
    }

    /// Says something and shows the reply as it comes; Ctrl-C stops listening.
    async fn say(&mut self, message: &str) -> Result<()> {
        let listened = tokio::select! {
            listened = self.listen(message) => listened,
            interrupted = tokio::signal::ctrl_c(), if self.terminal => {
                interrupted?;
                line(self.style.dim("\n(no longer listening; the reply goes on and is stored)"));
                return Ok(());
            }
        };
        listened?;
        if let Some(conversation) = self.conversation {
            self.show(&self.client.recalled(conversation).await?);
        }
        Ok(())
    }

    async fn listen(&mut self, message: &str) -> Result<()> {
        let (conversation, pieces) = self.client.say(message, self.conversation).await?;
        self.conversation = conversation.or(self.conversation);
        pin_mut!(pieces);
        let mut wrote = false;
        while let Some(piece) = pieces.next().await {
            let end = match piece {
                Ok(Piece::Text(text)) => {
                    wrote = true;
                    write_now(&text);
                    continue;
                }
                Ok(Piece::Done) => Ok(()),
                Ok(Piece::Cancelled) => {
                    write_now(&self.style.dim(" (cancelled)"));
                    wrote = true;
                    Ok(())
                }
                Err(error) => Err(error),
            };
            if wrote {
                line("");
            }
            return end;
        }
        Err(anyhow!(
            "the connection was cut off; the reply goes on and is stored"
        ))
    }

    fn show(&self, recalled: &[Recalled]) {
        for memory in recalled {
            let text = format!("  recalled: {} ({:.2})", memory.content, memory.score);
            line(self.style.dim(&text));
        }
    }
}

/// Writes a piece of a line at once.
fn write_now(text: &str) {
    let mut out = std::io::stdout();
    // Nobody reading is no error.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Colours, where they are wanted.
#[derive(Debug, Clone, Copy)]
struct Style {
    colours: bool,
}

impl Style {
    fn of_terminal() -> Self {
        Self {
            colours: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        }
    }

    fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    fn red(self, text: &str) -> String {
        self.paint("31", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colours {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_colours_a_text_stays_as_it_is() {
        assert_eq!(Style { colours: false }.dim("x"), "x");
        assert_eq!(Style { colours: true }.dim("x"), "\x1b[2mx\x1b[0m");
    }
}
