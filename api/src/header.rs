//! Headers of a request, as text. The framework passes over one that is no text, as if it had not
//! been sent; what would then be done is not what the caller asked for.

use poem::Request;

use crate::error::Problem;

/// A header that a caller may send.
///
/// # Errors
/// 422 when it is no text, or there twice.
pub(crate) fn text<'a>(request: &'a Request, name: &str) -> Result<Option<&'a str>, Problem> {
    let mut values = request.headers().get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return match request.headers().contains_key(name) {
            true => Err(Problem::invalid_field(name, "must be sent once")),
            false => Ok(None),
        };
    };
    let text = value.to_str();
    text.map(Some)
        .map_err(|_| Problem::invalid_field(name, "must be ASCII text"))
}
