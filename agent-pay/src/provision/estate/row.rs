//! Resources as they are stored.

use agent_core::store::{Tx, sql};
use agent_core::{IdempotencyKey, Principal, Timestamp};
use rusqlite::{OptionalExtension, params};

use super::{Condition, Order, Resource};
use crate::budget::BudgetPath;
use crate::error::{Error, Result};
use crate::provision::{Blocker, BlockerCode, CredentialName, Plan, ResourceName, Spec};

pub(super) const STEPS: &[&str] = &["
CREATE TABLE pay_resource (
    provisioner TEXT NOT NULL,
    name TEXT NOT NULL,
    offer TEXT NOT NULL,
    plan TEXT NOT NULL,
    next_plan TEXT,
    node TEXT NOT NULL,
    actor TEXT NOT NULL,
    key TEXT NOT NULL,
    condition INTEGER NOT NULL,
    charge TEXT,
    n_charges INTEGER NOT NULL,
    paid_ms INTEGER NOT NULL,
    used_ms INTEGER NOT NULL,
    credentials TEXT NOT NULL,
    lease_ms INTEGER NOT NULL,
    fence INTEGER NOT NULL,
    PRIMARY KEY (provisioner, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX pay_resource_unfinished ON pay_resource (provisioner, name)
    WHERE condition NOT IN (1, 2, 8);
"];

const COLUMNS: &str = "offer, plan, next_plan, node, actor, key, condition, charge, n_charges, \
     paid_ms, used_ms, credentials, lease_ms, fence";

/// A resource with what only its record knows.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) id: (String, ResourceName),
    pub(super) offer: String,
    pub(super) plan: Plan,
    /// The plan it is being brought to.
    pub(super) next: Option<Plan>,
    pub(super) node: BudgetPath,
    pub(super) actor: Principal,
    pub(super) key: IdempotencyKey,
    pub(super) condition: Condition,
    /// The spend that waits for the outcome of what is under way.
    pub(super) charge: Option<IdempotencyKey>,
    /// How many charges were begun: each has a key of its own.
    pub(super) n_charges: u32,
    pub(super) paid_until: Timestamp,
    pub(super) used_at: Timestamp,
    pub(super) credentials: Vec<CredentialName>,
    /// Until when somebody works on it, and the number of whoever did last.
    pub(super) lease: Timestamp,
    pub(super) fence: u32,
}

impl Row {
    pub(super) fn ordered(id: (String, ResourceName), order: &Order) -> Result<Self> {
        let plan = order.spec.plan.clone();
        if plan.price.is_negative() || plan.period.as_millis() == 0 {
            return Err(Error::invalid("plan", "a price and a period above zero"));
        }
        Ok(Self {
            id,
            offer: order.spec.offer.clone(),
            plan,
            next: None,
            node: order.node.clone(),
            actor: order.actor.clone(),
            key: order.key.clone(),
            condition: Condition::Ordered,
            charge: Some(order.key.clone()),
            n_charges: 1,
            paid_until: Timestamp::EPOCH,
            used_at: Timestamp::EPOCH,
            credentials: Vec::new(),
            lease: Timestamp::EPOCH,
            fence: 0,
        })
    }

    pub(super) fn resource(&self) -> Resource {
        Resource {
            name: self.id.1.clone(),
            offer: self.offer.clone(),
            plan: self.plan.clone(),
            node: self.node.clone(),
            actor: self.actor.clone(),
            key: self.key.clone(),
            condition: self.condition,
            paid_until: self.paid_until,
            used_at: self.used_at,
            credentials: self.credentials.clone(),
        }
    }

    pub(super) fn spec(&self, plan: &Plan) -> Spec {
        Spec::new(self.id.1.clone(), self.offer.clone(), plan.clone())
    }

    pub(super) fn is_of_another(&self, key: &IdempotencyKey) -> bool {
        self.condition != Condition::Gone && self.key != *key
    }

    /// Takes the lease: whoever had it before can write no more.
    pub(super) fn take(&mut self, until: Timestamp) {
        self.lease = until;
        self.fence = self.fence.saturating_add(1);
    }

    /// Refuses while somebody works on it.
    pub(super) fn check_unleased(&self, tx: &Tx<'_>) -> Result<()> {
        if tx.now() >= self.lease {
            return Ok(());
        }
        Err(Error::InFlight {
            key: self.key.clone(),
            retry_after: self.lease.since(tx.now()),
        })
    }
}

impl Condition {
    /// Returns whether nothing is begun.
    pub(super) const fn is_settled(self) -> bool {
        matches!(self, Self::Ready | Self::Asleep | Self::Gone)
    }

    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Ordered => 0,
            Self::Ready => 1,
            Self::Asleep => 2,
            Self::Changing => 3,
            Self::FallingAsleep => 4,
            Self::Waking => 5,
            Self::Undoing => 6,
            Self::Leaving => 7,
            Self::Gone => 8,
        }
    }

    fn from_code(code: u8) -> Result<Self> {
        Ok(match code {
            0 => Self::Ordered,
            1 => Self::Ready,
            2 => Self::Asleep,
            3 => Self::Changing,
            4 => Self::FallingAsleep,
            5 => Self::Waking,
            6 => Self::Undoing,
            7 => Self::Leaving,
            8 => Self::Gone,
            _ => return Err(Error::corrupt(format!("resource condition {code}"))),
        })
    }
}

