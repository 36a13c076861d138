//! What a run did, folded from its audit records: outcomes, recoveries, merges, spend and
//! reliability. Any journal's records give the same report.

use std::collections::{BTreeMap, BTreeSet};

use agent_core::{Amount, Asset, Principal, RunId, TaskId, Timestamp};
use serde::Serialize;
use serde_json::Value;

use crate::audit::{EventQuery, Record};
use crate::door::Chaos;
use crate::error::Result;
use crate::journal::Journal;

/// Tries and successes of one layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Reliability {
    /// Effects that were tried, with every retry.
    pub tries: u64,
    /// Tries that ended well.
    pub done: u64,
}

impl Reliability {
    /// Returns the share of tries that ended well, in millionths; a million if nothing was tried.
    #[must_use]
    pub const fn per_million(&self) -> u64 {
        match self.done.saturating_mul(1_000_000).checked_div(self.tries) {
            Some(share) => share,
            None => 1_000_000,
        }
    }
}

/// Work and money of one pool or lane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PoolSpend {
    /// Attempts its agents made.
    pub attempts: u64,
    /// What its agents spent, in smallest units of the report's asset.
    pub spent: i128,
}

/// Faults of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FaultTally {
    /// How many were injected.
    pub injected: u64,
    /// How many hit tasks that completed all the same.
    pub recovered: u64,
}

/// One slot of the timeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Slot {
    /// Tasks whose work was done.
    pub done: u64,
    /// Tasks a verifier accepted.
    pub verified: u64,
    /// Changes that landed.
    pub landed: u64,
    /// Failed tries, injected or not.
    pub failed: u64,
}

/// What a run did.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The run.
    pub run: RunId,
    /// The asset of all money in the report.
    pub asset: Asset,
    /// When its first and last records were written.
    pub from: Timestamp,
    /// See `from`.
    pub until: Timestamp,
    /// Tasks that were submitted.
    pub submitted: u64,
    /// Tasks that were done and verified; of these, how many landed a change is `landed`.
    pub completed: u64,
    /// Tasks that failed.
    pub failed: u64,
    /// Tasks that were rejected.
    pub rejected: u64,
    /// Tasks that were canceled.
    pub canceled: u64,
    /// Changes that landed.
    pub landed: u64,
    /// Tasks whose change met a conflict.
    pub conflicted: u64,
    /// Tasks whose change met a conflict and landed later.
    pub resolved: u64,
    /// Questions asked.
    pub asked: u64,
    /// Questions answered, by a person or by their default.
    pub answered: u64,
    /// How often a failed attempt was tried again.
    pub retries: u64,
    /// How often work began anew with feedback.
    pub corrections: u64,
    /// How often an agent was restarted.
    pub restarts: u64,
    /// How often a process opened the run again.
    pub resumes: u64,
    /// How many leases were taken back.
    pub leases_ended: u64,
    /// Injected faults by kind.
    pub faults: BTreeMap<String, FaultTally>,
    /// Tries and successes by layer, the first word of the effects' actions.
    pub layers: BTreeMap<String, Reliability>,
    /// Work and money by pool and lane.
    pub pools: BTreeMap<String, PoolSpend>,
    /// Work over time, in slots of equal length.
    pub timeline: Vec<Slot>,
    /// The length of a slot in milliseconds.
    pub slot_ms: u64,
}

impl Report {
    /// The most slots of a timeline: a chart has no more columns.
    pub const SLOTS_MAX: usize = 120;

