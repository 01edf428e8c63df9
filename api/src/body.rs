//! A JSON body that is checked against the schema the documentation shows, so that every fault is
//! told at once and names its field, never its value.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use companion_domain::ids::UserId;
use jsonschema::{Draft, Validator};
use poem::error::ReadBodyError;
use poem::http::header;
use poem::{Request, RequestBody};
use poem_openapi::error::ContentTypeError;
use poem_openapi::payload::{Json, Payload};
use poem_openapi::registry::{MetaMediaType, MetaRequest, MetaSchemaRef, Registry};
use poem_openapi::types::{ParseFromJSON, Type};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use serde_json::{Value, json};
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use uuid::Uuid;

use crate::auth::{self, JUST_NOW};
use crate::code::Code;
use crate::error::{FieldError, Problem};
use crate::limits;

/// The largest body, bytes, of an operation that does not say otherwise.
pub(crate) const MAX_BODY: usize = 1 << 20;
/// How long a body may take to arrive, and how much longer for each 64 KiB that it has, or may have where it
/// does not say.
const READ_WITHIN: Duration = Duration::from_secs(30);
const PER_BLOCK: Duration = Duration::from_secs(1);
/// How many large bodies are checked at once. Each takes several times its size meanwhile.
static CHECKED: Semaphore = Semaphore::const_new(8);
/// How many bodies that may be larger than [`MAX_BODY`] are received or held at once. Whoever sends slowly
/// keeps a place for long, so that no other operation may depend on these.
static RECEIVED: Semaphore = Semaphore::const_new(8);
/// The users who have such a place: each has one at the most.
static SENDERS: Mutex<BTreeSet<UserId>> = Mutex::new(BTreeSet::new());
/// Told whenever one of them gives it back.
static GIVEN_BACK: Notify = Notify::const_new();
/// How long the next one waits for a place.
const PLACE_WITHIN: Duration = Duration::from_secs(10);
/// A body that is larger is checked away from the threads that serve requests.
const LARGE: usize = 256 * 1024;
/// The most faults that an answer tells.
const MAX_FAULTS: usize = 100;

/// A JSON body, parsed and checked, of at most `LIMIT` bytes.
pub(crate) struct JsonBody<T, const LIMIT: usize = MAX_BODY>(pub(crate) T);

impl<T: Type, const LIMIT: usize> Payload for JsonBody<T, LIMIT> {
    const CONTENT_TYPE: &'static str = "application/json";

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<'a, T: ParseFromJSON + Send + 'static, const LIMIT: usize> ApiExtractor<'a>
    for JsonBody<T, LIMIT>
{
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        <Self as Payload>::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        let media = MetaMediaType {
            content_type: Self::CONTENT_TYPE,
            schema: Self::schema_ref(),
        };
        Some(MetaRequest {
            description: None,
            content: vec![media],
            required: true,
        })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let (bytes, _place) = received(request, body, LIMIT).await?;
        if bytes.is_empty() {
            return Err(Problem::malformed("The body is empty. Send a JSON object.").into());
        }
        match request.content_type() {
            Some(content_type) if Json::<T>::check_content_type(content_type) => {}
            _ => return Err(ContentTypeError::ExpectContentType.into()),
        }
        if bytes.len() <= LARGE {
            return Ok(Self(parse(&bytes)?));
        }
        let place = tokio::time::timeout(PLACE_WITHIN, CHECKED.acquire()).await;
        let place = place.map_err(|_| Problem::from(Code::TooBusy))?;
        let parsed = tokio::task::spawn_blocking(move || {
            let parsed = parse(&bytes);
            // Whoever hung up meanwhile does not give it back earlier.
            drop(place);
            parsed
        });
        Ok(Self(
            parsed.await.map_err(poem::error::InternalServerError)??,
        ))
    }
}

/// A place among the few bodies that are larger than most, for as long as it is held.
pub(crate) struct Place {
    _among_all: Option<SemaphorePermit<'static>>,
    user: Option<UserId>,
}

