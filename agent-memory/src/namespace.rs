//! Where a memory belongs: the partition every call names.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use agent_core::Scope;

use crate::error::{Error, Result};

/// A path that partitions a tenant's memories, for example `fleet/pool/agent`.
///
/// One to [`Namespace::DEPTH_MAX`] segments of 1 to [`Namespace::SEGMENT_BYTES_MAX`] ASCII letters,
/// digits and `-_.:@`, none of them `.` or `..`. A namespace is a partition, not a prefix: a call on
/// `fleet` never sees `fleet/pool`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Namespace(Arc<str>);

impl Namespace {
    /// The most segments: fleet, pool, agent and user leave room for as many again.
    pub const DEPTH_MAX: usize = 8;
    /// The longest segment in bytes; a `did:key` of any common key type fits.
    pub const SEGMENT_BYTES_MAX: usize = 128;

    /// Parses a path.
    ///
    /// # Errors
    /// `Invalid` if the path breaks the rules above.
    pub fn new(path: &str) -> Result<Self> {
        let n_segments = path.split('/').count();
        if n_segments > Self::DEPTH_MAX {
            return Err(Error::invalid("namespace", "at most 8 segments"));
        }
        if path.split('/').all(is_segment) {
            Ok(Self(path.into()))
        } else {
            Err(Error::invalid(
                "namespace",
                "segments of 1 to 128 ASCII letters, digits and -_.:@",
            ))
        }
    }

    /// Returns the path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_segment(segment: &str) -> bool {
    (1..=Namespace::SEGMENT_BYTES_MAX).contains(&segment.len())
        && segment != "."
        && segment != ".."
        && segment
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.:@".contains(&b))
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl FromStr for Namespace {
    type Err = Error;

    fn from_str(path: &str) -> Result<Self> {
        Self::new(path)
    }
}

/// The longest tenant name in bytes, as for a principal.
const TENANT_BYTES_MAX: usize = 256;

/// Returns the tenant of a scope if its name is one a store may keep.
///
/// # Errors
/// `Invalid` for an empty or long name, or one with white space or control characters.
pub(crate) fn tenant(scope: &Scope) -> Result<Arc<str>> {
    let name = &scope.tenant;
    let is_plain = !name.chars().any(|c| c.is_whitespace() || c.is_control());
    if (1..=TENANT_BYTES_MAX).contains(&name.len()) && is_plain {
        Ok(Arc::clone(name))
    } else {
        Err(Error::invalid(
            "tenant",
            "1 to 256 bytes without white space or control characters",
        ))
    }
}
