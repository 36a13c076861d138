//! Authorizes, and ends what was authorized.

use std::sync::Arc;

use agent_core::store::Tx;
use agent_core::{Amount, Digest, IdempotencyKey};

use super::super::book::TxBook;
use super::desk::Desk;
use super::nodes::PolicyCache;
use super::row::{Spend, Under, part_key, update};
use super::snapshot::{self, Sum, Taken};
use super::{approve, record, sweep};
use crate::account::{AccountName, Guard};
use crate::authority::{
    Authorization, Decision, Intent, Limit, Measure, Outcome, Refusal, SpendState, Window, decide,
};
use crate::batch::{Batch, Entry};
use crate::error::{Error, Result};
use crate::journal::{self, Book, Difference};

/// The account that gives limits, and the one that takes what is spent: the control accounts of
/// budgets.
pub(super) const LIMITS: &str = "budget-limit";
pub(super) const SPENT: &str = "budget-spent";

/// An intent that was checked, with its digest and the text it is stored as. It is made by whoever
/// asks, so that the one who writes for everybody need not.
pub(super) struct Checked {
    digest: Digest,
    text: Arc<str>,
}

impl Checked {
    pub(super) fn of(intent: &Intent) -> Result<Self> {
        intent.check()?;
        let text = intent.canonical()?;
        let digest = Intent::digest_of(&text);
        let text = text.into();
        Ok(Self { digest, text })
    }
}

/// Decides and holds; see [`SqliteAuthority::authorize`](super::SqliteAuthority::authorize).
///
/// # Errors
/// As there.
pub fn authorize(tx: &mut Tx<'_>, cache: &PolicyCache, intent: &Intent) -> Result<Authorization> {
    let checked = Checked::of(intent)?;
    Desk::with(tx, cache, |desk| authorize_at(desk, intent, &checked))
}

pub(super) fn authorize_at(
    desk: &mut Desk<'_, '_>,
    intent: &Intent,
    checked: &Checked,
) -> Result<Authorization> {
    let (tx, digest) = (desk.tx, checked.digest);
    match desk.under(&intent.key)? {
        Under::Nothing => {}
        Under::Spend(spend) if spend.digest == digest => {
            let (hold, is_replayed) = (spend.hold(), true);
            return Ok(Authorization::Held { hold, is_replayed });
        }
        Under::Spend(_) | Under::Other => return Err(reused(&intent.key)),
    }
    sweep::a_little(desk)?;
    let mut taken = snapshot::take(desk, intent, 0)?;
    let decision = judge(tx, &mut taken, intent)?;
    if matches!(decision.outcome, Outcome::Allow) {
        check_payee(desk, intent)?;
    }
    let id = record::keep(desk, &checked.text, &taken.snapshot, &decision)?;
    match decision.outcome {
        Outcome::Deny => deny(decision, id),
        Outcome::Ask { .. } => approve::ask(tx, intent, digest, &decision),
        Outcome::Allow => {
            let (batch, n_counts) = reserve(desk, &intent.key, id, &taken, intent)?;
            approve::consume(tx, &taken.snapshot, &digest)?;
            let spend = Spend {
                batch,
                key: intent.key.clone(),
                digest,
                decision: id,
                node: intent.node.clone(),
                payee: intent.payee.name.clone(),
                asset: intent.amount_max.asset(),
                units: intent.amount_max.units_i64()?,
                n_parts: 1,
                n_counts,
                state: SpendState::Held,
                captured: 0,
                refunded: 0,
                expires_at: intent.expires_at,
            };
            let (hold, is_replayed) = (spend.hold(), false);
            desk.insert(spend);
            Ok(Authorization::Held { hold, is_replayed })
        }
    }
}

/// Decides as [`authorize`] would at this moment, and neither holds nor stores anything.
///
/// # Errors
/// `Invalid` for a malformed intent.
pub fn preview(tx: &Tx<'_>, cache: &PolicyCache, intent: &Intent) -> Result<Decision> {
    intent.check()?;
    let mut taken = snapshot::take(&mut Desk::new(tx, cache), intent, 0)?;
    judge(tx, &mut taken, intent)
}

