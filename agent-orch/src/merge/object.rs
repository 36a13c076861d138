//! Names of things in a repository: objects by hash, files by path.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::error::{Error, Result};

/// The SHA-1 name of a git object, written as 40 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectId([u8; 20]);

impl ObjectId {
    /// Takes the 20 bytes of a hash.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }

    /// Returns the 20 bytes of the hash.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ObjectId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut bytes = [0_u8; 20];
        let lower = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !lower || hex::decode_to_slice(text, &mut bytes).is_err() {
            return Err(Error::invalid(
                "object id",
                "expected 40 lower-case hexadecimal digits",
            ));
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for ObjectId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<ObjectId> for String {
    fn from(id: ObjectId) -> Self {
        id.to_string()
    }
}

/// A file's path inside a repository: bytes, since git knows no encoding.
///
/// Relative, `/` between the parts, at most [`RepoPath::BYTES_MAX`] bytes; no part is empty, `.`,
/// `..` or a spelling of `.git`. A path a checkout cannot hold is therefore not representable.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "WirePath", into = "WirePath")]
pub struct RepoPath(Vec<u8>);

impl RepoPath {
    /// The longest path in bytes: `PATH_MAX` of Linux.
    pub const BYTES_MAX: usize = 4_096;

    /// The deepest path in parts. The merge descends one call per part.
    pub const PARTS_MAX: usize = 256;

    /// Creates a path.
    ///
    /// # Errors
    /// `Invalid` if the path is absolute, too long or has a part no checkout may hold.
    pub fn new(path: impl Into<Vec<u8>>) -> Result<Self> {
        let bytes = path.into();
        if bytes.is_empty() || bytes.len() > Self::BYTES_MAX {
            return Err(Error::invalid("path", "a path has 1 to 4096 bytes"));
        }
        if bytes.split(|b| *b == b'/').count() > Self::PARTS_MAX {
            return Err(Error::invalid("path", "a path has at most 256 parts"));
        }
        match bytes.split(|b| *b == b'/').find_map(forbidden) {
            Some(reason) => Err(Error::invalid("path", reason)),
            None => Ok(Self(bytes)),
        }
    }

    /// Returns the bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the path as text, unless it is not UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

/// Says why a part of a path is refused. The spellings of `.git` are those a case-insensitive,
/// NTFS or HFS+ checkout would take for it.
fn forbidden(part: &[u8]) -> Option<&'static str> {
    if part.is_empty() {
        return Some("a part is empty");
    }
    if part == b"." || part == b".." {
        return Some("a part is `.` or `..`");
    }
    if part.iter().any(|b| matches!(b, 0 | b'\\')) {
        return Some("a part has a NUL or a backslash");
    }
    let visible: Vec<u8> = String::from_utf8_lossy(part)
        .chars()
        .filter(|c| {
            !matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
        })
        .collect::<String>()
        .to_ascii_lowercase()
        .into_bytes();
    let stem = visible.split(|b| *b == b':').next().unwrap_or_default();
    let stem = stem.strip_suffix(b".").unwrap_or(stem).trim_ascii_end();
    let stem = stem.strip_suffix(b".").unwrap_or(stem);
    (stem == b".git" || stem == b"git~1").then_some("a part is a spelling of `.git`")
}

impl fmt::Display for RepoPath {
    /// Writes the path as text, with `\xNN` for bytes that are not UTF-8.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.utf8_chunks().try_for_each(|chunk| {
            f.write_str(chunk.valid())?;
            chunk
                .invalid()
                .iter()
                .try_for_each(|byte| write!(f, "\\x{byte:02x}"))
        })
    }
}

impl fmt::Debug for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

impl FromStr for RepoPath {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

/// The stored form: text where the path is UTF-8, else hexadecimal.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum WirePath {
    Text(String),
    Bytes { hex: String },
}

impl TryFrom<WirePath> for RepoPath {
    type Error = Error;

    fn try_from(wire: WirePath) -> Result<Self> {
        match wire {
            WirePath::Text(text) => Self::new(text),
            WirePath::Bytes { hex } => match hex::decode(&hex) {
                Ok(bytes) => Self::new(bytes),
                Err(e) => Err(Error::invalid("path", e.to_string())),
            },
        }
    }
}

impl From<RepoPath> for WirePath {
    fn from(path: RepoPath) -> Self {
        match String::from_utf8(path.0) {
            Ok(text) => Self::Text(text),
            Err(e) => Self::Bytes {
                hex: hex::encode(e.as_bytes()),
            },
        }
    }
}

/// What a tree entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A regular file with the executable bit.
    Executable,
    /// A symbolic link; its blob is the link's target.
    Symlink,
    /// A submodule: the id names a commit of another repository.
    Gitlink,
}

/// One tracked file of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The path's bytes as the tree has them; they need not form a [`RepoPath`].
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// The blob, or the submodule's commit.
    pub id: ObjectId,
    /// The blob's size in bytes; zero for a submodule.
    pub size: u64,
}

impl Entry {
    /// Returns the path if a checkout can hold it and it is UTF-8, else why it is skipped.
    ///
    /// # Errors
    /// `Invalid` with the reason.
    pub fn text_path(&self) -> Result<RepoPath> {
        let path = RepoPath::new(self.path.clone())?;
        if path.as_str().is_none() {
            return Err(Error::invalid("path", "the path is not UTF-8"));
        }
        Ok(path)
    }
}

/// Tells whether a blob is a Git LFS pointer, whose content lies outside the repository.
#[must_use]
pub fn is_lfs_pointer(blob: &[u8]) -> bool {
    blob.len() < 1_024 && blob.starts_with(b"version https://git-lfs.github.com/spec/")
}
