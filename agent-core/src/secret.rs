//! Values that must not reach a log, a prompt, a journal or an error.

pub use secrecy::ExposeSecret;
use secrecy::{SecretBox, SecretString};

/// A secret text: wiped when dropped, `Debug` shows no content, no `Display`, no `Serialize`.
pub type Secret = SecretString;

/// Secret bytes with the same guarantees as [`Secret`].
pub type SecretBytes = SecretBox<Vec<u8>>;