/// Says that another order has the name.
pub(super) fn taken(name: &str) -> Blocker {
    Blocker::new(
        BlockerCode::NameTaken,
        format!("{name} was ordered before"),
        "choose another name, or remove that one",
    )
}

/// Refuses a name somebody else's order has.
pub(super) fn check_free(tx: &Tx<'_>, new: &Row) -> Result<()> {
    let Some(found) = read(tx, &new.id)? else {
        return Ok(());
    };
    if found.is_of_another(&new.key) {
        return Err(Error::blocked(vec![taken(new.id.1.as_str())]));
    }
    if found.key != new.key {
        return Ok(());
    }
    // An order that is over is not begun again under its key.
    let key = new.key.clone();
    Err(Error::AlreadyFailed { key })
}

pub(super) fn read(tx: &Tx<'_>, id: &(String, ResourceName)) -> Result<Option<Row>> {
    let operation = "read a resource";
    let statement =
        format!("SELECT {COLUMNS} FROM pay_resource WHERE provisioner = ?1 AND name = ?2");
    let mut select = tx
        .sql()
        .prepare_cached(&statement)
        .map_err(sql(operation))?;
    let found = select.query_row(params![id.0, id.1.as_str()], |row| Ok(parse(id, row)));
    found.optional().map_err(sql(operation))?.transpose()
}

fn parse(id: &(String, ResourceName), row: &rusqlite::Row<'_>) -> Result<Row> {
    let text = |n| row.get::<_, String>(n).map_err(sql("read a resource"));
    let optional = |n| {
        row.get::<_, Option<String>>(n)
            .map_err(sql("read a resource"))
    };
    let number = |n| row.get::<_, u32>(n).map_err(sql("read a resource"));
    let at = |n| {
        let ms = row.get(n).map_err(sql("read a resource"))?;
        Ok::<_, Error>(Timestamp::from_unix_ms(ms))
    };
    Ok(Row {
        id: id.clone(),
        offer: text(0)?,
        plan: json(&text(1)?)?,
        next: optional(2)?.as_deref().map(json).transpose()?,
        node: BudgetPath::new(&text(3)?)?,
        actor: Principal::new(&text(4)?)?,
        key: IdempotencyKey::new(text(5)?)?,
        condition: Condition::from_code(row.get(6).map_err(sql("read a resource"))?)?,
        charge: optional(7)?.map(IdempotencyKey::new).transpose()?,
        n_charges: number(8)?,
        paid_until: at(9)?,
        used_at: at(10)?,
        credentials: json(&text(11)?)?,
        lease: at(12)?,
        fence: number(13)?,
    })
}

fn json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| Error::corrupt(format!("a stored resource: {e}")))
}

fn written<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::invalid("resource", e.to_string()))
}

/// Writes a new row, or one in the place of a resource that is gone.
pub(super) fn insert(tx: &Tx<'_>, row: &Row) -> Result<()> {
    put(tx, row, "INSERT OR REPLACE")
}

/// Writes a row that is there.
pub(super) fn update(tx: &Tx<'_>, row: &Row) -> Result<()> {
    put(tx, row, "REPLACE")
}

fn put(tx: &Tx<'_>, row: &Row, how: &str) -> Result<()> {
    let operation = "write a resource";
    let statement = format!(
        "{how} INTO pay_resource (provisioner, name, {COLUMNS}) VALUES \
         (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)"
    );
    let mut insert = tx
        .sql()
        .prepare_cached(&statement)
        .map_err(sql(operation))?;
    let next = row.next.as_ref().map(written).transpose()?;
    insert
        .execute(params![
            row.id.0,
            row.id.1.as_str(),
            row.offer,
            written(&row.plan)?,
            next,
            row.node.as_str(),
            row.actor.as_str(),
            row.key.as_str(),
            row.condition.code(),
            row.charge.as_ref().map(IdempotencyKey::as_str),
            row.n_charges,
            row.paid_until.as_unix_ms(),
            row.used_at.as_unix_ms(),
            written(&row.credentials)?,
            row.lease.as_unix_ms(),
            row.fence,
        ])
        .map_err(sql(operation))?;
    Ok(())
}

pub(super) fn touch(tx: &Tx<'_>, id: &(String, ResourceName)) -> Result<usize> {
    let statement = "UPDATE pay_resource SET used_ms = ?3 WHERE provisioner = ?1 AND name = ?2 \
         AND condition <> 8";
    let values = params![id.0, id.1.as_str(), tx.now().as_unix_ms()];
    let mut update = tx
        .sql()
        .prepare_cached(statement)
        .map_err(sql("touch a resource"))?;
    Ok(update.execute(values).map_err(sql("touch a resource"))?)
}
