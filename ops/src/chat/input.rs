//! Where lines come from: an editor on a terminal, else standard input as it is.

use std::io::IsTerminal;

use anyhow::{Context, Result};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use tokio::task::spawn_blocking;

use crate::output::note;

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Text(String),
    End,
}

/// The source of lines.
pub(super) enum Input {
    /// `None` while a line is being read.
    Terminal(Option<Box<DefaultEditor>>),
    Plain,
}

impl Input {
    pub(super) fn new() -> Self {
        let editor = std::io::stdin()
            .is_terminal()
            .then(DefaultEditor::new)
            .and_then(Result::ok);
        match editor {
            Some(editor) => Self::Terminal(Some(Box::new(editor))),
            None => Self::Plain,
        }
    }

    pub(super) fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal(_))
    }

    /// Reads a line, on another thread: the wait may be long.
    pub(super) async fn read(&mut self, prompt: &'static str) -> Result<Line> {
        match self {
            Self::Plain => {
                let line = spawn_blocking(|| std::io::stdin().lines().next()).await?;
                let line = line.transpose().context("the input can't be read")?;
                Ok(line.map_or(Line::End, Line::Text))
            }
            Self::Terminal(place) => {
                let mut editor = match place.take() {
                    Some(editor) => editor,
                    None => Box::new(DefaultEditor::new()?),
                };
                let (editor, line) = spawn_blocking(move || {
                    let line = edit(&mut editor, prompt);
                    (editor, line)
                })
                .await?;
                *place = Some(editor);
                line
            }
        }
    }
}

/// One Ctrl-C clears the line, a second one in a row leaves.
fn edit(editor: &mut DefaultEditor, prompt: &str) -> Result<Line> {
    let mut interrupted = false;
    loop {
        match editor.readline(prompt) {
            Ok(text) => {
                // Only for the arrow keys; nothing is kept on disk.
                let _ = editor.add_history_entry(&text);
                return Ok(Line::Text(text));
            }
            Err(ReadlineError::Interrupted) if !interrupted => {
                interrupted = true;
                note("(Ctrl-C again, Ctrl-D or /quit leaves)");
            }
            Err(ReadlineError::Interrupted | ReadlineError::Eof) => return Ok(Line::End),
            Err(error) => return Err(error).context("the terminal can't be read"),
        }
    }
}
