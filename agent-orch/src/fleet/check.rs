//! Whether the parts of a fleet fit together.

use super::{Branch, ConfigError, Fleet, GrantText, Lane, Pool, Remedy, Scale, recovery, schedule};

pub(super) type Checked = Result<(), ConfigError>;

/// Checks a whole fleet and names the first key that does not fit.
pub(super) fn check(fleet: &Fleet) -> Checked {
    name("fleet.name", &fleet.name)?;
    if fleet.pools.is_empty() {
        let add = Remedy::Add("[pool.NAME]".to_owned());
        return Err(ConfigError::new(
            "pool",
            "a fleet has at least one pool",
            add,
        ));
    }
    fleet.scheduling.check()?;
    for (id, pool) in &fleet.pools {
        check_pool(fleet, id, pool)?;
    }
    for (id, lane) in &fleet.lanes {
        check_lane(fleet, id, lane)?;
    }
    for (id, one) in &fleet.schedules {
        schedule::check_schedule(fleet, id, one)?;
    }
    for (id, branch) in &fleet.supervisors {
        check_branch(fleet, id, branch)?;
    }
    check_depth(fleet)
}

fn check_branch(fleet: &Fleet, id: &str, branch: &Branch) -> Checked {
    let key = format!("supervisor.{id}.children");
    name(&format!("supervisor.{id}"), id)?;
    if branch.children.is_empty() || branch.children.len() > Branch::CHILDREN_MAX {
        let reason = format!("a supervisor has 1 to {} children", Branch::CHILDREN_MAX);
        let remedy = Remedy::Write("names such as `pool.NAME` or `supervisor.NAME`".to_owned());
        return Err(ConfigError::new(key, reason, remedy));
    }
    let own = format!("supervisor.{id}");
    for (n, child) in branch.children.iter().enumerate() {
        let key = format!("{key}[{n}]");
        match child.split_once('.') {
            Some(("pool", name)) => known(&key, "pool", name, fleet.pools.keys())?,
            Some(("lane", name)) => known(&key, "lane", name, fleet.lanes.keys())?,
            Some(("supervisor", name)) => {
                known(&key, "supervisor", name, fleet.supervisors.keys())?;
            }
            _ => {
                let reason = format!("`{child}` is no child");
                let form = "`pool.NAME`, `lane.NAME` or `supervisor.NAME`";
                return Err(ConfigError::new(
                    key,
                    reason,
                    Remedy::Write(form.to_owned()),
                ));
            }
        }
        let mut all = fleet.supervisors.iter().flat_map(|(above, branch)| {
            let children = branch.children.iter().enumerate();
            children.map(move |(n, child)| (above.as_str(), n, child))
        });
        // The first place, in the order of names, is the one that counts.
        if all.any(|(above, m, other)| other == child && (above, m) < (id, n)) {
            let reason = format!("`{child}` has another supervisor already");
            return Err(ConfigError::new(key, reason, Remedy::Remove));
        }
        if *child == own {
            let reason = format!("`{child}` would supervise itself");
            return Err(ConfigError::new(key, reason, Remedy::Remove));
        }
    }
    Ok(())
}

/// Checks that supervisors neither supervise themselves around a corner nor nest too deep.
fn check_depth(fleet: &Fleet) -> Checked {
    for id in fleet.supervisors.keys() {
        let mut above = id.as_str();
        for depth in 1.. {
            let Some(next) = fleet.supervisor_of(&format!("supervisor.{above}")) else {
                break;
            };
            let reason = match (next == id, depth >= Branch::DEPTH_MAX) {
                (true, _) => format!("`{id}` would supervise itself, by way of `{above}`"),
                (false, true) => format!("supervisors nest deeper than {}", Branch::DEPTH_MAX),
                (false, false) => {
                    above = next;
                    continue;
                }
            };
            let key = format!("supervisor.{next}.children");
            return Err(ConfigError::new(key, reason, Remedy::Remove));
        }
    }
    Ok(())
}

