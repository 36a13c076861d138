//! The three agents of `paid_team` buy from an API too, by x402, under the same budgets.
//!
//! The API is an axum server on this machine whose routes cost something. It takes signed
//! authorizations and has a facilitator carry them out, which here is a ledger: no chain and no network
//! are needed. A forecast is bought at once; satellite images cost more than their buyer may spend
//! alone, so that a person is asked; a convoy costs more than the team has left and is refused; the
//! answer to a payment is lost, and sending the same payment again brings it without another; part of
//! the forecast's price is paid back. Look at the end: what the books say was spent is what the wallet
//! and the purses lost. The transcript is always the same.
//!
//! `cargo run -p agent-pay --example paid_api --features x402`

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use agent_core::{Amount, Asset, Env, IdempotencyKey, Principal, Secret};
use agent_pay::authority::{Vote, operation_key};
use agent_pay::rail::Paid;
use agent_pay::transport::{Answer, Direct, DirectConfig, Lost, Request, Transport};
use agent_pay::x402::{
    Atomic, Buyer, BuyerConfig, Domain, Fetched, LedgerFacilitator, LocalKey, Merchant, PayBack,
    Purchase, Requirements, Sale, Seller, SellerConfig, Signer, Token, header,
};
use agent_pay::{AccountName, Batch, BudgetPath, Entry, Guard, Ledger, LedgerExt};
use async_trait::async_trait;
use axum::Router;
use axum::routing::get;
use tokio::task::JoinSet;

#[path = "paid_team.rs"]
#[cfg_attr(not(test), expect(dead_code, reason = "it is a program of its own"))]
mod paid_team;

use paid_team::{Failure, Team};

/// Public test keys of the development chain `anvil`; never for money.
const WALLET: &str = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";
const API: &str = "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a";

/// What the API sells, in smallest units of the token: a millionth of a dollar each.
const PRICES: [(&str, u128); 4] = [
    ("/forecast", 250_000),
    ("/images", 1_500_000),
    ("/convoy", 6_000_000),
    ("/route", 400_000),
];

/// A transport that loses the answer to one payment, after it arrived.
#[derive(Debug)]
struct Lossy {
    direct: Direct,
    is_losing: AtomicBool,
}

#[async_trait]
impl Transport for Lossy {
    async fn send(&self, request: Request) -> Result<Answer, Lost> {
        let is_payment = request.headers().contains_key(header::PAYMENT_SIGNATURE);
        let answer = self.direct.send(request).await?;
        if is_payment && self.is_losing.swap(false, Ordering::SeqCst) {
            return Err(Lost::may_have_arrived("the answer is lost"));
        }
        Ok(answer)
    }
}

struct Market {
    buyer: Buyer,
    wires: Arc<Lossy>,
    wallet: AccountName,
    till: AccountName,
    url: String,
    servers: JoinSet<()>,
}

impl Market {
    async fn open(team: &Team) -> Result<Self, Failure> {
        let (db, env) = (team.ledger.db().clone(), Env::system());
        let token = "0x036CbD53842c5426634e7929541eC2318f3dCF7e".parse()?;
        let domain = Domain::new("USD Coin", "2", 84_532, token);
        let wallet = Arc::new(LocalKey::new(&Secret::from(WALLET))?);
        let api = Arc::new(LocalKey::new(&Secret::from(API))?);
        let account = LedgerFacilitator::account(&wallet.address())?;
        let (bank, guard) = (AccountName::new("bank")?, Guard::DebitsMustNotExceedCredits);
        let entries = vec![
            Entry::open(Asset::USD, account.clone(), guard),
            Entry::post(bank, account.clone(), "10.00 USD".parse()?),
        ];
        team.ledger
            .post(Batch::new(IdempotencyKey::new("wallet")?, entries))
            .await?;
        let facilitator = Arc::new(LedgerFacilitator::new(
            Arc::new(team.ledger.clone()),
            Arc::clone(&env.clock),
            domain.clone(),
            Asset::USD,
        ));

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let config =
            SellerConfig::new(&url).with_chain(Arc::<LedgerFacilitator>::clone(&facilitator));
        let clock = Arc::clone(&env.clock);
        let teller = Arc::<LedgerFacilitator>::clone(&facilitator);
        let seller = Seller::open(db.clone(), clock, teller, config).await?;
        let mut app = Router::new();
        for (path, price) in PRICES {
            let asked = Requirements::new(&domain, api.address(), Atomic::new(price), 60)?;
            let layer = seller.layer(Sale::new(vec![asked]))?;
            app = app.route(
                path,
                get(move || async move { path.trim_start_matches('/') }).layer(layer),
            );
        }
        let mut servers = JoinSet::new();
        servers.spawn(async move {
            let _ended = axum::serve(listener, app).await;
        });

        let direct = Direct::new(DirectConfig::new())?;
        let wires = Arc::new(Lossy {
            direct,
            is_losing: AtomicBool::new(false),
        });
        let till = LedgerFacilitator::account(&api.address())?;
        let back = PayBack::open(
            db.clone(),
            env.clone(),
            Arc::<LocalKey>::clone(&api),
            Arc::<LedgerFacilitator>::clone(&facilitator),
            Arc::<LedgerFacilitator>::clone(&facilitator),
        );
        let config = BuyerConfig::new(vec![Token::new(domain, 6, "10.00 USD".parse()?)?])
            .with_merchant(Merchant::new(&url, api.address(), "10.00 USD".parse()?))
            .with_chain(facilitator)
            .with_refunds(Arc::new(back.await?));
        let transport = Arc::<Lossy>::clone(&wires);
        let buyer = Buyer::open(db, env, transport, wallet, config).await?;
        Ok(Self {
            buyer,
            wires,
            wallet: account,
            till,
            url,
            servers,
        })
    }

