//! XChaCha20-Poly1305, of two libraries: HChaCha20 makes a key of its own for each nonce, and with that key
//! ring seals and opens, several times as fast as portable code does.
//!
//! Source: <https://datatracker.ietf.org/doc/html/draft-irtf-cfrg-xchacha-03>, 2.3.

use chacha20::{R20, hchacha};

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use super::{VaultError, random};

/// Bytes of a key.
pub(super) const KEY_BYTES: usize = 32;
/// Of a nonce, those that go into the key; the rest is the nonce of what that key seals.
const OF_KEY: usize = 16;
const NONCE_BYTES: usize = OF_KEY + 8;

/// A key, ready for use.
#[derive(Clone)]
pub(crate) struct Cipher {
    key: Zeroizing<[u8; KEY_BYTES]>,
}

impl Cipher {
    /// Takes a key; `None` when it has another length than 32 bytes.
    pub(super) fn new(key: &[u8]) -> Option<Self> {
        let key = Zeroizing::new(key.try_into().ok()?);
        Some(Self { key })
    }

    /// Seals under a random nonce: the nonce, then the ciphertext with its tag of 16 bytes. `aad` is bound to
    /// it and not in it.
    ///
    /// # Errors
    /// [`VaultError::Random`] when the system gives no random numbers.
    pub(super) fn seal(&self, aad: &[u8], text: &[u8]) -> Result<Vec<u8>, VaultError> {
        let mut nonce = [0; NONCE_BYTES];
        random(&mut nonce)?;
        self.seal_with(nonce, aad, text).ok_or(VaultError::Sealed)
    }

    fn seal_with(&self, nonce: [u8; NONCE_BYTES], aad: &[u8], text: &[u8]) -> Option<Vec<u8>> {
        let (key, rest) = self.of_nonce(&nonce)?;
        let mut sealed = nonce.to_vec();
        sealed.extend(text);
        let text = sealed.get_mut(NONCE_BYTES..)?;
        let tag = key.seal_in_place_separate_tag(rest, Aad::from(aad), text);
        sealed.extend(tag.ok()?.as_ref());
        Some(sealed)
    }

    /// Opens what was sealed; `None` for another key, another `aad`, or damage.
    pub(super) fn open(&self, aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = sealed.to_vec();
        let length = self.open_in_place(aad, &mut bytes)?.len();
        bytes.drain(..NONCE_BYTES);
        bytes.truncate(length);
        Some(bytes)
    }

    /// Opens what was sealed, where it lies; `None` for another key, another `aad`, or damage: then the
    /// bytes are of no use.
    pub(super) fn open_in_place<'s>(&self, aad: &[u8], sealed: &'s mut [u8]) -> Option<&'s [u8]> {
        let (nonce, sealed) = sealed.split_first_chunk_mut::<NONCE_BYTES>()?;
        let (key, rest) = self.of_nonce(nonce)?;
        let opened = key.open_in_place(rest, Aad::from(aad), sealed);
        opened.ok().map(|text| &*text)
    }

    /// The key for a nonce, and what is left of the nonce for it.
    fn of_nonce(&self, nonce: &[u8; NONCE_BYTES]) -> Option<(LessSafeKey, Nonce)> {
        let (of_key, rest) = nonce.split_first_chunk::<OF_KEY>()?;
        let key = hchacha::<R20>((&*self.key).into(), of_key.into());
        let key = Zeroizing::new(<[u8; KEY_BYTES]>::from(key));
        let key = UnboundKey::new(&CHACHA20_POLY1305, key.as_slice()).ok()?;
        let mut short = [0; 12];
        short[4..].copy_from_slice(rest);
        Some((LessSafeKey::new(key), Nonce::assume_unique_for_key(short)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<char> = hex.chars().collect();
        let byte = |pair: &[char]| u8::from_str_radix(&String::from_iter(pair), 16).expect("hex");
        digits.chunks(2).map(byte).collect()
    }

    /// The example of the draft, A.3.1.
    #[test]
    fn it_seals_and_opens_as_the_draft_does() {
        let key: Vec<u8> = (0x80..0xa0).collect();
        let nonce: Vec<u8> = (0x40..0x58).collect();
        let nonce: [u8; NONCE_BYTES] = nonce.try_into().expect("24 bytes");
        let aad = bytes("50515253c0c1c2c3c4c5c6c7");
        let text = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";
        let expected = bytes(
            "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb\
             731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452\
             2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9\
             21f9664c97637da9768812f615c68b13b52e\
             c0875924c1c7987947deafd8780acf49",
        );
        let cipher = Cipher::new(&key).expect("32 bytes");
        let mut sealed = cipher.seal_with(nonce, &aad, text).expect("seals");
        assert_eq!(sealed[..NONCE_BYTES], nonce);
        assert_eq!(sealed[NONCE_BYTES..], expected);
        assert_eq!(cipher.open_in_place(&aad, &mut sealed), Some(&text[..]));
    }

    #[test]
    fn what_is_too_short_to_be_sealed_is_not_opened() {
        let cipher = Cipher::new(&[7; KEY_BYTES]).expect("32 bytes");
        for length in 0..NONCE_BYTES + 16 {
            assert_eq!(cipher.open_in_place(b"", &mut vec![0; length]), None);
        }
    }
}
