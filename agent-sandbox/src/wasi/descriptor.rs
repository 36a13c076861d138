//! The table of open descriptors.

use std::sync::Arc;

use crate::outcome::Stream;
use crate::vfs::{Directory, Entry, File};
use crate::wasi::rights::{self, Rights};
use crate::wasi::{Call, Errno};

/// What a descriptor stands for.
#[derive(Debug)]
pub(super) enum Kind {
    Stdin,
    Output(Stream),
    File {
        file: Box<dyn File>,
        at: u64,
    },
    Directory {
        dir: Arc<dyn Directory>,
        /// The mount's path, for a directory the guest is given at the start.
        preopen: Option<String>,
        /// What a running listing goes through, so that its positions stay valid.
        listing: Vec<Entry>,
    },
}

/// An open descriptor.
#[derive(Debug)]
pub(super) struct Descriptor {
    pub(super) kind: Kind,
    pub(super) rights: Rights,
    pub(super) inheriting: Rights,
    pub(super) flags: u16,
}

impl Descriptor {
    pub(super) const fn new(kind: Kind, rights: Rights, inheriting: Rights) -> Self {
        Self {
            kind,
            rights,
            inheriting,
            flags: 0,
        }
    }

    /// Checks that a right was not given up.
    pub(super) fn check(&self, right: Rights) -> Call {
        if self.rights & right == right {
            Ok(())
        } else {
            Err(Errno::NOTCAPABLE.into())
        }
    }

    /// The directory, for an operation on a path that needs `right`.
    pub(super) fn directory(&self, right: Rights) -> Call<&Arc<dyn Directory>> {
        match &self.kind {
            Kind::Directory { dir, .. } => {
                self.check(right)?;
                Ok(dir)
            }
            Kind::File { .. } => Err(Errno::NOTDIR.into()),
            Kind::Stdin | Kind::Output(_) => Err(Errno::NOTDIR.into()),
        }
    }
}

/// The table of open descriptors. The lowest free number is taken first.
#[derive(Debug)]
pub(crate) struct Table {
    slots: Vec<Option<Descriptor>>,
    open_max: usize,
}

impl Table {
    /// Creates the table with the standard streams and the mounts, which a guest finds at 3 and up.
    pub(crate) fn new(mounts: &[(String, Arc<dyn Directory>)], open_max: usize) -> Self {
        let mut slots = vec![
            Some(Descriptor::new(Kind::Stdin, rights::STDIN, 0)),
            Some(Descriptor::new(
                Kind::Output(Stream::Stdout),
                rights::STDOUT,
                0,
            )),
            Some(Descriptor::new(
                Kind::Output(Stream::Stderr),
                rights::STDOUT,
                0,
            )),
        ];
        for (path, dir) in mounts {
            let (dir, preopen) = (Arc::clone(dir), Some(path.clone()));
            let kind = Kind::Directory {
                dir,
                preopen,
                listing: Vec::new(),
            };
            let inheriting = rights::DIRECTORY | rights::FILE;
            slots.push(Some(Descriptor::new(kind, rights::DIRECTORY, inheriting)));
        }
        Self { slots, open_max }
    }

    fn index(fd: u32) -> usize {
        usize::try_from(fd).unwrap_or(usize::MAX)
    }

    pub(super) fn get(&self, fd: u32) -> Call<&Descriptor> {
        let slot = self.slots.get(Self::index(fd)).and_then(Option::as_ref);
        slot.ok_or_else(|| Errno::BADF.into())
    }

    pub(super) fn get_mut(&mut self, fd: u32) -> Call<&mut Descriptor> {
        let slot = self.slots.get_mut(Self::index(fd)).and_then(Option::as_mut);
        slot.ok_or_else(|| Errno::BADF.into())
    }

    /// Refuses one descriptor too many before anything is opened or made.
    pub(super) fn check_room(&self) -> Call {
        let n_open = self.slots.iter().flatten().count();
        if n_open < self.open_max {
            Ok(())
        } else {
            Err(Errno::MFILE.into())
        }
    }

    pub(super) fn insert(&mut self, descriptor: Descriptor) -> Call<u32> {
        self.check_room()?;
        let free = self.slots.iter().position(Option::is_none);
        let index = free.unwrap_or(self.slots.len());
        match self.slots.get_mut(index) {
            Some(slot) => *slot = Some(descriptor),
            None => self.slots.push(Some(descriptor)),
        }
        u32::try_from(index).map_err(|_too_large| Errno::MFILE.into())
    }

    pub(super) fn close(&mut self, fd: u32) -> Call {
        let slot = self.slots.get_mut(Self::index(fd)).and_then(Option::take);
        slot.map(drop).ok_or_else(|| Errno::BADF.into())
    }

    /// Moves `from` over `to`; both must be open.
    pub(super) fn renumber(&mut self, from: u32, to: u32) -> Call {
        self.get(from)?;
        self.get(to)?;
        if from == to {
            return Ok(());
        }
        let moved = self.slots.get_mut(Self::index(from)).and_then(Option::take);
        if let Some(slot) = self.slots.get_mut(Self::index(to)) {
            *slot = moved;
        }
        Ok(())
    }
}
