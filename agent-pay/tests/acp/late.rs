//! Both books of a checkout whose end its agent did not hear of, and whose seller forgot what it could
//! before the agent asked again.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use crate::acp_shop::{Served, env, say};
use crate::agent::{POLICY, Token, intent, ready};
use crate::common::{Shop as Authority, op};
use agent_core::Secret;
use agent_pay::acp::{AcpClient, AcpRail};
use agent_pay::authority::SpendState;
use agent_pay::rail::{Paid, Payer};
use agent_pay::transport::{Answer, Direct, DirectConfig, Lost, Request, Transport};
use serde_json::{Value, json};

/// How long a session of the shop lasts.
const LIFE: Duration = Duration::from_secs(6 * 3_600);
const MS: Duration = Duration::from_millis(1);

/// Loses each request to complete a session, or its answer.
#[derive(Debug)]
struct LosesCompletes {
    direct: Direct,
    arrive: bool,
}

#[async_trait::async_trait]
impl Transport for LosesCompletes {
    async fn send(&self, request: Request) -> Result<Answer, Lost> {
        if !request.uri().path().ends_with("/complete") {
            return self.direct.send(request).await;
        }
        if self.arrive {
            let _lost = self.direct.send(request).await;
        }
        Err(Lost::may_have_arrived("no answer in time"))
    }
}

/// Returns how the agent's spend stands and what the shop took, in cents.
async fn books(arrive: bool, is_purged: bool) -> (SpendState, i128) {
    let desk = Authority::open(POLICY).await;
    let served = Served::open().await;
    let session = ready(&served, "s").await;
    let direct = Direct::new(DirectConfig::new()).unwrap();
    let transport = Arc::new(LosesCompletes { direct, arrive });
    let client = AcpClient::new(&served.base, &Secret::from("bearer_a"), transport).unwrap();
    let db = desk.authority.db().clone();
    let rail = AcpRail::open(client, db, &env(&desk.clock, 1), Token("spt_ok")).await;
    let payer = Payer::new(desk.authority.clone(), Arc::new(rail.unwrap()));
    let paid = payer.pay(intent(&desk, "k", &session, "20.00 USD")).await;
    assert!(matches!(paid.unwrap(), Paid::Unknown { .. }));
    for clock in [&desk.clock, &served.clock] {
        clock.advance(LIFE);
    }
    if is_purged {
        let purge = async || served.seller.purge(Duration::ZERO, 100).await.unwrap();
        assert_eq!(purge().await.n_sessions, 0);
        served.clock.advance(MS);
        assert_eq!(purge().await.n_sessions, usize::from(!arrive));
    }
    assert_eq!(payer.reconcile(10).await.unwrap(), 1);
    let hold = desk.authority.spend(op("k")).await.unwrap().unwrap();
    (hold.state, served.shop.taken().await)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_who_comes_after_the_purge_learns_how_its_session_ended() {
    for is_purged in [false, true] {
        assert_eq!(books(false, is_purged).await, (SpendState::Released, 0));
        assert_eq!(books(true, is_purged).await, (SpendState::Captured, 2_000));
    }
}

/// What comes late changes nothing, and is nobody else's to see.
#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_session_takes_nothing_and_is_shown_to_its_agent_alone() {
    let served = Served::open().await;
    let session = ready(&served, "s").await;
    served.clock.advance(LIFE + MS);
    let purged = served.seller.purge(Duration::ZERO, 100).await.unwrap();
    assert_eq!(purged.n_sessions, 1);
    let path = format!("/checkout_sessions/{session}");
    for (step, body) in [
        ("", json!({})),
        ("/cancel", json!({})),
        ("/complete", crate::acp_shop::pay_with("spt_ok")),
    ] {
        let path = format!("{path}{step}");
        let refused = say(
            &served.base,
            "POST",
            &path,
            Some(&format!("late{step}")),
            &body,
        )
        .await;
        assert_eq!(refused.status, 405, "{step} {}", refused.body);
        assert_eq!(refused.body["code"], "session_expired");
    }
    let text = "SELECT group_concat(doc) FROM pay_acp_session";
    let read = move |tx: &agent_core::store::Tx<'_>| {
        let text = tx.sql().query_row(text, [], |row| row.get::<_, String>(0));
        Ok::<_, agent_pay::Error>(text.unwrap())
    };
    let kept = served.db.read(read).await.unwrap();
    assert!(kept.contains(&session) && kept.len() < 600, "{kept}");
    for gone in ["line_one", "NY", "cup"] {
        assert!(!kept.contains(gone), "{gone}");
    }
    let other = AcpClient::new(
        &served.base,
        &Secret::from("bearer_b"),
        Arc::new(Direct::new(DirectConfig::new()).unwrap()),
    );
    assert_eq!(
        other.unwrap().get(&session).await.unwrap_err().reason(),
        "not_found"
    );
    let own = say(&served.base, "GET", &path, None, &Value::Null).await;
    assert_eq!((own.status, &own.body["status"]), (200, &json!("expired")));
    assert_eq!(served.shop.taken().await, 0);
}