/// Holds more; see [`SqliteAuthority::top_up`](super::SqliteAuthority::top_up).
///
/// # Errors
/// As there.
pub fn top_up(
    tx: &mut Tx<'_>,
    cache: &PolicyCache,
    key: &IdempotencyKey,
    part: u32,
    amount: Amount,
) -> Result<Authorization> {
    Desk::with(tx, cache, |desk| top_up_at(desk, key, part, amount))
}

fn top_up_at(
    desk: &mut Desk<'_, '_>,
    key: &IdempotencyKey,
    part: u32,
    amount: Amount,
) -> Result<Authorization> {
    let tx = desk.tx;
    let mut spend = desk.find(key)?;
    if part == 0 || part > spend.n_parts {
        return Err(Error::invalid("top-up", "it is not the next part"));
    }
    if part < spend.n_parts {
        return replayed_part(desk, &spend, part, amount);
    }
    spend.check_open(tx.now())?;
    if spend.state == SpendState::Submitted {
        return Err(Error::invalid("top-up", "the spend was handed to a rail"));
    }
    sweep::a_little(desk)?;
    desk.append()?;
    let mut intent = record::intent(tx, spend.decision)?;
    intent.amount_max = amount;
    intent.check()?;
    let mut taken = snapshot::take(desk, &intent, spend.units)?;
    // What is asked about is the whole spend, under a key of its own.
    let mut whole = intent.clone();
    whole.amount_max = spend.amount(spend.units).plus(amount)?;
    whole.key = part_key(key, part)?;
    let digest = whole.digest()?;
    let mut decision = decide(&taken.snapshot, &intent)?;
    if matches!(decision.outcome, Outcome::Ask { .. }) {
        taken.snapshot.approval = approve::approval(tx, &digest)?.map(|request| request.state);
        decision = decide(&taken.snapshot, &intent)?;
    }
    let text = Checked::of(&intent)?.text;
    let id = record::keep(desk, &text, &taken.snapshot, &decision)?;
    match decision.outcome {
        Outcome::Deny => deny(decision, id),
        Outcome::Ask { .. } => approve::ask(tx, &whole, digest, &decision),
        Outcome::Allow => {
            let Under::Nothing = desk.under(&whole.key)? else {
                return Err(reused(&whole.key));
            };
            reserve(desk, &whole.key, id, &taken, &intent)?;
            approve::consume(tx, &taken.snapshot, &digest)?;
            spend.units = i64::try_from(whole.amount_max.units())
                .map_err(|_range| Error::invalid("top-up", "the sum does not fit"))?;
            spend.n_parts = spend.n_parts.saturating_add(1);
            update(tx, &spend)?;
            let (hold, is_replayed) = (spend.hold(), false);
            Ok(Authorization::Held { hold, is_replayed })
        }
    }
}

fn replayed_part(
    desk: &Desk<'_, '_>,
    spend: &Spend,
    part: u32,
    amount: Amount,
) -> Result<Authorization> {
    let key = part_key(&spend.key, part)?;
    let found = journal::find(&desk.book, &key)?;
    let held = found.and_then(|found| found.receipt.transfers.first().map(|t| t.amount));
    if held != Some(amount) {
        let differs = Difference::Amount;
        return Err(Error::KeyReused {
            key: spend.key.clone(),
            differs,
        });
    }
    let (hold, is_replayed) = (spend.hold(), true);
    Ok(Authorization::Held { hold, is_replayed })
}

/// Decides, with the approval if one is needed.
fn judge(tx: &Tx<'_>, taken: &mut Taken, intent: &Intent) -> Result<Decision> {
    let decision = decide(&taken.snapshot, intent)?;
    if !matches!(decision.outcome, Outcome::Ask { .. }) {
        return Ok(decision);
    }
    snapshot::look_up_approval(tx, taken, intent)?;
    decide(&taken.snapshot, intent)
}

