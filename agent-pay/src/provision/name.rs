//! Names of resources and credentials, in a form that is safe in paths, SQL and variables.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The name of a resource: 1 to 40 of `a-z`, `0-9` and `_`, a letter first.
///
/// So it can be a file's name, an identifier of SQL and, in capitals, the beginning of a variable's
/// name, and cannot lead out of a directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ResourceName(String);

impl ResourceName {
    /// The longest name in bytes: with a prefix of 16 it fits PostgreSQL's 63.
    pub const BYTES_MAX: usize = 40;

    /// Checks a name.
    ///
    /// # Errors
    /// `Invalid` for any other form.
    pub fn new(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        let is_first = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
        if !is_first || name.len() > Self::BYTES_MAX || !name.bytes().all(is_plain) {
            return Err(Error::invalid(
                "resource name",
                "1 to 40 of a-z, 0-9 and _, a letter first",
            ));
        }
        Ok(Self(name))
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ResourceName {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        Self::new(name)
    }
}

impl From<ResourceName> for String {
    fn from(name: ResourceName) -> Self {
        name.0
    }
}

/// The name of a credential in the vault, such as `sqlite/notes/path`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CredentialName(String);

impl CredentialName {
    /// The longest name in bytes.
    pub const BYTES_MAX: usize = 200;

    /// Checks a name.
    ///
    /// # Errors
    /// `Invalid` unless it has three parts of letters, digits, `-` and `_` with `/` between them.
    pub fn new(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        let is_part = |part: &str| !part.is_empty() && part.bytes().all(is_plain);
        if name.len() > Self::BYTES_MAX
            || !name.split('/').all(is_part)
            || name.split('/').count() != 3
        {
            return Err(Error::invalid(
                "credential name",
                "provisioner/resource/part of letters, digits, - and _",
            ));
        }
        Ok(Self(name))
    }

    /// Names a part of what opens a resource.
    ///
    /// # Errors
    /// `Invalid` as for [`Self::new`].
    pub fn of(provisioner: &str, resource: &ResourceName, part: &str) -> Result<Self> {
        Self::new(format!("{provisioner}/{resource}/{part}"))
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CredentialName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for CredentialName {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        Self::new(name)
    }
}

impl From<CredentialName> for String {
    fn from(name: CredentialName) -> Self {
        name.0
    }
}
