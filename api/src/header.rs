//! Headers of a request that mean something only when they are there once, as text.

use poem::Request;

/// Why a header means nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unclear {
    /// It is there more than once.
    Repeated,
    /// It is not ASCII text.
    NoText,
}

/// The value of a header; `None` when it isn't there.
///
/// # Errors
/// [`Unclear`] when it is there twice or is no text.
pub(crate) fn only<'a>(request: &'a Request, name: &str) -> Result<Option<&'a str>, Unclear> {
    let mut values = request.headers().get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| Unclear::NoText),
        (Some(_), Some(_)) => Err(Unclear::Repeated),
    }
}
