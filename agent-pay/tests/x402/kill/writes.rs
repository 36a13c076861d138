//! The disk stops at every write of a sale. The log is only appended to, so the file up to a place is
//! what a crash there leaves.

use std::cmp::Ordering;
use std::path::Path;
use std::sync::Arc;

use agent_pay::x402::{
    Authorization, Bytes32, PaymentPayload, SettlePolicy, Signed, Signer, header,
};
use axum::body::Body;
use tower::Service;

use super::life::{asked, shop, traces};
use super::stop::Stop;
use super::{MONEY, SOON, earned};
use crate::house::domain;
use crate::wire::test_key;

/// What a page of the log takes: its header and the page.
const FRAME_BYTES: usize = 24 + 4_096;

async fn payment() -> PaymentPayload {
    let (key, now) = (test_key(), 1_800_000_000);
    let parties = (key.address(), asked().pay_to);
    let nonce = Bytes32::from_bytes([7; 32]);
    let authorization = Authorization::new(parties, asked().amount, (now - 600, now + 600), nonce);
    let signature = key.sign(domain().digest(&authorization)).await;
    PaymentPayload::new(asked(), Signed::new(authorization, signature.unwrap()))
}

/// Sends a payment and returns the status, and whether the answer was kept.
async fn send(app: &mut axum::Router, payment: &PaymentPayload) -> (u16, bool) {
    let value = header::encode(&payment.to_json()).unwrap();
    let request = http::Request::get("/a").header(header::PAYMENT_SIGNATURE, value);
    let answer = app.call(request.body(Body::empty()).unwrap()).await;
    let answer = answer.unwrap();
    let is_kept = answer.headers().contains_key("idempotent-replayed");
    (answer.status().as_u16(), is_kept)
}

/// Copies a store as the disk has it when its log stops at a length.
fn copy(from: &Path, to: &Path, name: &str, log_bytes: usize) {
    std::fs::copy(from.join(name), to.join(name)).unwrap();
    let log = std::fs::read(from.join(format!("{name}-wal"))).unwrap();
    let log = &log[..log_bytes.min(log.len())];
    std::fs::write(to.join(format!("{name}-wal")), log).unwrap();
}

fn log_bytes(dir: &Path) -> usize {
    let log = std::fs::metadata(dir.join("shop.db-wal")).unwrap();
    usize::try_from(log.len()).unwrap()
}

async fn crash_everywhere(policy: SettlePolicy) {
    let dir = tempfile::tempdir().unwrap();
    let stop = |dir: &Path| Arc::new(Stop::new(dir, String::new()));
    let payment = payment().await;
    let url = "http://shop";
    let (_seller, mut app) = shop(dir.path(), 0, policy, url, stop(dir.path())).await;
    let begun = log_bytes(dir.path());
    assert_eq!(send(&mut app, &payment).await, (200, false));
    let end = log_bytes(dir.path());
    // The chain carried it out between two writes.
    let nonce = traces(dir.path(), "nonce-").concat();
    let settled_at = std::fs::read_to_string(dir.path().join(nonce)).unwrap();
    let settled_at: usize = settled_at.parse().unwrap();
    let mut n_kept = 0;
    for at in (begun..=end).step_by(FRAME_BYTES) {
        let cases: &[bool] = match at.cmp(&settled_at) {
            Ordering::Less => &[false],
            Ordering::Equal => &[false, true],
            Ordering::Greater => &[true],
        };
        for is_carried_out in cases.iter().copied() {
            let crashed = tempfile::tempdir().unwrap();
            let to = crashed.path();
            copy(dir.path(), to, "shop.db", at);
            if is_carried_out {
                copy(dir.path(), to, "chain.db", usize::MAX);
            }
            let (seller, mut app) = shop(to, SOON, policy, url, stop(to)).await;
            seller.reconcile(100).await.unwrap();
            let before = earned(to).await;
            let (status, is_kept) = send(&mut app, &payment).await;
            let when = format!("{policy:?} at {at} of {end}, {is_carried_out}");
            assert_eq!(status, 200, "{when}");
            // Whoever worked is paid without the payer's coming back.
            assert!(!is_kept || before == MONEY, "{when}");
            assert_eq!(earned(to).await, MONEY, "{when}");
            assert_eq!(traces(to, "run-").len(), usize::from(!is_kept), "{when}");
            n_kept += usize::from(is_kept);
        }
    }
    assert!(n_kept > 0, "the last write keeps the answer");
    let n_points = (end - begun) / FRAME_BYTES;
    assert!(n_points > 8 && n_kept < n_points, "{n_kept} of {n_points}");
}

#[tokio::test]
async fn a_crash_at_any_write_of_a_sale_is_paid_once_for_work_done_once() {
    for policy in [SettlePolicy::SettleFirst, SettlePolicy::WorkFirst] {
        crash_everywhere(policy).await;
    }
}