/// Refuses a payee whose account is not open before anything is written: one who fails afterwards
/// makes all who share the write begin again.
fn check_payee(desk: &Desk<'_, '_>, intent: &Intent) -> Result<()> {
    let Some(movement) = &intent.movement else {
        return Ok(());
    };
    let (asset, account) = (intent.amount_max.asset(), movement.to.clone());
    if desk.book.account_by_name(asset, &account)?.is_none() {
        return Err(Error::AccountNotFound { asset, account });
    }
    Ok(())
}

fn reused(key: &IdempotencyKey) -> Error {
    let (key, differs) = (key.clone(), Difference::Entries);
    Error::KeyReused { key, differs }
}

fn deny(decision: Decision, id: u64) -> Result<Authorization> {
    let rule = decision.rules.into_iter().next();
    let rule = rule.ok_or_else(|| Error::corrupt("a denial without a rule"))?;
    Ok(Authorization::Denied(Refusal {
        code: rule.rule.code(),
        rule,
        decision: id,
    }))
}

/// Holds on every limit, under a key no batch has, and returns the batch and how many of its holds
/// are counts, which come first.
fn reserve(
    desk: &mut Desk<'_, '_>,
    key: &IdempotencyKey,
    decision: u64,
    taken: &Taken,
    intent: &Intent,
) -> Result<(u64, usize)> {
    let spent = desk.spent()?;
    let (tx, book) = (desk.tx, &mut desk.book);
    open_sums(book, decision, taken)?;
    let is_count = |sum: &&Sum| matches!(sum.limit.measure, Measure::Count(_));
    let one = Amount::from_units(1, Limit::count_asset()?);
    let counts = taken.sums.iter().filter(is_count);
    let amounts = taken.sums.iter().filter(|sum| !is_count(sum));
    let hold = |sum: &Sum, amount| Entry::hold(sum.name.clone(), spent.clone(), amount);
    let mut entries: Vec<Entry> = counts.clone().map(|sum| hold(sum, one)).collect();
    let n_counts = entries.len();
    entries.extend(amounts.clone().map(|sum| hold(sum, intent.amount_max)));
    if let Some(movement) = &intent.movement {
        let (from, to) = (movement.from.clone(), movement.to.clone());
        entries.push(Entry::hold(from, to, intent.amount_max));
    }
    let batch = journal::post_first(book, &Batch::new(key.clone(), entries))?;
    let rolling = counts
        .chain(amounts)
        .filter_map(|sum| match sum.limit.window {
            Window::Rolling(span) => Some((sum, span)),
            _ => None,
        });
    for (sum, span) in rolling {
        let account = book.account_by_name(sum.limit.asset()?, &sum.name)?;
        let account = account.ok_or_else(|| Error::corrupt("a window has no account"))?;
        let leaves = taken.snapshot.at.after(span);
        sweep::enter(tx, leaves, batch, account.id)?;
    }
    Ok((batch, n_counts))
}

/// Opens the accounts of windows that have none, and gives those their present limit that have
/// another.
fn open_sums(book: &mut TxBook<'_, '_>, decision: u64, taken: &Taken) -> Result<()> {
    /// Two entries a window keep a batch below its limit.
    const WINDOWS_A_BATCH: usize = 24;
    let is_stale = |sum: &&Sum| {
        let has = sum
            .account
            .as_ref()
            .map(|account| account.balances.credits_posted);
        sum.limit.window != Window::Lifetime && has != sum.limit.max_units().ok()
    };
    let stale: Vec<&Sum> = taken.sums.iter().filter(is_stale).collect();
    if stale.is_empty() {
        return Ok(());
    }
    let limits = AccountName::new(LIMITS)?;
    for (n, page) in stale.chunks(WINDOWS_A_BATCH).enumerate() {
        let mut entries = Vec::new();
        for sum in page {
            let asset = sum.limit.asset()?;
            let guard = Guard::DebitsMustNotExceedCredits;
            entries.push(Entry::open(asset, sum.name.clone(), guard));
            let max = Amount::from_units(sum.limit.max_units()?.into(), asset);
            entries.push(Entry::set_credits(limits.clone(), sum.name.clone(), max));
        }
        let key = IdempotencyKey::new(format!("agent-pay.windows/{decision}/{n}"))?;
        journal::post(book, &Batch::new(key, entries))?;
    }
    Ok(())
}
