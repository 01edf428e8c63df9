//! Text of users as it may be shown on a terminal: it must not speak to it.

/// Whether a character steers a terminal or turns the direction of what follows.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// A text on one line with whatever steers a terminal escaped.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// JSON with whatever steers a terminal escaped, as JSON escapes it: it stays the same JSON.
pub(crate) fn printable_json(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        // Such a character can only be inside a string; line ends between fields are the writer's own.
        if steers(c) && c != '\n' {
            shown.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            shown.push(c);
        }
    }
    shown
}

/// The first `most` characters of a text, with a mark when there are more.
pub(crate) fn excerpt(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", printable(&text[..end])),
        None => printable(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_steers_the_terminal() {
        let evil =
            "red \u{1b}[31m, bell \u{7}, csi \u{9b}2J, del \u{7f}, turned \u{202e}, two\nlines";
        for shown in [
            printable(evil),
            excerpt(evil, 500),
            printable_json(&serde_json::to_string(evil).expect("json")),
        ] {
            assert!(!shown.chars().any(steers), "{shown:?}");
        }
        assert_eq!(printable("Grüße, 你好 🐕"), "Grüße, 你好 🐕");
    }

    #[test]
    fn escaped_json_is_the_same_json() {
        let value = serde_json::json!({"said": "a \u{9b} b \u{7f} c \u{2066} d \u{1b} \n e"});
        let pretty = serde_json::to_string_pretty(&value).expect("json");
        let back: serde_json::Value =
            serde_json::from_str(&printable_json(&pretty)).expect("still json");
        assert_eq!(back, value);
    }

    #[test]
    fn an_excerpt_ends_between_two_characters() {
        assert_eq!(excerpt("äöü", 2), "äö…");
        assert_eq!(excerpt("äöü", 3), "äöü");
    }
}
