//! The reference: what `TigerBeetle` documents, in maps.

use std::collections::BTreeMap;

use crate::transfers::{Code, Line, Op};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) debits_pending: i64,
    pub(crate) debits_posted: i64,
    pub(crate) credits_pending: i64,
    pub(crate) credits_posted: i64,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fate {
    Pending,
    Posted(Vec<i64>),
    Voided,
    Expired,
}

pub(crate) struct Known {
    pub(crate) body: (Vec<Line>, Option<u64>),
    pub(crate) fate: Fate,
    /// What was taken back.
    pub(crate) reversed: Option<Vec<Line>>,
}

#[derive(Default)]
pub(crate) struct Model {
    pub(crate) now: u64,
    pub(crate) sums: [Sums; 4],
    pub(crate) known: BTreeMap<u8, Known>,
    pub(crate) failed: BTreeMap<u8, (Vec<Line>, Option<u64>)>,
}

impl Model {
    pub(crate) fn is_sound(sums: &[Sums; 4]) -> bool {
        let guarded = sums.iter().skip(1);
        let mut all = guarded.map(|s| s.debits_pending + s.debits_posted <= s.credits_posted);
        all.all(|holds| holds)
    }

    pub(crate) fn create(&mut self, id: u8, body: (Vec<Line>, Option<u64>), pins: bool) -> Code {
        if let Some(known) = self.known.get(&id) {
            let is_same = known.body == body;
            return if is_same {
                Code::Exists
            } else {
                Code::ExistsWithDifferent
            };
        }
        if let Some(failed) = self.failed.get(&id) {
            let is_same = *failed == body;
            return if is_same {
                Code::AlreadyFailed
            } else {
                Code::ExistsWithDifferent
            };
        }
        let mut sums = self.sums;
        for (debit, credit, units, is_pending) in &body.0 {
            if *is_pending {
                sums[*debit].debits_pending += units;
                sums[*credit].credits_pending += units;
            } else {
                sums[*debit].debits_posted += units;
                sums[*credit].credits_posted += units;
            }
            if !Self::is_sound(&sums) {
                if pins {
                    self.failed.insert(id, body);
                }
                return Code::ExceedsCredits;
            }
        }
        self.sums = sums;
        let holds = body.0.iter().any(|line| line.3);
        let fate = if holds {
            Fate::Pending
        } else {
            Fate::Posted(Vec::new())
        };
        self.known.insert(
            id,
            Known {
                body,
                fate,
                reversed: None,
            },
        );
        Code::Ok
    }

    pub(crate) fn end(&mut self, id: u8, fate: Fate) -> Code {
        let Some(known) = self.known.get_mut(&id) else {
            return Code::NotFound;
        };
        let holds: Vec<Line> = known.body.0.iter().copied().filter(|line| line.3).collect();
        if holds.is_empty() {
            return Code::NotPending;
        }
        if let Fate::Posted(amounts) = &fate
            && amounts.len() != holds.len()
        {
            return Code::Invalid;
        }
        if known.fate != Fate::Pending {
            return if known.fate == fate {
                Code::Exists
            } else {
                Code::AlreadyResolved
            };
        }
        let mut amounts = vec![0; holds.len()];
        if let Fate::Posted(posted) = &fate {
            if known.body.1.is_some_and(|end| end <= self.now) {
                return Code::Expired;
            }
            if posted
                .iter()
                .zip(&holds)
                .any(|(amount, line)| *amount > line.2)
            {
                return Code::ExceedsPending;
            }
            amounts.clone_from(posted);
        }
        known.fate = fate;
        for ((debit, credit, units, _), amount) in holds.into_iter().zip(amounts) {
            self.sums[debit].debits_pending -= units;
            self.sums[credit].credits_pending -= units;
            self.sums[debit].debits_posted += amount;
            self.sums[credit].credits_posted += amount;
        }
        Code::Ok
    }

    pub(crate) fn reverse(&mut self, id: u8) -> Code {
        let Some(known) = self.known.get(&id) else {
            return Code::NotFound;
        };
        let mut moved: Vec<Line> = known.body.0.iter().copied().filter(|l| !l.3).collect();
        if let Fate::Posted(amounts) = &known.fate {
            let holds = known.body.0.iter().filter(|l| l.3);
            moved.extend(
                holds
                    .zip(amounts)
                    .map(|(l, amount)| (l.0, l.1, *amount, false)),
            );
        }
        moved.retain(|line| line.2 != 0);
        if moved.is_empty() {
            return Code::Invalid;
        }
        match &known.reversed {
            Some(before) if *before == moved => return Code::Exists,
            // More was captured since: the same key would take back something else.
            Some(_) => return Code::ExistsWithDifferent,
            None => {}
        }
        let mut sums = self.sums;
        for (debit, credit, units, _) in moved.iter().rev() {
            sums[*debit].debits_posted -= units;
            sums[*credit].credits_posted -= units;
            // The ledger checks the credited account: its credits fall.
            if !Self::is_sound(&sums) {
                return Code::ExceedsCredits;
            }
        }
        self.sums = sums;
        if let Some(known) = self.known.get_mut(&id) {
            known.reversed = Some(moved);
        }
        Code::Ok
    }

    pub(crate) fn apply(&mut self, op: &Op) -> Code {
        match op.clone() {
            Op::Create {
                id,
                lines,
                timeout,
                pins,
            } => self.create(id, (lines, timeout), pins),
            Op::Post { id, amounts } => self.end(id, Fate::Posted(amounts)),
            Op::Void { id } => self.end(id, Fate::Voided),
            Op::Reverse { id } => self.reverse(id),
            Op::Wait(ms) => {
                self.now += ms;
                Code::Ok
            }
            Op::Expire => {
                let due: Vec<u8> = self
                    .known
                    .iter()
                    .filter(|(_, k)| {
                        k.fate == Fate::Pending && k.body.1.is_some_and(|e| e <= self.now)
                    })
                    .map(|(id, _)| *id)
                    .collect();
                for id in due {
                    self.end(id, Fate::Expired);
                }
                Code::Ok
            }
        }
    }
}