    /// Buys under a key that comes from the step, so that asking again is the same purchase.
    async fn buys(&self, team: &Team, who: &str, path: &str) -> Result<Fetched, Failure> {
        let key = operation_key(
            team.run,
            path,
            "fetch",
            &serde_json::json!({ "path": path }),
        )?;
        let node = BudgetPath::new(&format!("team/{who}"))?;
        let request = http::Request::get(format!("{}{path}", self.url)).body(Vec::new())?;
        let purchase = Purchase::new(key, node, Principal::new(who)?, request);
        let purchase = purchase.with_purpose(format!("{who} needs {path}"));
        Ok(self.buyer.fetch(&team.authority, purchase).await?)
    }
}

fn told(fetched: &Fetched) -> String {
    match fetched {
        Fetched::Bought {
            hold,
            answer: Some(answer),
            ..
        } => {
            let got = String::from_utf8_lossy(answer.body());
            format!("paid {}, got {got:?}", hold.captured)
        }
        Fetched::Bought { hold, .. } => format!("paid {}", hold.captured),
        Fetched::Unknown { hold, .. } => format!("unknown, {} stays held", hold.amount),
        Fetched::NeedsApproval(request) => format!("asks {:?}", request.reasons()),
        Fetched::Denied(refusal) => format!("denied: {}", refusal.rule),
        Fetched::Failed(_) => "failed".to_owned(),
        _ => "free".to_owned(),
    }
}

/// Tells the story of the API.
async fn trade(team: &Team, market: &Market, out: &mut (impl Write + Send)) -> Result<(), Failure> {
    let bought = market.buys(team, "scout", "/forecast").await?;
    writeln!(out, "scout buys a forecast: {}", told(&bought))?;
    let Fetched::Bought { hold: forecast, .. } = bought else {
        return Err("the forecast was not bought".into());
    };
    let asks = market.buys(team, "cartographer", "/images").await?;
    writeln!(out, "cartographer buys images: {}", told(&asks))?;
    if let Fetched::NeedsApproval(request) = asks {
        let alice = Principal::new("human:alice")?;
        team.authority
            .vote(request.digest, alice, Vote::Approve)
            .await?;
    }
    let bought = market.buys(team, "cartographer", "/images").await?;
    writeln!(out, "  alice approves: {}", told(&bought))?;
    let refused = market.buys(team, "courier", "/convoy").await?;
    writeln!(out, "courier buys a convoy: {}", told(&refused))?;
    market.wires.is_losing.store(true, Ordering::SeqCst);
    let lost = market.buys(team, "courier", "/route").await?;
    writeln!(
        out,
        "courier buys a route and the answer is lost: {}",
        told(&lost)
    )?;
    let again = market.buys(team, "courier", "/route").await?;
    writeln!(out, "  the same payment again: {}", told(&again))?;
    let payer = market.buyer.payer(&team.authority);
    let refund = IdempotencyKey::new("refund-forecast")?;
    if let Paid::Settled(hold) = payer
        .refund(forecast.key, refund, "0.10 USD".parse()?)
        .await?
    {
        let (back, of) = (hold.refunded, hold.captured);
        writeln!(out, "the forecast was wrong: {back} of {of} comes back")?;
    }
    Ok(())
}

/// Compares the wallet and the till with what the story says.
async fn compare(
    team: &Team,
    market: &Market,
    out: &mut (impl Write + Send),
) -> Result<(), Failure> {
    let left = async |name: &AccountName| -> Result<Amount, Failure> {
        let account = team.ledger.account(Asset::USD, name.clone()).await?;
        Ok(account.credits_posted().minus(account.debits_posted())?)
    };
    let (wallet, till) = (left(&market.wallet).await?, left(&market.till).await?);
    writeln!(
        out,
        "\nthe wallet has {wallet} of 10.00 USD, the API {till}"
    )?;
    let waiting = team.authority.submitted(10).await?.len();
    writeln!(out, "payments nobody knows of: {waiting}")?;
    Ok(())
}

/// Plays the whole story in an empty directory.
pub(crate) async fn play(
    directory: &std::path::Path,
    out: &mut (impl Write + Send),
) -> Result<(), Failure> {
    let team = Team::open(directory).await?;
    let mut market = Market::open(&team).await?;
    paid_team::trade(&team, out).await?;
    trade(&team, &market, out).await?;
    paid_team::report(&team, out).await?;
    compare(&team, &market, out).await?;
    market.servers.shutdown().await;
    Ok(())
}

#[cfg_attr(test, expect(dead_code, reason = "the test plays the story itself"))]
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let directory = tempfile::tempdir()?;
    play(directory.path(), &mut io::stdout()).await
}
