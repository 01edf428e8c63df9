//! How an error is told to whoever runs the software.

use std::error::Error;

/// An error and what caused it, in one line. A cause that the error before it has told already is left out.
pub fn in_one_line(error: &(dyn Error + 'static)) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !told.ends_with(&text) {
            told.push_str(": ");
            told.push_str(&text);
        }
        cause = error.source();
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the key is there already")]
    struct Cause;

    #[derive(Debug, thiserror::Error)]
    enum Told {
        #[error("the database says: {0}")]
        WithIt(#[source] Cause),
        #[error("nothing was written")]
        Without(#[source] Box<Told>),
    }

    #[test]
    fn a_cause_is_told_once() {
        let error = Told::Without(Box::new(Told::WithIt(Cause)));
        assert_eq!(
            in_one_line(&error),
            "nothing was written: the database says: the key is there already"
        );
    }
}