impl Place {
    /// Waits for one. A user who is not known shares them with the others.
    async fn take(user: Option<UserId>) -> Self {
        if let Some(user) = user {
            loop {
                let given_back = GIVEN_BACK.notified();
                if senders().insert(user) {
                    break;
                }
                given_back.await;
            }
        }
        // From here on, the user's place is given back when the wait is given up.
        let mut place = Self {
            _among_all: None,
            user,
        };
        // They are never closed.
        place._among_all = RECEIVED.acquire().await.ok();
        place
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(user) = &self.user {
            senders().remove(user);
            GIVEN_BACK.notify_waiters();
        }
    }
}

fn senders() -> MutexGuard<'static, BTreeSet<UserId>> {
    SENDERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Receives a body of at most `limit` bytes. One that may be larger than [`MAX_BODY`] has a place, and keeps
/// it until that is dropped.
///
/// # Errors
/// When it is too large or too slow, when there is no place for it, or when the caller is let in no more.
pub(crate) async fn received(
    request: &Request,
    body: &mut RequestBody,
    limit: usize,
) -> poem::Result<(Vec<u8>, Option<Place>)> {
    let begun = Instant::now();
    let announced = request.headers().get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > limit as u64) {
        return Err(Problem::body_too_large(limit).into());
    }
    let most = announced.unwrap_or(limit as u64);
    let place = if most <= MAX_BODY as u64 {
        None
    } else {
        let place = tokio::time::timeout(PLACE_WITHIN, Place::take(limits::user())).await;
        Some(place.map_err(|_| Problem::from(Code::TooBusy))?)
    };
    let read = body.take()?.into_bytes_limit(limit);
    let read = tokio::time::timeout(within(most), read).await;
    let bytes = match read.map_err(|_| Problem::from(Code::RequestTimeout))? {
        Err(ReadBodyError::PayloadTooLarge) => {
            return Err(Problem::body_too_large(limit).into());
        }
        bytes => bytes?,
    };
    if limits::user().is_some() && begun.elapsed() > JUST_NOW {
        // Their body took that long.
        auth::judge_again(request).await?;
    }
    Ok((bytes.into(), place))
}

/// How long a body of so many bytes may take to arrive.
fn within(bytes: u64) -> Duration {
    READ_WITHIN + PER_BLOCK * u32::try_from(bytes >> 16).unwrap_or(u32::MAX)
}

/// Reads a body, for those who have it in another way.
fn parse<T: ParseFromJSON>(bytes: &[u8]) -> Result<T, Problem> {
    if std::str::from_utf8(bytes).is_err() {
        return Err(Problem::malformed("The body is not valid UTF-8."));
    }
    let mut value: Value = serde_json::from_slice(bytes).map_err(|error| {
        let place = format!("line {}, column {}", error.line(), error.column());
        Problem::malformed(format!("The body is not valid JSON ({place})."))
    })?;
    drop_nulls(&mut value);
    let errors: Vec<FieldError> = validator::<T>()?
        .iter_errors(&value)
        .take(MAX_FAULTS)
        .map(|error| field_error(&error))
        .collect();
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    T::parse_from_json(Some(value))
        .map_err(|_| Problem::invalid_field("body", "has a value that it can't have"))
}

/// An optional field may be null; the schema language of OpenAPI 3.0 has no word for that.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Checks what a schema does not say of texts, and gathers what is wrong.
#[derive(Default)]
pub(crate) struct Faults(Vec<FieldError>);

impl Faults {
    /// Notes that a field has a value that it can't have.
    pub(crate) fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        if self.0.len() < MAX_FAULTS {
            self.0.push(FieldError {
                field: field.into(),
                message: message.into(),
            });
        }
    }

    /// A text that says something.
    pub(crate) fn text(&mut self, field: impl Into<String> + Clone, text: &str) {
        if text.trim().is_empty() {
            self.add(field.clone(), "must not be blank");
        }
        self.no_nul(field, text);
    }

    /// A text that may be blank.
    pub(crate) fn no_nul(&mut self, field: impl Into<String>, text: &str) {
        if text.contains('\0') {
            self.add(field, "must not contain the character NUL");
        }
    }

    /// Whether nothing is wrong.
    pub(crate) fn none(self) -> Result<(), Problem> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Problem::invalid(self.0))
        }
    }
}

