//! What keeps hostile text from becoming an instruction, a leak, or a truth by repetition: quoting,
//! suspicion, secrets, echoes.

mod echo;
mod quote;
mod secret;
mod suspect;

pub use echo::Echo;
pub use quote::{QUOTE_NOTE, quote, quote_text};
pub use secret::{SecretKind, find_secret, refuse_secrets};
pub use suspect::{Suspicion, suspicions};
