//! Whether the parts of a fleet fit together.

use super::{ConfigError, Fleet, Lane, Pool, Remedy, recovery};

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
    Ok(())
}

fn check_pool(fleet: &Fleet, id: &str, pool: &Pool) -> Checked {
    let key = |field: &str| format!("pool.{id}.{field}");
    name(&format!("pool.{id}"), id)?;
    size(&key("size"), pool.size)?;
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
        if !grant.contains(':') {
            let reason = format!("`{grant}` is not `action:target`");
            let remedy = Remedy::Write(format!("`{grant}:*` for every target, or name one"));
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
fn name(key: &str, name: &str) -> Checked {
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
