//! Names of things at Stripe. Each type takes its own prefixes only, so that no text a model or a
//! peer gives, such as the number of a card, can stand where a token belongs.

use std::fmt;

use crate::error::{Error, Result};

/// The longest name in bytes, as Stripe documents.
const BYTES_MAX: usize = 255;

fn check(what: &'static str, prefixes: &[&str], text: &str) -> Result<()> {
    let rest = prefixes.iter().find_map(|prefix| text.strip_prefix(prefix));
    let is_plain = |rest: &str| {
        rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !rest.is_empty()
    };
    match rest {
        Some(rest) if is_plain(rest) && text.len() <= BYTES_MAX && !holds_a_card(rest) => Ok(()),
        // The text is not repeated: it may be what should never have come here.
        _ => Err(Error::invalid(
            what,
            "a name of the kind Stripe gives these",
        )),
    }
}

/// Whether a text is the number of a card with a prefix before it: 12 to 19 digits and nothing
/// else. Names of Stripe have letters.
fn holds_a_card(rest: &str) -> bool {
    let digits: Vec<u8> = rest.bytes().filter(u8::is_ascii_digit).collect();
    let is_only_digits = rest.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    is_only_digits && (12..=19).contains(&digits.len())
}

macro_rules! name {
    ($(#[$meta:meta])* $name:ident, $what:literal, $($prefix:literal),+) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// Takes a name.
            ///
            /// # Errors
            /// `Invalid` for a text that is not one; the error does not repeat it.
            pub fn new(text: impl Into<String>) -> Result<Self> {
                let text = text.into();
                check($what, &[$($prefix),+], &text)?;
                Ok(Self(text))
            }

            /// Returns the text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A payment at Stripe.
    IntentId, "payment intent", "pi_"
);
name!(
    /// A customer.
    CustomerId, "customer", "cus_"
);
name!(
    /// A refund.
    RefundId, "refund", "re_", "pyr_"
);
name!(
    /// A connected account, which can be paid.
    AccountId, "account", "acct_"
);
name!(
    /// A seller's profile, to which a token can be granted.
    ProfileId, "profile", "profile_"
);
name!(
    /// A charge of the older interface.
    ChargeId, "charge", "ch_", "py_"
);

name!(
    /// A stored payment method: a card or an account Stripe keeps, never its number.
    MethodId, "payment method", "pm_", "card_", "src_", "ba_"
);

/// A shared payment token: whoever it is granted to can charge with it, so that `Debug` does not
/// show it.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedTokenId(String);

impl SharedTokenId {
    /// Takes a token.
    ///
    /// # Errors
    /// `Invalid` for a text that is not one; the error does not repeat it.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        check("shared payment token", &["spt_"], &text)?;
        Ok(Self(text))
    }

    /// Returns the token, to hand it to the seller it was granted to.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SharedTokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("spt_…")
    }
}

/// What a payment is taken from. There is no way to say a card here.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// A payment method stored at Stripe, and the customer it belongs to.
    #[non_exhaustive]
    Stored {
        /// The method.
        method: MethodId,
        /// Whose it is; absent for a method that belongs to nobody.
        customer: Option<CustomerId>,
    },
    /// A token an agent granted to this account.
    Shared(SharedTokenId),
}

impl Source {
    /// Pays with a stored method.
    #[must_use]
    pub const fn stored(method: MethodId, customer: Option<CustomerId>) -> Self {
        Self::Stored { method, customer }
    }

    /// Pays with a shared token.
    #[must_use]
    pub const fn shared(token: SharedTokenId) -> Self {
        Self::Shared(token)
    }
}
