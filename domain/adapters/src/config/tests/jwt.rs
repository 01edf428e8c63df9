//! The keys of identity providers.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use proptest::prelude::*;

use super::*;

const RSA: &str = include_str!("../../fixtures/rs256.pub.pem");
const RSA_1024: &str = include_str!("../../fixtures/rsa1024.pub.pem");
const P256: &str = include_str!("../../fixtures/es256.pub.pem");
const P384: &str = include_str!("../../fixtures/p384.pub.pem");
const ED25519: &str = include_str!("../../fixtures/eddsa.pub.pem");
const PRIVATE: &str = include_str!("../../fixtures/es256.pem");

fn jwt(algorithm: &str, key: &str) -> Result<JwtConfig, ConfigError> {
    with(&[("JWT_ALGORITHM", algorithm), ("JWT_PUBLIC_KEY", key)]).map(|config| config.jwt)
}

fn armoured(der: &[u8]) -> String {
    let body = BASE64.encode(der);
    format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n")
}

#[test]
fn each_algorithm_takes_a_key_of_its_kind_and_no_other() {
    for (algorithm, right) in [("RS256", RSA), ("ES256", P256), ("EdDSA", ED25519)] {
        let taken = jwt(algorithm, right).expect(algorithm);
        assert_eq!(taken.algorithm.name(), algorithm);
        for wrong in [RSA, RSA_1024, P256, P384, ED25519] {
            if wrong != right {
                let error = jwt(algorithm, wrong).expect_err(algorithm).to_string();
                assert!(error.starts_with("JWT_PUBLIC_KEY is not a"), "{error}");
                assert!(
                    error.contains(algorithm) && !error.contains('\n'),
                    "{error}"
                );
            }
        }
    }
}

#[test]
fn an_asymmetric_algorithm_without_a_key_says_what_to_set() {
    for algorithm in ["RS256", "es256", "EdDSA"] {
        let error = jwt(algorithm, "").expect_err(algorithm).to_string();
        assert!(error.starts_with("JWT_PUBLIC_KEY is missing"), "{error}");
        assert!(error.contains("for example JWT_PUBLIC_KEY="), "{error}");
    }
}

#[test]
fn a_private_key_is_refused_and_not_repeated() {
    let error = jwt("ES256", PRIVATE).expect_err("refused").to_string();
    assert!(error.contains("private key"), "{error}");
    let secret = PRIVATE.lines().nth(1).expect("a line");
    assert!(!error.contains(secret), "{error}");
    // Nor one whose armour was lost.
    let error = jwt("ES256", secret).expect_err("refused").to_string();
    assert!(!error.contains(secret) && !error.contains('\n'), "{error}");
}

#[test]
fn a_key_may_be_a_file_or_a_line_with_escaped_breaks() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("key.pem");
    std::fs::write(&path, P256).expect("written");
    let of_file = jwt("ES256", path.to_str().expect("text")).expect("accepted");
    assert_eq!(of_file.public_key.as_deref(), Some(P256));
    let of_line = jwt("ES256", &P256.replace('\n', "\\n")).expect("accepted");
    assert_eq!(of_line.public_key.as_deref(), Some(P256));
    let (none, endless) = (folder.path().join("none"), PathBuf::from("/dev/zero"));
    for unreadable in [folder.path(), &none, &endless] {
        let text = unreadable.to_str().expect("text");
        let error = jwt("ES256", text).expect_err(text).to_string();
        assert!(error.starts_with("JWT_PUBLIC_KEY is"), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn an_ed25519_key_of_another_length_is_refused() {
    // The structure of such a key, with 31 bytes of it instead of 32.
    let mut der = vec![
        0x30, 0x29, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x20, 0x00,
    ];
    der.extend([7; 31]);
    let error = jwt("EdDSA", &armoured(&der))
        .expect_err("refused")
        .to_string();
    assert!(error.contains("Ed25519"), "{error}");
}

/// A key with some bytes replaced and its end cut off.
fn damaged(pem: &str, changes: &[(usize, u8)], cut: usize) -> String {
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let mut der = BASE64.decode(body).expect("base64");
    for (at, byte) in changes {
        der[*at] = *byte;
    }
    der.truncate(der.len() - cut);
    armoured(&der)
}

proptest! {
    #[test]
    fn no_damaged_key_makes_the_start_panic(
        changes in prop::collection::vec((0..40usize, any::<u8>()), 1..4),
        cut in 0..4usize,
        bytes in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        for (algorithm, pem) in [("RS256", RSA), ("ES256", P256), ("EdDSA", ED25519)] {
            let _ = jwt(algorithm, &damaged(pem, &changes, cut));
            let _ = jwt(algorithm, &armoured(&bytes));
        }
    }
}
