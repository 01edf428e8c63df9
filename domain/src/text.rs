//! Words of a text, as recall and the search for duplicates compare them.

/// English words that carry no meaning of their own in a search. Others' languages are unharmed:
/// their common words merely count a little.
const STOP_WORDS: &[&str] = &[
    "a", "about", "after", "all", "also", "am", "an", "and", "any", "are", "as", "at", "be",
    "been", "before", "being", "but", "by", "can", "could", "did", "do", "does", "doing", "for",
    "from", "had", "has", "have", "having", "he", "her", "hers", "him", "his", "how", "i", "if",
    "in", "into", "is", "it", "its", "just", "me", "my", "of", "on", "or", "our", "ours", "s",
    "she", "should", "so", "some", "t", "than", "that", "the", "their", "theirs", "them", "then",
    "there", "these", "they", "this", "those", "to", "too", "us", "very", "was", "we", "were",
    "what", "when", "where", "which", "while", "who", "whom", "whose", "why", "will", "with",
    "would", "you", "your", "yours", "user", "users",
];

/// The lower-case words of a text: runs of letters and digits, apostrophes left out. `+` and `#`
/// belong to the word that they follow: C, C++ and C# are three languages.
pub fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    for c in text.chars() {
        if c.is_alphanumeric() || (matches!(c, '+' | '#') && !word.is_empty()) {
            word.extend(c.to_lowercase());
        } else if !matches!(c, '\'' | '’') && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// What a reasoning model says after it has thought; nothing when it has not come to an end with it.
pub fn without_thoughts(answer: &str) -> &str {
    for (begin, end) in [("<think>", "</think>"), ("<thinking>", "</thinking>")] {
        if let Some((_, said)) = answer.rsplit_once(end) {
            return said;
        }
        if answer.trim_start().starts_with(begin) {
            return "";
        }
    }
    answer
}

/// Whether a lower-case word is too common to search for.
pub fn is_stop_word(word: &str) -> bool {
    STOP_WORDS.contains(&word)
}

/// The search terms of a text in their order: words without stop words, stemmed.
pub fn term_sequence(text: &str) -> Vec<String> {
    let words = words(text).into_iter();
    words
        .filter(|word| !is_stop_word(word))
        .map(|word| stem(&word))
        .collect()
}

/// The search terms of a text with how often each occurs, in alphabetical order.
pub fn terms(text: &str) -> Vec<(String, u16)> {
    let mut all = term_sequence(text);
    all.sort_unstable();
    let mut counted: Vec<(String, u16)> = Vec::with_capacity(all.len());
    for term in all {
        match counted.last_mut() {
            Some((last, count)) if *last == term => *count = count.saturating_add(1),
            _ => counted.push((term, 1)),
        }
    }
    counted
}

/// The number of terms of a text, repetitions included.
pub fn term_count(terms: &[(String, u16)]) -> u32 {
    terms.iter().map(|(_, count)| u32::from(*count)).sum()
}

/// The Snowball English stem of a lower-case word, at most 64 bytes long.
pub fn stem(word: &str) -> String {
    thread_local! {
        static STEMMER: rust_stemmers::Stemmer =
            rust_stemmers::Stemmer::create(rust_stemmers::Algorithm::English);
    }
    let mut stem = STEMMER.with(|stemmer| stemmer.stem(word).into_owned());
    while stem.len() > 64 {
        stem.pop();
    }
    stem
}

/// A text with case, punctuation and spacing evened out: two texts with the same form say the same.
pub fn normal_form(text: &str) -> String {
    let words = words(text);
    // A text of signs alone is compared as it stands.
    if words.is_empty() {
        text.trim().to_owned()
    } else {
        words.join(" ")
    }
}

/// At most `max` characters of a text, cut at a word where one is near, with an ellipsis when cut.
pub fn excerpt(text: &str, max: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= max {
        return line;
    }
    let cut: String = line.chars().take(max.saturating_sub(1)).collect();
    let whole = match cut.rfind(' ') {
        Some(space) if space > cut.len() / 2 => &cut[..space],
        _ => &cut,
    };
    format!("{}…", whole.trim_end_matches([' ', ',', ';', ':']))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn inflections_share_a_term() {
        assert_eq!(terms("She was programming"), terms("she programs"));
        assert_eq!(terms("dog dogs DOG"), [("dog".to_owned(), 3)]);
    }

    #[test]
    fn apostrophes_do_not_split_words() {
        assert_eq!(
            words("I don’t like Anna's cake"),
            ["i", "dont", "like", "annas", "cake"]
        );
    }

    #[test]
    fn signs_that_make_another_name_count() {
        assert_ne!(normal_form("I love C++"), normal_form("I love C#"));
        assert_ne!(normal_form("🎸"), normal_form("🥁"));
        assert_eq!(normal_form("I love  tea!"), normal_form("i love tea"));
    }

    #[test]
    fn an_excerpt_ends_at_a_word() {
        assert_eq!(excerpt("one two  three four", 12), "one two…");
        assert_eq!(excerpt("short", 12), "short");
    }

    proptest! {
        #[test]
        fn an_excerpt_is_never_too_long(text in "\\PC{0,200}", max in 1usize..60) {
            prop_assert!(excerpt(&text, max).chars().count() <= max);
        }

        #[test]
        fn terms_are_bounded_and_sorted(text in "\\PC{0,200}") {
            let terms = terms(&text);
            prop_assert!(terms.windows(2).all(|pair| pair[0].0 < pair[1].0));
            prop_assert!(terms.iter().all(|(term, _)| term.len() <= 64));
        }
    }
}
