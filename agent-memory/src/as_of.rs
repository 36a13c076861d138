//! The two times of a memory: when it held in the world, and when the store knew it.

use agent_core::Timestamp;

/// The moment a question is about, in the world and in what was known (Snodgrass: valid time and
/// transaction time).
///
/// What was erased is gone at every moment: erasure takes it out of the past, too. Labels are those
/// of the present: their earlier values are not kept. Scores are those of the present index; which
/// memories may be found is decided as of the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct AsOf {
    /// What held at this time; none for the present.
    pub valid: Option<Timestamp>,
    /// By what the store had taken at this time, changes of that very moment included; none for
    /// all it has taken.
    pub known: Option<Timestamp>,
}

impl AsOf {
    /// Asks for what holds now by all that is known.
    #[must_use]
    pub const fn now() -> Self {
        Self {
            valid: None,
            known: None,
        }
    }

    /// Asks what was believed at a moment: what held then by what was known then.
    #[must_use]
    pub const fn moment(at: Timestamp) -> Self {
        Self {
            valid: Some(at),
            known: Some(at),
        }
    }

    /// Sets the time in the world. Default: the present.
    #[must_use]
    pub const fn valid_at(mut self, at: Timestamp) -> Self {
        self.valid = Some(at);
        self
    }

    /// Sets the time of knowledge. Default: all that is known.
    #[must_use]
    pub const fn known_at(mut self, at: Timestamp) -> Self {
        self.known = Some(at);
        self
    }

    /// What the parts of a store look at: the time in the world, none for any.
    pub(crate) fn view(self, now: Timestamp, is_with_retired: bool) -> View {
        View {
            valid: (!is_with_retired).then(|| self.valid.unwrap_or(now)),
            known: self.known,
        }
    }
}

/// Which versions of memories and relations are seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    /// Those that hold at this time; none for those of any time.
    pub(crate) valid: Option<Timestamp>,
    /// By what was known at this time; none for the present.
    pub(crate) known: Option<Timestamp>,
}

impl View {
    pub(crate) fn holds(self, from: Timestamp, to: Option<Timestamp>) -> bool {
        self.valid
            .is_none_or(|at| from <= at && to.is_none_or(|to| at < to))
    }

    pub(crate) fn knows(self, from: Timestamp) -> bool {
        self.known.is_none_or(|at| from <= at)
    }

    /// Whether a version that was replaced at `to` is the one known.
    pub(crate) fn is_version(self, from: Timestamp, to: Option<Timestamp>) -> bool {
        match (self.known, to) {
            (None, to) => to.is_none(),
            (Some(at), to) => from <= at && to.is_none_or(|to| at < to),
        }
    }
}
