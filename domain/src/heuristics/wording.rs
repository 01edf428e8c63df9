//! How words are written: contractions, slips of the keyboard, capitals and trailing fillers.

use super::patterns;

patterns! {
    NAME_IS = concat!(
        r"(?i)'s (a|an|the|called|named|from|in|allergic|pregnant|vegan|vegetarian|getting|",
        r"coming|going|studying|working|\d+)\b",
    );
    FILLER_END = concat!(
        r"(?i)[\s,]+(?:please|pls|plz|thanks|thank you|thx|lol|lmao|haha\w*|hehe\w*|btw|",
        r"by the way|too|as well|though|tho|you know|actually|to be honest|tbh|honestly|",
        r"at the moment|at present|right now|just now|these days|nowadays|now|currently|",
        r"of course|obviously|imo|in my opinion|i guess|i suppose|i must say|also|for real|fr|",
        r"ngl|for now|still|yeah|ok|okay|bro|dude|anyway|so far|again|etc|some ?day|one day|",
        r"soon|later|eventually|already)$",
    );
    LONE_I = r"(^|[^\pL])i('m|'ve|'ll|'d)?($|[^\pL.'])";
}

/// Spellings on the left are read as those on the right; lower case.
#[rustfmt::skip]
const SPELLINGS: &[(&str, &str)] = &[
    ("i'm", "I am"), ("im", "I am"), ("i've", "I have"), ("ive", "I have"), ("i'll", "I will"),
    ("i'd", "I would"), ("i", "I"), ("ima", "I am going to"), ("imma", "I am going to"),
    ("we're", "we are"), ("we've", "we have"), ("we'll", "we will"), ("we'd", "we would"),
    ("you're", "you are"), ("you've", "you have"), ("it's", "it is"), ("that's", "that is"),
    ("there's", "there is"), ("he's", "he is"), ("she's", "she is"), ("they're", "they are"),
    ("what's", "what is"), ("whats", "what is"), ("who's", "who is"), ("where's", "where is"),
    ("how's", "how is"), ("let's", "let us"), ("lets", "let us"), ("name's", "name is"),
    ("names's", "name is"), ("don't", "do not"), ("dont", "do not"), ("doesn't", "does not"),
    ("doesnt", "does not"), ("didn't", "did not"), ("didnt", "did not"), ("can't", "can not"),
    ("cant", "can not"), ("cannot", "can not"), ("won't", "will not"), ("wont", "will not"),
    ("isn't", "is not"), ("isnt", "is not"), ("aren't", "are not"), ("arent", "are not"),
    ("wasn't", "was not"), ("wasnt", "was not"), ("weren't", "were not"), ("werent", "were not"),
    ("haven't", "have not"), ("havent", "have not"), ("hasn't", "has not"), ("hasnt", "has not"),
    ("hadn't", "had not"), ("wouldn't", "would not"), ("wouldnt", "would not"),
    ("couldn't", "could not"), ("couldnt", "could not"), ("shouldn't", "should not"),
    ("ain't", "is not"), ("gonna", "going to"), ("wanna", "want to"), ("gotta", "have to"),
    ("luv", "love"), ("lvoe", "love"), ("looove", "love"), ("fav", "favourite"),
    ("fave", "favourite"), ("favrite", "favourite"), ("favorit", "favourite"),
    ("favourit", "favourite"), ("favroite", "favourite"), ("faverite", "favourite"),
    ("bday", "birthday"), ("b-day", "birthday"), ("brithday", "birthday"), ("birtday", "birthday"),
    ("alergic", "allergic"), ("alergy", "allergy"), ("vegitarian", "vegetarian"),
    ("vegeterian", "vegetarian"), ("bc", "because"), ("b/c", "because"), ("cuz", "because"),
    ("coz", "because"), ("cos", "because"), ("'cause", "because"), ("becuase", "because"),
    ("rly", "really"), ("realy", "really"), ("u", "you"), ("ur", "your"), ("w/", "with"),
    ("&", "and"), ("teh", "the"), ("liek", "like"), ("wokr", "work"), ("lvie", "live"),
    ("freind", "friend"), ("tmrw", "tomorrow"), ("tmr", "tomorrow"), ("tomorow", "tomorrow"),
    ("2moro", "tomorrow"), ("yday", "yesterday"), ("bf", "boyfriend"), ("gf", "girlfriend"),
    ("anymore", "any more"), ("nxt", "next"), ("prolly", "probably"), ("rn", "now"),
    ("recieved", "received"), ("hubby", "husband"), ("doggo", "dog"), ("hav", "have"),
    ("studing", "studying"),
];

