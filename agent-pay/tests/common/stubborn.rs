//! Who refuses the first names it hears, whenever it hears them again, and no others: what a page of
//! rows that always fail is made of.

use std::collections::BTreeSet;

use parking_lot::Mutex;

#[derive(Debug)]
pub(crate) struct Stubborn {
    n_refused_max: usize,
    refused: Mutex<BTreeSet<String>>,
}

impl Stubborn {
    /// Refuses so many names.
    pub(crate) fn new(n_refused_max: usize) -> Self {
        Self {
            n_refused_max,
            refused: Mutex::default(),
        }
    }

    pub(crate) fn refuses(&self, name: &str) -> bool {
        let mut refused = self.refused.lock();
        if refused.len() < self.n_refused_max {
            refused.insert(name.to_owned());
        }
        refused.contains(name)
    }
}
