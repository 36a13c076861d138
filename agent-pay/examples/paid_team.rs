//! Three agents buy from one another through the rail `internal`, under budgets.
//!
//! A scout buys a map from a cartographer, who asks a person for a license above what it may spend
//! alone; a courier wants more than the team has and is refused; the map is bad and half of its
//! price is given back. Look at the end: what the books say was spent is what the purses lost, and
//! every ledger balances. The transcript is always the same.
//!
//! `cargo run -p agent-pay --example paid_team`

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use agent_core::store::{Config, Db, Durability};
use agent_core::{
    AgentId, Amount, Asset, Clock, Env, IdempotencyKey, Meter, Principal, RunId, Scope,
    SystemClock, Unit, Usage, UsageRecord,
};
use agent_pay::authority::{
    Authorization, Intent, Movement, Origin, Payee, PolicyBook, PriceBasis, Vote, operation_key,
};
use agent_pay::backend::{SqliteAuthority, SqliteLedger, SqliteMeter};
use agent_pay::export::{self, Format};
use agent_pay::finops::BudgetLine;
use agent_pay::{
    AccountName, Batch, BudgetPath, Budgets, Entry, Guard, Ledger, LedgerExt, Price, RateCard,
    SpendBy, SpendQuery, StatementQuery,
};

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Agent `scout` spends up to 5 alone; agent `cartographer` asks for more than 1.
const POLICY: &str = r#"
[node.team]
limits = ["12.00 USD lifetime", "20 count rolling 1h"]
first_payee = "allow"
approvers = ["human:alice"]
[node."team/scout"]
alone_up_to = "5.00 USD"
[node."team/cartographer"]
alone_up_to = "1.00 USD"
[node."team/courier"]
"#;

pub(crate) struct Team {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) authority: SqliteAuthority,
    pub(crate) ledger: SqliteLedger,
    meter: SqliteMeter,
    pub(crate) run: RunId,
}

impl Team {
    pub(crate) async fn open(directory: &std::path::Path) -> Result<Self, Failure> {
        let env = Env::system();
        let config = Config::new(directory.join("pay.db")).with_durability(Durability::PowerLoss);
        let db = Db::open(config, &env).await?;
        let authority = SqliteAuthority::open(db.clone()).await?;
        authority
            .apply(
                POLICY.parse::<PolicyBook>().map_err(Box::new)?,
                Principal::host(),
            )
            .await?;
        let ledger = SqliteLedger::open(db.clone()).await?;
        let guard = Guard::DebitsMustNotExceedCredits;
        let mut entries = vec![Entry::open(
            Asset::USD,
            AccountName::new("bank")?,
            Guard::Unguarded,
        )];
        for purse in ["scout", "cartographer", "courier", "licensor"] {
            let purse = AccountName::new(&format!("purse/{purse}"))?;
            entries.push(Entry::open(Asset::USD, purse.clone(), guard));
            entries.push(Entry::post(
                AccountName::new("bank")?,
                purse,
                "10.00 USD".parse()?,
            ));
        }
        ledger
            .post(Batch::new(IdempotencyKey::new("setup")?, entries))
            .await?;
        let card = RateCard::new("2026-11", Asset::USD)?.with_price(Price::new(
            "model/*",
            Unit::TokensOut,
            "2.00 USD".parse()?,
            3_000_000,
        ))?;
        let meter = SqliteMeter::open(db, Arc::new(card)).await?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        Ok(Self {
            clock,
            authority,
            ledger,
            meter,
            run: RunId::from_bits(7),
        })
    }

    /// What `buyer` pays `seller` for something, under a key that comes from the step.
    fn intent(
        &self,
        buyer: &str,
        seller: &str,
        what: &str,
        amount: &str,
    ) -> Result<Intent, Failure> {
        let arguments = serde_json::json!({"to": seller, "for": what, "amount": amount});
        let key = operation_key(self.run, what, "buy", &arguments)?;
        let purse = |who: &str| AccountName::new(&format!("purse/{who}"));
        Ok(Intent::new(
            key,
            BudgetPath::new(&format!("team/{buyer}"))?,
            Principal::new(buyer)?,
            amount.parse()?,
            Payee::new(seller, Origin::Catalogue),
            self.clock.now().after(Duration::from_secs(600)),
        )
        .with_basis(PriceBasis::RateCard)
        .with_resource(what, format!("{buyer} needs {what}"))
        .with_movement(Movement::new(purse(buyer)?, purse(seller)?)))
    }

    async fn meter(&self, agent: u128, id: &str, n_tokens: u64) -> Result<(), Failure> {
        let scope = Scope::agent(AgentId::from_bits(agent)).with_run(self.run);
        let usage = Usage::new().with(Unit::TokensOut, n_tokens);
        let record = UsageRecord::new("team", id, "model/small", usage, self.clock.now());
        Ok(self.meter.record(&scope, record).await?)
    }
}

fn told(answer: &Authorization) -> String {
    match answer {
        Authorization::Held { hold, .. } => format!("held {}", hold.amount),
        Authorization::NeedsApproval(request) => format!("asks {:?}", request.reasons()),
        Authorization::Denied(refusal) => format!("denied: {}", refusal.rule),
        _ => "unknown".to_owned(),
    }
}

