//! Where a task is on its road, and what is happening to it there.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Which part of the road a task is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Stage {
    /// A worker does it.
    Work,
    /// An agent with another identity checks it.
    Verify,
    /// The merge queue lands its change.
    Merge,
    /// What its steps did is undone, before it ends without success.
    Undo,
}

/// What is happening to a task in its stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Status {
    /// Waits for an agent.
    Ready,
    /// Waits for a moment, then becomes ready.
    Delayed,
    /// An agent holds the lease.
    Leased,
    /// Waits for a person, a child or a moment, without a lease.
    Parked,
    /// Held back by somebody, without a lease, until it is resumed.
    Paused,
    /// Ended: done and verified.
    Completed,
    /// Ended: given up.
    Failed,
    /// Ended: stopped by somebody.
    Canceled,
    /// Ended: a person or policy said no.
    Rejected,
}

impl Status {
    /// Returns whether the task has ended.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::Failed | Self::Canceled | Self::Rejected
        )
    }
}

macro_rules! stored_names {
    ($name:ident { $($variant:ident = $text:literal),+ $(,)? }) => {
        impl $name {
            /// Returns the name it is stored and reported under.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl std::str::FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(Error::invalid(stringify!($name), format!("`{text}` is unknown"))),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

stored_names!(Stage { Work = "work", Verify = "verify", Merge = "merge", Undo = "undo" });

stored_names!(Status {
    Ready = "ready",
    Delayed = "delayed",
    Leased = "leased",
    Parked = "parked",
    Paused = "paused",
    Completed = "completed",
    Failed = "failed",
    Canceled = "canceled",
    Rejected = "rejected",
});
