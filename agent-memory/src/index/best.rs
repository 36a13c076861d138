//! The best of many rows without sorting them all.

/// Keeps the rows with the highest scores; of equal ones those added later.
pub(super) struct Best {
    n: usize,
    kept: Vec<(f32, usize)>,
    /// Rows below it are not among the best.
    floor: f32,
    is_cut: bool,
}

impl Best {
    pub(super) fn new(n: usize) -> Self {
        Self {
            n,
            kept: Vec::new(),
            floor: f32::NEG_INFINITY,
            is_cut: false,
        }
    }

    /// What a row must score at least, so far.
    pub(super) const fn floor(&self) -> f32 {
        self.floor
    }

    pub(super) fn take(&mut self, score: f32, row: usize) {
        if score < self.floor {
            self.is_cut = true;
            return;
        }
        self.kept.push((score, row));
        // Twice as many as wanted make the cuts rare.
        if self.kept.len() >= 2 * self.n.max(1) {
            self.cut();
        }
    }

    fn cut(&mut self) {
        if self.kept.len() <= self.n {
            return;
        }
        self.is_cut = true;
        if self.n > 0 {
            let order =
                |a: &(f32, usize), b: &(f32, usize)| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1));
            let (_, last, _) = self.kept.select_nth_unstable_by(self.n - 1, order);
            self.floor = last.0;
        }
        self.kept.truncate(self.n);
    }

    /// The best, in no order, and whether there were more.
    pub(super) fn finish(mut self) -> (Vec<(f32, usize)>, bool) {
        self.cut();
        (self.kept, self.is_cut)
    }
}
