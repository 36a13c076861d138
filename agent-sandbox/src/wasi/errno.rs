//! The numbers a call answers with.

use crate::error::FileProblem;
use crate::outcome::{Exit, TrapKind};

/// An error number of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Errno(u16);

impl Errno {
    pub(crate) const SUCCESS: Self = Self(0);
    pub(super) const ACCES: Self = Self(2);
    pub(super) const BADF: Self = Self(8);
    pub(super) const EXIST: Self = Self(20);
    pub(super) const FBIG: Self = Self(22);
    pub(super) const ILSEQ: Self = Self(25);
    pub(super) const INVAL: Self = Self(28);
    pub(super) const IO: Self = Self(29);
    pub(super) const ISDIR: Self = Self(31);
    pub(super) const LOOP: Self = Self(32);
    pub(super) const MFILE: Self = Self(33);
    pub(super) const NAMETOOLONG: Self = Self(37);
    pub(super) const NOENT: Self = Self(44);
    pub(super) const NOSPC: Self = Self(51);
    pub(super) const NOTDIR: Self = Self(54);
    pub(super) const NOTEMPTY: Self = Self(55);
    pub(super) const NOTSOCK: Self = Self(57);
    pub(super) const NOTSUP: Self = Self(58);
    pub(super) const OVERFLOW: Self = Self(61);
    pub(super) const PERM: Self = Self(63);
    pub(super) const ROFS: Self = Self(69);
    pub(super) const SPIPE: Self = Self(70);
    pub(super) const XDEV: Self = Self(75);
    pub(super) const NOTCAPABLE: Self = Self(76);

    pub(crate) const fn number(self) -> u16 {
        self.0
    }
}

impl From<FileProblem> for Errno {
    fn from(problem: FileProblem) -> Self {
        match problem {
            FileProblem::NotFound => Self::NOENT,
            FileProblem::Exists => Self::EXIST,
            FileProblem::NotDirectory => Self::NOTDIR,
            FileProblem::IsDirectory => Self::ISDIR,
            FileProblem::NotEmpty => Self::NOTEMPTY,
            FileProblem::ReadOnly => Self::ROFS,
            FileProblem::Escape => Self::PERM,
            FileProblem::Quota => Self::NOSPC,
            FileProblem::NameTooLong => Self::NAMETOOLONG,
            FileProblem::Loop => Self::LOOP,
            FileProblem::Invalid => Self::INVAL,
            FileProblem::Denied => Self::ACCES,
            FileProblem::Io => Self::IO,
        }
    }
}

/// Why a call does not succeed.
#[derive(Debug)]
pub(crate) enum Fail {
    /// The guest gets a number and goes on.
    Errno(Errno),
    /// The guest ends here.
    Exit(Exit),
}

impl Fail {
    pub(super) const fn out_of_bounds() -> Self {
        Self::Exit(Exit::Trap {
            kind: TrapKind::Interface,
            message: std::borrow::Cow::Borrowed("a pointer outside the guest's memory"),
        })
    }
}

impl From<Errno> for Fail {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<FileProblem> for Fail {
    fn from(problem: FileProblem) -> Self {
        Self::Errno(problem.into())
    }
}

impl From<Exit> for Fail {
    fn from(exit: Exit) -> Self {
        Self::Exit(exit)
    }
}
