//! Reads a message into sentences: plain typography, without code, quotations and quoted replies.

use super::{patterns, wording};

/// Stands where a quotation was: what surrounds it speaks about the words of others.
pub(super) const QUOTED: char = '\u{FFFC}';

/// Stands where an emoji was, while it is unclear whether it ends a sentence.
const EMOJI: char = '\u{2}';

/// One sentence, without its end mark.
#[derive(Debug, PartialEq)]
pub(super) struct Sentence {
    pub(super) text: String,
    /// Whether it ends with a question mark.
    pub(super) asks: bool,
    /// Whether it announces what follows: it ends with a colon.
    pub(super) announces: bool,
    /// Whether the line goes on after it.
    pub(super) goes_on: bool,
}

patterns! {
    CODE = r"(?s)```.*?(?:```|\z)|~~~.*?(?:~~~|\z)|<(code|pre)>.*?</(?:code|pre)>";
    INLINE_CODE = r"`[^`\n]*`";
    AFTER_EMOJI = concat!(
        r"\x02[\x02\s]*(\p{Lu}|(?i:i|i'm|im|my|we|our|his|her|its|he|she|it|it's|they|what|do|",
        r"how|can|any|so|but)\b)",
    );
    LINK = r"(?i)\b(?:https?://|www\.)\S+";
    BULLET = r"^\s*(?:[-*•–+]|\d{1,2}[.)])\s+";
    DOUBLE_QUOTED = r#""([^"]{1,2000})""#;
    SINGLE_QUOTED = r"(^|[\s(:,])'([\pL\d][^\n]{0,400}?[\pL\d.,!?])'($|[\s.,;:!?)])";
    OWN_WORDS = r"(?i)\b(?:I|I'?m|I'?ve|my|me|we|our)\b";
    STRESSED = r"(^|[\s(])\*([\pL\d][^*\n]{0,200})\*";
    EMOTICON = r"(^|\s)(?:[:;=8][-^']?[()DPpOo3|/\\*]+|<3+|[xX]D+|\^_?\^|:'\()";
    SHORT_FORM = concat!(
        r"(?i)(?:^|[\s(])(?:mr|mrs|ms|dr|st|prof|e\.g|i\.e|vs|a\.m|p\.m|approx|jr|sr|u\.s|",
        r"u\.k|ph\.d|\pL)$",
    );
}

/// The sentences of a message, in order.
pub(super) fn sentences(message: &str) -> Vec<Sentence> {
    let mut sentences = sentences_as_typed(message);
    for sentence in &mut sentences {
        sentence.text = wording::spelled_out(&sentence.text);
    }
    sentences
}

/// The sentences of a message in any language, in order, with contractions as they were typed.
pub(super) fn sentences_as_typed(message: &str) -> Vec<Sentence> {
    let text = plain(message);
    let mut sentences = Vec::new();
    let mut start = 0;
    let mut characters = text.char_indices().peekable();
    let mut before = ' ';
    while let Some((at, c)) = characters.next() {
        let next = characters.peek().map(|(_, next)| *next);
        if ends_sentence(&text[start..at], before, c, next) {
            let end = at + c.len_utf8();
            push(
                &mut sentences,
                &text[start..end],
                c != '\n' && next.is_some_and(|n| n != '\n'),
            );
            start = end;
        }
        before = c;
    }
    push(&mut sentences, &text[start..], false);
    sentences
}

fn push(sentences: &mut Vec<Sentence>, raw: &str, goes_on: bool) {
    let marks = |c: char| c.is_whitespace() || matches!(c, '.' | '!' | '?' | ';' | ',');
    let text = raw
        .trim_matches(marks)
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    let ending = &raw[raw.trim_end_matches(marks).len()..];
    if text.chars().any(char::is_alphanumeric) {
        let announces = text.ends_with(':');
        sentences.push(Sentence {
            text,
            asks: ending.contains('?'),
            announces,
            goes_on,
        });
    }
}

/// Whether the character `c`, between `before` and `next`, ends the sentence read so far.
fn ends_sentence(so_far: &str, before: char, c: char, next: Option<char>) -> bool {
    match c {
        '\n' | ';' => true,
        '!' | '?' => !matches!(next, Some('!' | '?')),
        '.' => match next {
            None => true,
            Some('.' | '!' | '?') => false,
            Some(next) if next.is_whitespace() => {
                let initial = so_far.ends_with(" I") || so_far == "I";
                initial || !SHORT_FORM.is_match(tail(so_far))
            }
            Some(next) => next.is_uppercase() && before.is_lowercase(),
        },
        _ => false,
    }
}

/// The last characters of a text: enough to see how it ends.
fn tail(text: &str) -> &str {
    let start = text.char_indices().rev().nth(7).map_or(0, |(at, _)| at);
    &text[start..]
}

/// The message with plain quotes, apostrophes and spaces, and without what is not the user's talk.
fn plain(message: &str) -> String {
    let typed = plain_characters(message);
    let typed = AFTER_EMOJI.replace_all(&typed, ". $1").replace(EMOJI, " ");
    let typed = CODE.replace_all(&typed, "\n");
    let typed = INLINE_CODE.replace_all(&typed, "\u{FFFC}");
    let mut lines = String::with_capacity(typed.len());
    for line in typed
        .lines()
        .filter(|line| !line.trim_start().starts_with('>'))
    {
        lines.push_str(&BULLET.replace(line, ""));
        lines.push('\n');
    }
    let text = LINK.replace_all(&lines, "\u{FFFC}");
    let text = DOUBLE_QUOTED.replace_all(&text, |found: &regex::Captures<'_>| quoted(&found[1]));
    let text = SINGLE_QUOTED.replace_all(&text, |found: &regex::Captures<'_>| {
        format!("{}{}{}", &found[1], quoted(&found[2]), &found[3])
    });
    let text = STRESSED.replace_all(&text, "$1$2");
    let text = EMOTICON.replace_all(&text, "$1");
    text.replace(['"', '`'], "")
        .replace("**", "")
        .replace("__", "")
}

/// What stands for a quotation: a short one is a title or a nickname, a longer one or one that says
/// "I" is somebody's words.
fn quoted(words: &str) -> String {
    let title = words.split_whitespace().count() <= 5 && !words.contains('\n');
    if title && !OWN_WORDS.is_match(words) {
        words.trim_end_matches([',', '.']).to_owned()
    } else {
        QUOTED.to_string()
    }
}

fn plain_characters(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    for c in message.chars() {
        match c {
            '’' | '‘' | 'ʼ' | '´' | '′' => text.push('\''),
            '“' | '”' | '„' | '«' | '»' | '″' => text.push('"'),
            '…' => text.push_str("... "),
            // No space stands behind these, but a sentence ends all the same.
            '？' | '؟' => text.push_str("? "),
            '！' => text.push_str("! "),
            '。' | '｡' | '．' | '।' | '۔' => text.push_str(". "),
            '；' => text.push_str("; "),
            '，' => text.push_str(", "),
            '—' | '–' => text.push_str(" - "),
            '\u{200B}'..='\u{200F}' | '\u{FE0F}' | '\u{FEFF}' | QUOTED => {}
            '\r' => {}
            '\n' => text.push('\n'),
            c if c.is_whitespace() || c.is_control() => text.push(' '),
            c if is_emoji(c) => text.push(EMOJI),
            c => text.push(c),
        }
    }
    text
}

fn is_emoji(c: char) -> bool {
    matches!(c, '\u{1F000}'..='\u{1FAFF}' | '\u{2600}'..='\u{27BF}' | '\u{2B00}'..='\u{2BFF}')
}