fn check_scale(key: &str, pool: &Pool) -> Checked {
    let Some(scale) = pool.scale else {
        return Ok(());
    };
    let (field, reason, form) = if scale.max < pool.size || scale.max > Pool::SIZE_MAX {
        let form = format!("a number from {} to {}", pool.size, Pool::SIZE_MAX);
        ("max", format!("{} is out of range", scale.max), form)
    } else if scale.target == 0 {
        let reason = "no number of agents would have so few tasks".to_owned();
        ("scale.target", reason, "a number from 1".to_owned())
    } else if scale.up_window.max(scale.down_window) > Scale::WINDOW_MAX {
        let reason = "a window lasts a day at most".to_owned();
        ("scale", reason, "at most `1d`".to_owned())
    } else {
        return Ok(());
    };
    Err(ConfigError::new(
        format!("{key}.{field}"),
        reason,
        Remedy::Write(form),
    ))
}

fn check_pool(fleet: &Fleet, id: &str, pool: &Pool) -> Checked {
    let key = |field: &str| format!("pool.{id}.{field}");
    name(&format!("pool.{id}"), id)?;
    size(&key("size"), pool.size)?;
    check_scale(&format!("pool.{id}"), pool)?;
    grants(&key("grants"), &pool.grants)?;
    let asset = fleet.budget.asset();
    if pool.budget.asset() != asset || pool.budget.is_negative() {
        let reason = format!("`{}` is not a positive amount of {asset}", pool.budget);
        let remedy = Remedy::Write(format!(
            "a positive amount of {asset}, such as `1.00 {asset}`"
        ));
        return Err(ConfigError::new(key("budget"), reason, remedy));
    }
    if let Some(verifier) = &pool.verifier {
        known(&key("verifier"), "pool", verifier, fleet.pools.keys())?;
        if verifier == id && pool.size < 2 {
            let reason = "a pool that verifies itself needs two agents";
            let remedy = Remedy::Write("a size of 2 or more".to_owned());
            return Err(ConfigError::new(key("size"), reason, remedy));
        }
    }
    recovery::check(fleet, id, pool)?;
    match &pool.lane {
        Some(lane) => known(&key("lane"), "lane", lane, fleet.lanes.keys()),
        None => Ok(()),
    }
}

fn check_lane(fleet: &Fleet, id: &str, lane: &Lane) -> Checked {
    let key = |field: &str| format!("lane.{id}.{field}");
    name(&format!("lane.{id}"), id)?;
    grants(&key("grants"), &lane.grants)?;
    if fleet.pools.contains_key(id) {
        let reason = "a pool and a lane cannot have the same name";
        let remedy = Remedy::Write("another name".to_owned());
        return Err(ConfigError::new(format!("lane.{id}"), reason, remedy));
    }
    size(&key("size"), lane.size)
}

fn size(key: &str, n: u32) -> Checked {
    if (1..=Pool::SIZE_MAX).contains(&n) {
        return Ok(());
    }
    let range = format!("a number from 1 to {}", Pool::SIZE_MAX);
    Err(ConfigError::new(
        key,
        format!("{n} is out of range"),
        Remedy::Write(range),
    ))
}

fn grants(key: &str, grants: &[String]) -> Checked {
    for (n, grant) in grants.iter().enumerate() {
        if let Err(reason) = GrantText::parse(grant) {
            let form = "`action:target`, with limits such as `; calls 3; spend 5.00 USD`";
            let remedy = Remedy::Write(form.to_owned());
            return Err(ConfigError::new(format!("{key}[{n}]"), reason, remedy));
        }
    }
    Ok(())
}

/// Checks that what a key names is there.
pub(super) fn known<'a>(
    key: &str,
    what: &str,
    named: &str,
    all: impl Iterator<Item = &'a String> + Clone,
) -> Checked {
    if all.clone().any(|one| one == named) {
        return Ok(());
    }
    Err(ConfigError::unknown(
        key,
        what,
        named,
        all.map(String::as_str),
    ))
}

/// Checks a name that ends up in budget paths and memory scopes.
pub(super) fn name(key: &str, name: &str) -> Checked {
    let fits = (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if fits {
        return Ok(());
    }
    let remedy = Remedy::Write("1 to 64 letters, digits, `-` or `_`".to_owned());
    Err(ConfigError::new(
        key,
        format!("`{name}` is not a name"),
        remedy,
    ))
}
