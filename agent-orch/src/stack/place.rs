//! The pools and lanes of a fleet, and what each of their agents is.

use std::time::Duration;

use agent_core::{Amount, Principal, Scope};
use agent_identity::Key;
use agent_pay::BudgetPath;

use super::agent_id;
use crate::error::Result;
use crate::fleet::{Fleet, Pool, Probes};
use crate::runner::Member;

/// A pool or a lane: a number of agents with the same budget and grants.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) name: &'a str,
    pub(super) size: u32,
    size_max: u32,
    pub(super) budget: Amount,
    pub(super) grants: &'a [String],
    attempt_max: Duration,
    steps_max: u32,
    probes: Probes,
}

pub(super) fn places(fleet: &Fleet) -> impl Iterator<Item = Place<'_>> {
    let pools = fleet.pools.iter().map(|(name, pool)| Place {
        name,
        size: pool.size,
        size_max: pool.size_max(),
        budget: pool.budget,
        grants: &pool.grants,
        attempt_max: pool.attempt_max,
        steps_max: pool.steps_max,
        probes: pool.probes,
    });
    let lanes = fleet.lanes.iter().map(|(name, lane)| {
        let defaults = Pool::new("", lane.size, fleet.budget);
        Place {
            name,
            size: lane.size,
            size_max: lane.size,
            budget: fleet.budget,
            grants: &lane.grants,
            attempt_max: defaults.attempt_max,
            steps_max: defaults.steps_max,
            probes: defaults.probes,
        }
    });
    pools.chain(lanes)
}

pub(crate) fn member_name(n: u32) -> String {
    format!("{n:04}")
}

pub(super) fn member(
    place: Place<'_>,
    key: &Key,
    budget: BudgetPath,
    number: u32,
) -> Result<Member> {
    let id = agent_id(&key.did);
    let mut scope = Scope::new(Principal::try_from(key.did)?);
    scope.agent = Some(id);
    Ok(Member {
        pool: place.name.to_owned(),
        id,
        scope,
        budget,
        attempt_max: place.attempt_max,
        steps_max: place.steps_max,
        has_others: place.size_max > 1,
        number,
        probes: place.probes,
    })
}
