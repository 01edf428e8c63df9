//! The labelled sets: who said what when, and which of it answers which question.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use chrono::{NaiveDateTime, TimeZone, Utc};
use serde_json::{Value, json};

use super::text;

/// Chats of a user with an assistant, written for this project.
const CHATS: &str = include_str!("../../../bench-data/recall.chats.jsonl");

/// The categories of LoCoMo. The last is about things that were never said: it is told apart.
const CATEGORIES: [(u8, &str); 5] = [
    (1, "1 multi-hop"),
    (2, "2 temporal"),
    (3, "3 open-domain"),
    (4, "4 single-hop"),
    (5, "5 adversarial"),
];
const ADVERSARIAL: u8 = 5;

/// A labelled set.
pub(super) struct Set {
    pub(super) name: &'static str,
    pub(super) people: Vec<Person>,
    /// The lines of the table: a category, or all that count.
    pub(super) categories: Vec<(Option<u8>, &'static str)>,
}

impl Set {
    /// Whether questions of a category count in the mean of all.
    pub(super) fn is_counted(&self, category: u8) -> bool {
        category != ADVERSARIAL
    }
}

/// One user of the service.
pub(super) struct Person {
    /// Their external id.
    pub(super) user: String,
    /// Their conversations: each the messages of an import.
    pub(super) conversations: Vec<Vec<Value>>,
    pub(super) questions: Vec<Question>,
}

impl Person {
    pub(super) fn messages(&self) -> usize {
        self.conversations.iter().map(Vec::len).sum()
    }
}

/// A question with the external ids of the messages that answer it.
pub(super) struct Question {
    pub(super) id: String,
    pub(super) text: String,
    pub(super) category: u8,
    pub(super) relevant: Vec<String>,
}

/// Reads LoCoMo: each conversation is a user of its own, and all its sessions are one conversation.
pub(super) fn locomo(folder: &Path, captions: bool) -> Result<Set> {
    let mut people: BTreeMap<String, Person> = BTreeMap::new();
    for turn in lines(&read(&only(folder, ".corpus.jsonl")?)?)? {
        let mut content = text(&turn, "text")?.to_owned();
        if let Some(caption) = turn["image_caption"].as_str().filter(|_| captions) {
            content.push_str(&format!(" [shares {caption}]"));
        }
        let user = text(&turn, "conv")?;
        let person = people.entry(user.to_owned()).or_insert_with(|| Person {
            user: user.to_owned(),
            conversations: vec![Vec::new()],
            questions: Vec::new(),
        });
        let speaker = text(&turn, "speaker")?;
        let messages = &mut person.conversations[0];
        let first = messages
            .first()
            .map_or(speaker, |m| m["name"].as_str().unwrap_or(speaker));
        let role = if first == speaker {
            "user"
        } else {
            "assistant"
        };
        messages.push(json!({
            "role": role, "name": speaker, "content": content, "external_id": text(&turn, "id")?,
            "created_at": date(text(&turn, "date")?)?,
        }));
    }
    for query in lines(&read(&only(folder, ".queries.jsonl")?)?)? {
        let user = text(&query, "conv")?;
        let person = people
            .get_mut(user)
            .with_context(|| format!("a question is about {user}, of whom nothing is known"))?;
        let category = query["category"]
            .as_u64()
            .and_then(|c| u8::try_from(c).ok());
        person.questions.push(Question {
            id: text(&query, "qid")?.to_owned(),
            text: text(&query, "question")?.to_owned(),
            category: category.context("a question has no category")?,
            relevant: ids(&query["relevant"]),
        });
    }
    let categories = CATEGORIES.map(|(category, name)| (Some(category), name));
    Ok(Set {
        name: "LoCoMo",
        people: people.into_values().collect(),
        categories: [(None, "all but adversarial")]
            .into_iter()
            .chain(categories)
            .collect(),
    })
}

/// Reads chats with an assistant, all of one user.
pub(super) fn chats(file: Option<&Path>) -> Result<Set> {
    let given = file.map(read).transpose()?;
    let mut person = Person {
        user: "chats".to_owned(),
        conversations: Vec::new(),
        questions: Vec::new(),
    };
    for chat in lines(given.as_deref().unwrap_or(CHATS))? {
        let id = text(&chat, "id")?;
        let messages = chat["messages"]
            .as_array()
            .context("a chat has no messages")?;
        let import = |message: &Value| -> Result<Value> {
            Ok(json!({
                "role": text(message, "role")?, "content": text(message, "content")?,
                "created_at": text(message, "created_at")?, "external_id": text(message, "id")?,
            }))
        };
        person
            .conversations
            .push(messages.iter().map(import).collect::<Result<_>>()?);
        let questions = chat["questions"].as_array().into_iter().flatten();
        for (n, question) in questions.enumerate() {
            person.questions.push(Question {
                id: format!("{id}/q{n}"),
                text: text(question, "question")?.to_owned(),
                category: 1,
                relevant: ids(&question["relevant"]),
            });
        }
    }
    Ok(Set {
        name: "Chats with an assistant",
        people: vec![person],
        categories: vec![(None, "all")],
    })
}

fn ids(list: &Value) -> Vec<String> {
    let ids = list.as_array().into_iter().flatten();
    ids.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// A date like `1:56 pm on 8 May, 2023`, taken as UTC.
fn date(text: &str) -> Result<String> {
    let date = NaiveDateTime::parse_from_str(text, "%I:%M %p on %d %B, %Y")
        .with_context(|| format!("no date: {text}"))?;
    Ok(Utc.from_utc_datetime(&date).to_rfc3339())
}

fn lines(file: &str) -> Result<Vec<Value>> {
    let lines = file.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| serde_json::from_str(line).context("a line is no JSON object"))
        .collect()
}

fn read(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    std::fs::read_to_string(path).with_context(|| format!("{} can't be read", path.display()))
}

/// The only file of a folder with a certain ending.
fn only(folder: &Path, ending: &str) -> Result<PathBuf> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("{} can't be read", folder.display()))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    match found.pop() {
        Some(path) if found.is_empty() => Ok(path),
        _ => bail!(
            "{} must hold one file that ends with {ending}",
            folder.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chats_are_as_many_as_promised_and_their_labels_exist() {
        let set = chats(None).unwrap();
        let [person] = &set.people[..] else {
            panic!("one user")
        };
        assert!(person.conversations.len() >= 12 && person.messages() >= 300);
        assert!(person.questions.len() >= 80);
        let said: Vec<&str> = person
            .conversations
            .iter()
            .flatten()
            .filter_map(|message| message["external_id"].as_str())
            .collect();
        for question in &person.questions {
            assert!(!question.relevant.is_empty(), "{}", question.text);
            for id in &question.relevant {
                assert!(said.contains(&id.as_str()), "{id}");
            }
        }
    }

    #[test]
    fn dates_of_locomo_are_read() {
        assert_eq!(
            date("1:56 pm on 8 May, 2023").unwrap(),
            "2023-05-08T13:56:00+00:00"
        );
        assert!(date("yesterday").is_err());
    }
}
