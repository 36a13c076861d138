#![doc = include_str!("../README.md")]
#![deny(clippy::arithmetic_side_effects, clippy::float_arithmetic)]

mod account;
#[cfg(feature = "acp")]
pub mod acp;
#[cfg(feature = "ap2")]
pub mod ap2;
pub mod authority;
pub mod backend;
mod batch;
pub mod budget;
#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(any(feature = "acp", feature = "stripe"))]
mod currency;
mod error;
mod exchange;
pub mod export;
pub mod finops;
mod invoice;
pub mod journal;
pub mod layer;
mod ledger;
#[cfg(any(feature = "ap2", feature = "mpp"))]
mod moment;
#[cfg(feature = "mpp")]
pub mod mpp;
mod price_book;
pub mod provision;
pub mod rail;
mod rate_card;
mod ratio;
pub mod signed;
mod spend;
#[cfg(feature = "stripe")]
pub mod stripe;
#[cfg(any(feature = "acp", feature = "stripe"))]
mod timed_signature;
pub mod trade;
#[cfg(feature = "http-client")]
pub mod transport;
#[cfg(feature = "x402")]
pub mod x402;

pub use account::{Account, AccountName, AccountQuery, Balances, Guard};
pub use batch::{Batch, Entry, Found, Receipt, Resolution, State, Transfer, TransferKind};
pub use budget::{
    Admission, Allocation, Balance, BudgetPath, Budgets, Charge, Denial, Hold, HoldState, Member,
    Move, MoveLimit, OpenBudget, Reserve, SetLimit, Settle, Settled, Standing,
};
pub use error::{Error, Result, Shortfall};
pub use exchange::{Exchange, ExchangeRate, Exchanged};
pub use invoice::{Invoice, InvoiceLine};
pub use ledger::{Anchor, JournalQuery, Ledger, LedgerExt, StatementQuery, TrialBalance, Verified};
pub use price_book::PriceBook;
pub use rate_card::{Price, RateCard, Rounding};
pub use ratio::Ratio;
pub use spend::{
    Attribution, SpendBy, SpendQuery, SpendReport, SpendRow, TaskEconomics, UsageEntry,
    cost_per_successful_task,
};