/// The text with contractions spelled out, known slips mended, and single spaces.
pub(super) fn spelled_out(text: &str) -> String {
    let mut words = String::with_capacity(text.len() + 16);
    for token in text.split_whitespace() {
        if !words.is_empty() {
            words.push(' ');
        }
        let core =
            token.trim_matches(|c: char| matches!(c, '(' | ')' | ',' | ':' | '!' | '.' | '*'));
        let mended = SPELLINGS
            .iter()
            .find(|(typed, _)| typed.eq_ignore_ascii_case(core));
        match (mended, token.find(core)) {
            (Some((_, meant)), Some(at)) if !core.is_empty() => {
                words.push_str(&token[..at]);
                let capital = at == 0 && core.starts_with(|c: char| c.is_uppercase());
                words.push_str(&if capital {
                    capitalised(meant)
                } else {
                    (*meant).to_owned()
                });
                words.push_str(&token[at + core.len()..]);
            }
            _ => words.push_str(token),
        }
    }
    NAME_IS.replace_all(&words, " is $1").into_owned()
}

/// Whether the writer uses capital letters: there is one, and no lone lower-case "i".
pub(super) fn uses_capitals(message: &str) -> bool {
    message.chars().any(char::is_uppercase) && !LONE_I.is_match(message)
}

/// The text with its first letter in upper case.
pub(super) fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_uppercase().chain(characters).collect(),
        None => String::new(),
    }
}

/// A name with each word's first letter in upper case: "new york" → "New York".
pub(super) fn title_case(text: &str) -> String {
    let small = ["of", "the", "de", "la", "del", "and", "in", "on", "upon"];
    let words: Vec<String> = text
        .split(' ')
        .enumerate()
        .map(|(at, word)| {
            if at > 0 && small.contains(&word) {
                word.to_owned()
            } else {
                capitalised(word)
            }
        })
        .collect();
    words.join(" ")
}

/// Whether the text begins with an upper-case letter.
pub(super) fn is_capitalised(text: &str) -> bool {
    text.starts_with(|c: char| c.is_uppercase())
}

/// The text without trailing punctuation and words that only soften it.
pub(super) fn without_fillers(text: &str) -> &str {
    let mut text = trimmed(text);
    while let Some(found) = FILLER_END.find(text) {
        text = trimmed(&text[..found.start()]);
    }
    text
}

/// The text without punctuation around it, but with a closing bracket that was opened.
pub(super) fn trimmed(text: &str) -> &str {
    let text = text.trim_start_matches(|c: char| {
        !c.is_alphanumeric() && !matches!(c, '(' | '+' | '#' | '@' | '$' | '€' | '£')
    });
    let end = text.trim_end_matches(|c: char| {
        !c.is_alphanumeric() && !matches!(c, ')' | '+' | '#' | '%' | '°' | '€')
    });
    if end.ends_with(')') && !end.contains('(') {
        end.trim_end_matches(|c: char| {
            !c.is_alphanumeric() && !matches!(c, '+' | '#' | '%' | '°' | '€')
        })
    } else {
        end
    }
}

/// A content ready to be kept: single spaces, no trailing punctuation, at most `longest`
/// characters, cut between words.
pub(super) fn clean(content: &str, longest: usize) -> String {
    let joined = content.split_whitespace().collect::<Vec<_>>().join(" ");
    let whole = trimmed(&joined);
    let Some((limit, _)) = whole.char_indices().nth(longest) else {
        return whole.to_owned();
    };
    let cut = &whole[..limit];
    let cut = cut.rfind(' ').map_or(cut, |space| &cut[..space]);
    trimmed(cut).to_owned()
}
