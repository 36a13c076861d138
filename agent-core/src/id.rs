//! Typed identifiers: a prefix that says what a thing is, and a UUIDv7 (RFC 9562) that orders ids
//! by the time they were made.

use crate::env::Env;
use crate::error::{Error, Result};

/// Builds UUIDv7 bits from the environment's clock and entropy.
#[doc(hidden)]
#[must_use]
pub fn uuid_v7(env: &Env) -> uuid::Uuid {
    let mut random = [0_u8; 10];
    env.entropy.fill(&mut random);
    uuid::Builder::from_unix_timestamp_millis(env.clock.now().as_unix_ms_u64(), &random).into_uuid()
}

/// Parses `prefix_<32 lower-case hex digits>`.
#[doc(hidden)]
pub fn parse_prefixed(what: &'static str, prefix: &str, text: &str) -> Result<uuid::Uuid> {
    let hex = text
        .strip_prefix(prefix)
        .and_then(|rest| rest.strip_prefix('_'))
        .ok_or_else(|| Error::invalid(what, format!("expected the prefix `{prefix}_`")))?;
    let canonical = hex.len() == 32 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if !canonical {
        return Err(Error::invalid(
            what,
            "expected 32 lower-case hexadecimal digits",
        ));
    }
    uuid::Uuid::try_parse(hex).map_err(|e| Error::invalid(what, e.to_string()))
}

/// Defines a typed id: a UUIDv7 written `prefix_<hex>`, ordered by creation time.
///
/// ```
/// agent_core::define_id!(
///     /// A purchase order.
///     OrderId, "order"
/// );
/// let id = OrderId::generate(&agent_core::Env::system());
/// assert_eq!(id.to_string().parse::<OrderId>().unwrap(), id);
/// assert!("task_00".parse::<OrderId>().is_err());
/// ```
#[macro_export]
macro_rules! define_id {
    ($(#[$meta:meta])* $name:ident, $prefix:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name($crate::id::Bits);

        impl $name {
            /// The prefix every id of this type is written with.
            pub const PREFIX: &'static str = $prefix;

            /// Makes an id that is ordered after those made in earlier milliseconds.
            #[must_use]
            pub fn generate(env: &$crate::Env) -> Self {
                Self($crate::id::uuid_v7(env).as_u128())
            }

            /// Makes an id from its 128 bits, for ids derived from a digest.
            #[must_use]
            pub const fn from_bits(bits: u128) -> Self {
                Self(bits)
            }

            /// Returns the 128 bits of the id.
            #[must_use]
            pub const fn to_bits(self) -> u128 {
                self.0
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                write!(f, concat!($prefix, "_{:032x}"), self.0)
            }
        }

        impl ::std::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                ::std::fmt::Display::fmt(self, f)
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = $crate::Error;

            fn from_str(text: &str) -> ::std::result::Result<Self, Self::Err> {
                $crate::id::parse_prefixed(stringify!($name), $prefix, text)
                    .map(|uuid| Self(uuid.as_u128()))
            }
        }

        impl $crate::id::serde::Serialize for $name {
            fn serialize<S: $crate::id::serde::Serializer>(
                &self,
                serializer: S,
            ) -> ::std::result::Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> $crate::id::serde::Deserialize<'de> for $name {
            fn deserialize<D: $crate::id::serde::Deserializer<'de>>(
                deserializer: D,
            ) -> ::std::result::Result<Self, D::Error> {
                let text = <::std::string::String as $crate::id::serde::Deserialize>::deserialize(
                    deserializer,
                )?;
                text.parse().map_err($crate::id::serde::de::Error::custom)
            }
        }
    };
}

/// The bits inside an id.
#[doc(hidden)]
pub type Bits = u128;

#[doc(hidden)]
pub use serde;

define_id!(
    /// An agent: one identity that acts, whatever process runs it.
    AgentId, "agent"
);
define_id!(
    /// A unit of work with a terminal state (A2A `Task`).
    TaskId, "task"
);
define_id!(
    /// One execution of a fleet, from start to its report.
    RunId, "run"
);
define_id!(
    /// One attempt of a worker at a task.
    AttemptId, "attempt"
);
define_id!(
    /// One call of a tool or one message, for correlation.
    CallId, "call"
);