/// Tells the story.
pub(crate) async fn trade(team: &Team, out: &mut (impl Write + Send)) -> Result<(), Failure> {
    let map = team.intent("scout", "cartographer", "map", "4.00 USD")?;
    let answer = team.authority.authorize(map.clone()).await?;
    writeln!(out, "scout buys a map for 4.00 USD: {}", told(&answer))?;
    let paid = team
        .authority
        .capture(map.key.clone(), "3.50 USD".parse()?)
        .await?;
    writeln!(out, "  it did cost {}, the rest is free", paid.captured)?;
    team.meter(1, "scout-1", 1_000).await?;

    let license = team.intent("cartographer", "licensor", "license", "2.00 USD")?;
    let answer = team.authority.authorize(license.clone()).await?;
    writeln!(
        out,
        "cartographer buys a license for 2.00 USD: {}",
        told(&answer)
    )?;
    let (digest, alice) = (license.digest()?, Principal::new("human:alice")?);
    let own = team
        .authority
        .vote(digest, Principal::new("cartographer")?, Vote::Approve)
        .await;
    writeln!(
        out,
        "  it approves that itself: {}",
        own.err().map_or_else(String::new, |e| e.to_string())
    )?;
    team.authority.vote(digest, alice, Vote::Approve).await?;
    let answer = team.authority.authorize(license.clone()).await?;
    writeln!(out, "  alice approves: {}", told(&answer))?;
    team.authority
        .capture(license.key, "2.00 USD".parse()?)
        .await?;
    team.meter(2, "cartographer-1", 2_000).await?;

    let rush = team.intent("courier", "scout", "rush", "6.51 USD")?;
    let answer = team.authority.authorize(rush).await?;
    writeln!(
        out,
        "courier buys a rush delivery for 6.51 USD: {}",
        told(&answer)
    )?;
    let delivery = team.intent("courier", "scout", "delivery", "1.00 USD")?;
    let answer = team.authority.authorize(delivery.clone()).await?;
    writeln!(
        out,
        "courier buys a delivery for 1.00 USD: {}",
        told(&answer)
    )?;
    team.authority
        .capture(delivery.key, "1.00 USD".parse()?)
        .await?;
    team.meter(3, "courier-1", 1_501).await?;

    let refund = IdempotencyKey::new("refund-map")?;
    let back = team
        .authority
        .refund(map.key, refund, "1.75 USD".parse()?)
        .await?;
    writeln!(
        out,
        "the map was bad: {} of {} goes back to scout",
        back.refunded, back.captured
    )?;
    Ok(())
}

pub(crate) async fn report(team: &Team, out: &mut (impl Write + Send)) -> Result<(), Failure> {
    let budgets = Budgets::new(Arc::new(team.ledger.clone()));
    let root = BudgetPath::new("team")?;
    writeln!(out, "\nbudget against actual")?;
    let spent = budgets.balance(Asset::USD, root).await?;
    let line = BudgetLine::of(spent.clone())?;
    let (limit, used, left) = (spent.limit, spent.spent, line.left);
    writeln!(
        out,
        "  team: {used} of {limit}, {left} left, {} permille",
        line.used_permille
    )?;
    writeln!(out, "\nmodel cost by agent, rounded once on the sum")?;
    let mut total = Amount::zero(Asset::USD);
    for row in team
        .meter
        .spend(SpendQuery::new(SpendBy::Agent, Asset::USD))
        .await?
    {
        total = total.plus(row.cost)?;
        writeln!(
            out,
            "  {}: {} ({} units)",
            row.group.unwrap_or_default(),
            row.cost,
            row.exact
        )?;
    }
    writeln!(out, "  together: {total}")?;
    writeln!(out, "\nstatement of the scout's purse")?;
    let purse = StatementQuery::new(Asset::USD, AccountName::new("purse/scout")?);
    export::statement(&team.ledger, purse, Format::Csv, out).await?;
    writeln!(out, "\ntrial balance")?;
    let is_balanced = export::trial_balance(&team.ledger, Format::Csv, out).await?;
    let licensor = AccountName::new("purse/licensor")?;
    let earned = team
        .ledger
        .account(Asset::USD, licensor)
        .await?
        .credits_posted();
    let verified = team.ledger.verify(None).await?;
    writeln!(
        out,
        "\nthe licensor has {earned}; {} transfers verified",
        verified.n_transfers
    )?;
    writeln!(out, "every ledger balances: {is_balanced}")?;
    Ok(())
}

/// Plays the whole story in an empty directory.
pub(crate) async fn play(
    directory: &std::path::Path,
    out: &mut (impl Write + Send),
) -> Result<(), Failure> {
    let team = Team::open(directory).await?;
    trade(&team, out).await?;
    report(&team, out).await
}

#[cfg_attr(test, expect(dead_code, reason = "the test plays the story itself"))]
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let directory = tempfile::tempdir()?;
    play(directory.path(), &mut io::stdout()).await
}
