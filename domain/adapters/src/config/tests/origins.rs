//! Which web origins are accepted, and how they are written down.

use super::*;

fn origins(text: &str) -> Result<Vec<String>, ConfigError> {
    with(&[("CORS_ORIGINS", text)]).map(|config| config.cors_origins)
}

#[test]
fn origins_are_written_as_browsers_send_them() {
    for (given, expected) in [
        ("*", "*"),
        ("https://app.example.com", "https://app.example.com"),
        (" HTTPS://App.Example.COM/ ", "https://app.example.com"),
        ("http://localhost:3000/", "http://localhost:3000"),
        ("https://example.com:443", "https://example.com"),
        ("http://example.com:80", "http://example.com"),
        ("http://example.com:443", "http://example.com:443"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("http://[::1]", "http://[::1]"),
        ("tauri://localhost", "tauri://localhost"),
    ] {
        assert_eq!(origins(given).expect(given), [expected]);
    }
    assert_eq!(
        origins("http://a.example , *,http://B.example").expect("a list"),
        ["http://a.example", "*", "http://b.example"]
    );
}

#[test]
fn what_is_no_origin_is_refused_in_one_line() {
    for text in [
        "localhost",
        "localhost:3000",
        "//localhost",
        "https://",
        "https:///",
        "https://example.com/app",
        "https://example.com//",
        "https://example.com?x",
        "https://example.com#x",
        "https://*.example.com",
        "https://example.com:",
        "https://example.com:0",
        "https://example.com:+1",
        "https://example.com:65536",
        "https://example.com:port",
        "https://exa mple.com",
        "https://exa\nmple.com",
        "https://exämple.com",
        "https://[::1",
        "https://[nope]",
        "https://::1",
        "1http://example.com",
        "null",
        "https://example.com,",
        "https://a.example;https://b.example",
        "**",
    ] {
        let error = origins(text).expect_err(text).to_string();
        assert!(error.starts_with("CORS_ORIGINS has"), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn a_password_in_an_origin_is_not_repeated() {
    let error = origins("https://me:hunter2@example.com").expect_err("refused");
    assert!(!error.to_string().contains("hunter2"), "{error}");
}