fn field_error(error: &jsonschema::ValidationError<'_>) -> FieldError {
    use jsonschema::error::ValidationErrorKind as Kind;
    let path = error
        .instance_path()
        .as_str()
        .trim_start_matches('/')
        .replace('/', ".");
    let (field, message) = match error.kind() {
        Kind::Required { property } => {
            let property = property.as_str().unwrap_or_default();
            let separator = if path.is_empty() { "" } else { "." };
            (
                format!("{path}{separator}{property}"),
                "is missing".to_owned(),
            )
        }
        Kind::Type { .. } | Kind::Format { .. } | Kind::Enum { .. } => (path, shape(error)),
        Kind::MinLength { limit } => (path, format!("must have at least {limit} characters")),
        Kind::MaxLength { limit } => (path, format!("must have at most {limit} characters")),
        Kind::Minimum { limit } => (path, format!("must be at least {limit}")),
        Kind::Maximum { limit } => (path, format!("must be at most {limit}")),
        Kind::MinItems { limit } => (path, format!("must have at least {limit} items")),
        Kind::MaxItems { limit } => (path, format!("must have at most {limit} items")),
        _ => (path, "has a value that it can't have".to_owned()),
    };
    FieldError {
        field: if field.is_empty() {
            "body".to_owned()
        } else {
            field
        },
        message,
    }
}

/// What a field should be, in the words of the schema, without its value.
fn shape(error: &jsonschema::ValidationError<'_>) -> String {
    let masked = error.masked_with("the value").to_string();
    let rest = masked.strip_prefix("the value ").unwrap_or(&masked);
    rest.replacen("is not of type", "must be of type", 1)
        .replacen("is not a", "must be a", 1)
        .replacen("is not one of", "must be one of", 1)
}

/// The check for a type, made once from its OpenAPI schema.
fn validator<T: Type>() -> Result<Arc<Validator>, Problem> {
    static VALIDATORS: LazyLock<RwLock<HashMap<String, Arc<Validator>>>> =
        LazyLock::new(RwLock::default);
    let name = T::name().into_owned();
    let read = VALIDATORS
        .read()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(validator) = read.get(&name) {
        return Ok(validator.clone());
    }
    drop(read);
    let mut registry = Registry::new();
    T::register(&mut registry);
    let schema = json!({ "$ref": format!("#/components/schemas/{name}"), "components": { "schemas": registry.schemas } });
    let validator = jsonschema::options()
        .with_draft(Draft::Draft4)
        .should_validate_formats(true)
        .with_format("uuid", |text| Uuid::parse_str(text).is_ok())
        .build(&schema)
        .map(Arc::new)
        .map_err(|error| {
            tracing::error!("the schema {name} can't be used: {error}");
            Problem::malformed("This request can't be checked.")
        })?;
    let mut write = VALIDATORS
        .write()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    Ok(write.entry(name).or_insert(validator).clone())
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use companion_domain::ids::ExternalUserId;
    use futures_util::poll;

    use super::*;

    #[tokio::test]
    async fn a_user_has_one_place_at_a_time_and_others_don_t_wait_for_it() {
        let user = |name| Some(UserId::of(&ExternalUserId::parse(name).expect("an id")));
        let first = Place::take(user("alice")).await;
        let mut second = pin!(Place::take(user("alice")));
        assert!(poll!(&mut second).is_pending());
        let other = Place::take(user("bob")).await;
        drop((first, other));
        second.await;
        // Whoever gives up waiting has taken nothing.
        Place::take(user("alice")).await;
    }

    #[tokio::test]
    async fn only_what_may_be_larger_than_most_takes_a_place() {
        let bytes = vec![b' '; 300_000];
        for (limit, announced, has_place) in [
            (MAX_BODY, false, false),
            (16 << 20, true, false),
            (16 << 20, false, true),
        ] {
            let mut request = Request::builder();
            if announced {
                request = request.header(header::CONTENT_LENGTH, bytes.len());
            }
            let (request, mut body) = request.body(bytes.clone()).split();
            let received = received(&request, &mut body, limit).await;
            let (read, place) = received.unwrap_or_else(|error| panic!("{error}"));
            assert_eq!((read.len(), place.is_some()), (bytes.len(), has_place));
        }
    }

    #[test]
    fn a_body_has_as_long_as_its_length_needs() {
        assert_eq!(within(300_000), Duration::from_secs(34));
        assert_eq!(within(64 << 20), Duration::from_secs(30 + 1024));
    }
}