    /// Reads a run's records and folds them.
    ///
    /// # Errors
    /// The journal's.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn of(journal: &dyn Journal, run: RunId, asset: Asset) -> Result<Self> {
        let mut fold = Fold::new(run, asset);
        let mut after = 0;
        loop {
            let page = journal
                .events(EventQuery::after(after).with_run(run))
                .await?;
            let Some(last) = page.last() else {
                return Ok(fold.finish());
            };
            after = last.seq;
            for record in &page {
                fold.add(record);
            }
        }
    }

    /// Returns all that was spent.
    #[must_use]
    pub fn spent(&self) -> Amount {
        let units = self.pools.values().map(|pool| pool.spent).sum();
        Amount::from_units(units, self.asset)
    }

    /// Returns what one verified success cost, with all failed attempts in it, rounded up; nothing
    /// if there was none.
    #[must_use]
    pub fn cost_per_success(&self) -> Option<Amount> {
        let successes = i128::from(self.completed);
        let units = self.spent().units();
        let rounded = units
            .saturating_add(successes.saturating_sub(1))
            .checked_div(successes)?;
        Some(Amount::from_units(rounded, self.asset))
    }

    /// Returns the product of all layers' shares of good tries, in millionths: what a chain of one
    /// effect per layer would achieve without recovery.
    #[must_use]
    pub fn compounded_per_million(&self) -> u64 {
        self.layers.values().fold(1_000_000, |product, layer| {
            product.saturating_mul(layer.per_million()) / 1_000_000
        })
    }
}

/// The report in the making.
struct Fold {
    report: Report,
    started: bool,
    /// Which pool each actor was seen claiming for.
    places: BTreeMap<Principal, String>,
    ended: BTreeSet<TaskId>,
    completed: BTreeSet<TaskId>,
    conflicted: BTreeSet<TaskId>,
    landed: BTreeSet<TaskId>,
    hits: Vec<(String, Option<TaskId>)>,
    moments: Vec<(Timestamp, Moment)>,
}

#[derive(Clone, Copy)]
enum Moment {
    Done,
    Verified,
    Landed,
    Failed,
}

impl Fold {
    fn new(run: RunId, asset: Asset) -> Self {
        Self {
            report: Report {
                run,
                asset,
                from: Timestamp::EPOCH,
                until: Timestamp::EPOCH,
                submitted: 0,
                completed: 0,
                failed: 0,
                rejected: 0,
                canceled: 0,
                landed: 0,
                conflicted: 0,
                resolved: 0,
                asked: 0,
                answered: 0,
                retries: 0,
                corrections: 0,
                restarts: 0,
                resumes: 0,
                leases_ended: 0,
                faults: BTreeMap::new(),
                layers: BTreeMap::new(),
                pools: BTreeMap::new(),
                timeline: Vec::new(),
                slot_ms: 0,
            },
            started: false,
            places: BTreeMap::new(),
            ended: BTreeSet::new(),
            completed: BTreeSet::new(),
            conflicted: BTreeSet::new(),
            landed: BTreeSet::new(),
            hits: Vec::new(),
            moments: Vec::new(),
        }
    }

    fn add(&mut self, record: &Record) {
        if !self.started {
            (self.started, self.report.from) = (true, record.at);
        }
        self.report.until = record.at;
        match record.kind.as_str() {
            "tasks.submitted" => {
                self.report.submitted += number(record.payload.as_ref(), "added");
            }
            "task.leased" => {
                self.places
                    .insert(record.actor.clone(), record.subject.clone());
                self.report
                    .pools
                    .entry(record.subject.clone())
                    .or_default()
                    .attempts += 1;
            }
            "effect.done" | "effect.failed" | "effect.in_doubt" => self.effect(record),
            "request.asked" => self.report.asked += 1,
            "request.answered" => self.report.answered += 1,
            "agent.restarted" => self.report.restarts += 1,
            "run.resumed" => self.report.resumes += 1,
            "lease.ended" => self.report.leases_ended += 1,
            kind => self.task(kind, record),
        }
    }

