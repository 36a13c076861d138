//! Points where a process says that it is there and does nothing more until it is killed.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use agent_pay::transport::{Answer, Direct, Lost, Request, Transport};
use agent_pay::x402::{
    Address, Bytes32, CanonicalKey, Facilitator, LedgerFacilitator, LocalKey, PaymentPayload,
    Requirements, Settlement, Signature, Signer, Supported, Undo, Verdict, header,
};
use async_trait::async_trait;

pub(super) fn say(what: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "\nstep {what}").unwrap();
    out.flush().unwrap();
}

/// The point where a process stops, and where it leaves traces of what it did.
#[derive(Debug, Default)]
pub(super) struct Stop {
    pub(super) at: String,
    pub(super) dir: PathBuf,
    n_traces: AtomicU32,
}

impl Stop {
    pub(super) fn new(dir: &Path, at: String) -> Self {
        let dir = dir.to_owned();
        Self {
            at,
            dir,
            n_traces: AtomicU32::new(0),
        }
    }

    pub(super) async fn reach(&self, point: &str) {
        if self.at == point {
            say(point);
            std::future::pending::<()>().await;
        }
    }

    /// Leaves a trace of its own.
    pub(super) fn trace(&self, kind: &str) {
        let n = self.n_traces.fetch_add(1, Ordering::Relaxed);
        self.mark(&format!("{kind}-{}-{n}", std::process::id()));
    }

    /// Leaves a trace that is there once. It says how long the log of the seller is.
    pub(super) fn mark(&self, name: &str) {
        let log = std::fs::metadata(self.dir.join("shop.db-wal"));
        let log_bytes = log.map_or(0, |log| log.len());
        std::fs::write(self.dir.join(name), log_bytes.to_string()).unwrap();
    }
}

#[derive(Debug)]
pub(super) struct Stopping<T>(pub(super) T, pub(super) Arc<Stop>);

#[async_trait]
impl Transport for Stopping<Direct> {
    async fn send(&self, request: Request) -> Result<Answer, Lost> {
        let is_paid = request.headers().contains_key(header::PAYMENT_SIGNATURE);
        let [before, after] = if is_paid {
            ["send", "sent"]
        } else {
            ["ask", "asked"]
        };
        self.1.reach(before).await;
        let answer = self.0.send(request).await;
        self.1.reach(after).await;
        answer
    }
}

#[async_trait]
impl Signer for Stopping<LocalKey> {
    fn address(&self) -> Address {
        self.0.address()
    }

    async fn sign(&self, digest: Bytes32) -> agent_pay::Result<Signature> {
        self.1.reach("sign").await;
        let signature = self.0.sign(digest).await;
        self.1.reach("signed").await;
        signature
    }
}

#[async_trait]
impl Facilitator for Stopping<LedgerFacilitator> {
    async fn verify(&self, payment: PaymentPayload, asked: Requirements) -> Verdict {
        self.1.reach("verify").await;
        let verdict = self.0.verify(payment, asked).await;
        self.1.reach("verified").await;
        verdict
    }

    async fn settle(&self, payment: PaymentPayload, asked: Requirements) -> Settlement {
        let nonce = payment.signed.authorization.nonce;
        self.1.mark(&format!("nonce-{nonce}"));
        self.1.reach("settle").await;
        let settlement = self.0.settle(payment, asked).await;
        self.1.reach("settled").await;
        settlement
    }

    async fn supported(&self) -> agent_pay::Result<Supported> {
        self.0.supported().await
    }
}

/// Takes back the effect of work.
#[derive(Debug)]
pub(super) struct TakesBack(pub(super) Arc<Stop>);

#[async_trait]
impl Undo for TakesBack {
    async fn undo(&self, payment: CanonicalKey) -> agent_pay::Result<()> {
        self.0.reach("undo").await;
        let effect = self.0.dir.join(format!("effect-{}", payment.as_str()));
        // It may be taken back already, by one that died here.
        let _gone = std::fs::remove_file(effect);
        self.0.trace("undo");
        self.0.reach("undone").await;
        Ok(())
    }
}
