//! The plainest statements in French: names, homes, likes.

use super::{Finding, objects, patterns, reading, wording};
use crate::memory::MemoryKind;

patterns! {
    HINT = r"(?i)\b(?:je|m'appelle|mon nom)\b|j'";
    NAME = concat!(
        r"(?i)(?:^|[,.!] ?|\bet )(?:je m'appelle|mon nom est) ",
        r"([\pL'-]+(?: (?-i:\p{Lu})[\pL'-]+){0,2})",
    );
    HOME = concat!(
        r"(?i)(?:^|[,.!] ?|\bet |\bje )(?:j'habite (?:à|a|en|au)|je vis (?:à|en|au)) ",
        r"((?-i:\p{Lu})[\pL'-]+(?: (?:de |del )?(?-i:\p{Lu})[\pL'-]+)?)",
    );
    LIKE = r"(?i)(?:^|[,.!] ?|\bet )(?:j'aime(?: beaucoup)?|j'adore) ([\pL' -]{3,40})$";
    OTHER_LIKE = r"(?i)^(?:te|tu|vous|toi|ça|cela|pas|beaucoup|bien|bien ça)\b";
}

/// What a French message states; the content keeps the user's words.
pub(super) fn find(message: &str) -> Vec<Finding> {
    if !HINT.is_match(message) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for sentence in reading::sentences(message)
        .iter()
        .filter(|sentence| !sentence.asks)
    {
        let text = &sentence.text;
        if text.contains(reading::QUOTED) {
            continue;
        }
        if let Some(name) = NAME
            .captures(text)
            .filter(|name| wording::is_capitalised(&name[1]))
        {
            found.push(Finding::fact(0.9, format!("User's name is {}", &name[1])).about("name"));
        }
        if let Some(home) = HOME.captures(text) {
            found.push(Finding::fact(0.8, format!("User lives in {}", &home[1])).about("home"));
        }
        if let Some(like) = LIKE.captures(text) {
            let what = objects::object(&like[1]);
            if let Some(what) = what.filter(|what| !OTHER_LIKE.is_match(what)) {
                found.push(Finding::new(
                    MemoryKind::Preference,
                    0.6,
                    format!("User likes {what}"),
                ));
            }
        }
    }
    found
}
