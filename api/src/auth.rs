//! Who calls: the credential of a request, judged.

use companion_adapters::config::Config;
use companion_domain::ids::ExternalUserId;
use poem::http::header;
use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaSecurityScheme, Registry};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};

use crate::app::App;
use crate::error::Problem;

/// The user of a service without authentication who names nobody.
const DEFAULT_USER: &str = "default_user";
const X_USER_ID: &str = "x-user-id";
/// The name of the credential in the documentation.
const SCHEME: &str = "XUserId";

/// The caller, as the credential names them.
pub(crate) struct Caller(pub(crate) ExternalUserId);

impl<'a> ApiExtractor<'a> for Caller {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        let scheme = MetaSecurityScheme {
            ty: "apiKey",
            description: Some("The user, named by the caller: for development only."),
            name: Some("X-User-Id"),
            key_in: Some("header"),
            scheme: None,
            bearer_format: None,
            flows: None,
            openid_connect_url: None,
        };
        registry.create_security_scheme(SCHEME, scheme);
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![SCHEME]
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let app: &App = request
            .data()
            .ok_or_else(|| Problem::unauthorized("Send a credential."))?;
        Ok(Self(judge(&app.core.config, request)?))
    }
}

/// Judges the first credential that is present, in the order of the documentation; the others are
/// ignored, and an invalid one is never passed over.
fn judge(config: &Config, request: &Request) -> Result<ExternalUserId, Problem> {
    if request.headers().contains_key(header::AUTHORIZATION) {
        return Err(Problem::unauthorized("This bearer token is not accepted."));
    }
    if request.headers().contains_key("x-api-key") {
        return Err(Problem::unauthorized("This API key is not accepted."));
    }
    let named = request
        .headers()
        .get(X_USER_ID)
        .filter(|value| !value.is_empty());
    let allowed = config.allow_x_user_id || !config.require_authentication;
    match named {
        Some(value) if allowed => value
            .to_str()
            .ok()
            .and_then(|text| ExternalUserId::parse(text).ok())
            .ok_or_else(|| {
                Problem::invalid_field(
                    "X-User-Id",
                    companion_domain::ids::InvalidUserId.to_string(),
                )
            }),
        Some(_) => Err(Problem::unauthorized(
            "X-User-Id is not accepted here. Send a bearer token or an API key.",
        )),
        None if !config.require_authentication => ExternalUserId::parse(DEFAULT_USER)
            .map_err(|error| Problem::unauthorized(error.to_string())),
        None if allowed => Err(Problem::unauthorized(
            "Send the header X-User-Id, for example X-User-Id: alice.",
        )),
        None => Err(Problem::unauthorized("Send a bearer token or an API key.")),
    }
}
