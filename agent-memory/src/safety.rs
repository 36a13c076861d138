//! What keeps hostile text from becoming an instruction, a leak, or a truth by repetition: quoting,
//! suspicion, secrets.

mod quote;

pub use quote::{QUOTE_NOTE, quote, quote_text};