    fn task(&mut self, kind: &str, record: &Record) {
        let Some(task) = record.task else { return };
        if record.code.starts_with(Chaos::CODE) && record.code == "chaos.crash" {
            self.hit(record);
        }
        match kind {
            "task.done" => self.moments.push((record.at, Moment::Done)),
            "task.verified" => {
                self.completed.insert(task);
                self.moments.push((record.at, Moment::Verified));
            }
            "task.landed" => {
                self.landed.insert(task);
                self.moments.push((record.at, Moment::Landed));
            }
            "task.retried" => self.report.retries += 1,
            "task.corrected" => {
                self.completed.remove(&task);
                self.report.corrections += 1;
                if record.subject == "merge" {
                    self.conflicted.insert(task);
                }
            }
            "task.failed" | "task.rejected" | "task.canceled" => {
                self.completed.remove(&task);
                if self.ended.insert(task) {
                    match kind {
                        "task.failed" => self.report.failed += 1,
                        "task.rejected" => self.report.rejected += 1,
                        _ => self.report.canceled += 1,
                    }
                }
            }
            _ => {}
        }
    }

    fn effect(&mut self, record: &Record) {
        let layer = record
            .subject
            .split('.')
            .next()
            .unwrap_or_default()
            .to_owned();
        let layer = self.report.layers.entry(layer).or_default();
        layer.tries += 1;
        if record.kind == "effect.done" {
            layer.done += 1;
        } else {
            self.moments.push((record.at, Moment::Failed));
            if record.code.starts_with(Chaos::CODE) {
                self.hit(record);
            }
        }
        let cost = record
            .payload
            .as_ref()
            .and_then(|p| p.get("cost"))
            .and_then(Value::as_str);
        if let Some(cost) = cost.and_then(|text| text.parse::<Amount>().ok())
            && cost.asset() == self.report.asset
        {
            let place = self.places.get(&record.actor).cloned().unwrap_or_default();
            let pool = self.report.pools.entry(place).or_default();
            pool.spent = pool.spent.saturating_add(cost.units());
        }
    }

    fn hit(&mut self, record: &Record) {
        self.hits.push((record.code.clone(), record.task));
        self.report
            .faults
            .entry(record.code.clone())
            .or_default()
            .injected += 1;
    }

    fn finish(mut self) -> Report {
        for (code, task) in &self.hits {
            if task.is_some_and(|task| self.completed.contains(&task))
                && let Some(fault) = self.report.faults.get_mut(code)
            {
                fault.recovered += 1;
            }
        }
        let count = |set: &BTreeSet<TaskId>| u64::try_from(set.len()).unwrap_or(u64::MAX);
        self.report.completed = count(&self.completed);
        self.report.landed = count(&self.landed);
        self.report.conflicted = count(&self.conflicted);
        self.report.resolved =
            u64::try_from(self.conflicted.intersection(&self.landed).count()).unwrap_or(u64::MAX);
        self.timeline();
        self.report
    }

    fn timeline(&mut self) {
        let span = self.report.until.since(self.report.from).as_millis();
        let slots = u128::try_from(Report::SLOTS_MAX).unwrap_or(1);
        let slot_ms = span.checked_div(slots).unwrap_or(0).saturating_add(1);
        self.report.slot_ms = u64::try_from(slot_ms).unwrap_or(u64::MAX);
        for (at, moment) in &self.moments {
            let n = at.since(self.report.from).as_millis() / slot_ms;
            let n = usize::try_from(n)
                .unwrap_or(usize::MAX)
                .min(Report::SLOTS_MAX);
            if self.report.timeline.len() <= n {
                self.report
                    .timeline
                    .resize(n.saturating_add(1), Slot::default());
            }
            if let Some(slot) = self.report.timeline.get_mut(n) {
                match moment {
                    Moment::Done => slot.done += 1,
                    Moment::Verified => slot.verified += 1,
                    Moment::Landed => slot.landed += 1,
                    Moment::Failed => slot.failed += 1,
                }
            }
        }
    }
}

fn number(payload: Option<&Value>, key: &str) -> u64 {
    payload
        .and_then(|p| p.get(key))
        .and_then(Value::as_u64)
        .unwrap_or(0)
}
