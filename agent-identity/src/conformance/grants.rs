//! The laws of a grant store.

use std::sync::Arc;

use agent_core::{
    Amount, Asset, Classify, Digest, ErrorKind, IdempotencyKey, Principal, Scope, Timestamp,
};

use crate::grant_store::{Charge, ChargeMode, Counter, GrantStore, REVOKE_MAX};
use crate::{GrantId, Result};

type Store = Arc<dyn GrantStore>;

const END: Timestamp = Timestamp::from_unix_ms(9_000_000_000_000);

fn scope() -> Scope {
    Scope::new(Principal::host())
}

fn id(n: u128) -> GrantId {
    GrantId::from_bits(n)
}

fn counter(grant: u128, calls_max: Option<u64>, spend_max: Option<i128>) -> Counter {
    Counter {
        grant: id(grant),
        capability: 0,
        calls_max,
        spend_max: spend_max.map(|units| Amount::from_units(units, Asset::USD)),
        expires: END,
    }
}

fn charge(key: &str, effect: &str, cost: Option<i128>, ways: Vec<Vec<Counter>>) -> Charge {
    let cost = cost.map(|units| Amount::from_units(units, Asset::USD));
    let key = IdempotencyKey::new(key).unwrap();
    Charge::new(key, Digest::of_bytes(effect.as_bytes()), cost, ways)
}

async fn take(store: &Store, charge: Charge) -> Result<()> {
    store.charge(&scope(), charge, ChargeMode::Take).await
}

/// A revoked link is revoked when the call returns, and only that one; the list says by whom, why
/// and until when.
pub async fn a_revocation_is_in_force_at_once_and_listed(store: Store) {
    assert!(!store.is_revoked(id(1)));
    let grants = vec![(id(1), END), (id(3), END)];
    store
        .revoke(&scope(), grants, "leaked".to_owned())
        .await
        .unwrap();
    assert!(store.is_revoked(id(1)) && store.is_revoked(id(3)));
    assert!(!store.is_revoked(id(2)));
    let page = store.revocations(None, 1).await.unwrap();
    let [first] = page.as_slice() else {
        panic!("expected one revocation, got {page:?}");
    };
    assert_eq!((first.grant, first.expires), (id(1), END));
    assert_eq!(
        (&first.by, first.reason.as_str()),
        (&Principal::host(), "leaked")
    );
    let rest = store.revocations(Some(id(1)), 10).await.unwrap();
    let rest: Vec<_> = rest.iter().map(|revocation| revocation.grant).collect();
    assert_eq!(rest, [id(3)]);
}

/// Revoking a revoked link keeps who revoked it first.
pub async fn revoking_again_changes_nothing(store: Store) {
    store
        .revoke(&scope(), vec![(id(1), END)], "first".to_owned())
        .await
        .unwrap();
    store
        .revoke(&scope(), vec![(id(1), END)], "second".to_owned())
        .await
        .unwrap();
    let all = store.revocations(None, 10).await.unwrap();
    let reasons: Vec<_> = all
        .iter()
        .map(|revocation| revocation.reason.as_str())
        .collect();
    assert_eq!(reasons, ["first"]);
}

/// The same key and effect count once, in each tenant.
pub async fn a_charge_counts_once_per_key(store: Store) {
    let ways = vec![vec![counter(1, Some(2), None)]];
    for _ in 0..3 {
        take(&store, charge("k1", "e1", None, ways.clone()))
            .await
            .unwrap();
    }
    let other = scope().with_tenant("other");
    let theirs = charge("k1", "e1", None, ways.clone());
    store
        .charge(&other, theirs, ChargeMode::Take)
        .await
        .unwrap();
    let third = take(&store, charge("k2", "e1", None, ways)).await;
    assert_eq!(third.unwrap_err().code(), "identity.used_up");
}

/// A key that counted one effect counts no other.
pub async fn a_key_belongs_to_one_effect(store: Store) {
    let ways = vec![vec![counter(1, Some(9), None)]];
    take(&store, charge("k", "e1", None, ways.clone()))
        .await
        .unwrap();
    let reused = take(&store, charge("k", "e2", None, ways)).await;
    assert_eq!(reused.unwrap_err().code(), "identity.key_reused");
}

/// If one limit of a way is full, none of its limits is counted.
pub async fn a_full_limit_refuses_and_counts_nothing(store: Store) {
    let (wide, full) = (counter(1, Some(1), None), counter(2, Some(0), None));
    let refused = take(&store, charge("k1", "e", None, vec![vec![wide, full]])).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Exhausted);
    take(&store, charge("k1", "e", None, vec![vec![wide]]))
        .await
        .unwrap();
    take(&store, charge("k2", "e", None, vec![vec![wide]]))
        .await
        .unwrap_err();
}

/// Spending ends exactly at the limit, and never mixes assets.
pub async fn spend_is_counted_to_the_last_unit(store: Store) {
    let ways = vec![vec![counter(1, None, Some(10))]];
    take(&store, charge("k1", "e", Some(7), ways.clone()))
        .await
        .unwrap();
    take(&store, charge("k2", "e", Some(4), ways.clone()))
        .await
        .unwrap_err();
    take(&store, charge("k3", "e", Some(-4), ways.clone()))
        .await
        .unwrap_err();
    take(&store, charge("k4", "e", Some(3), ways.clone()))
        .await
        .unwrap();
    take(&store, charge("k5", "e", Some(1), ways.clone()))
        .await
        .unwrap_err();
    take(&store, charge("k6", "e", None, ways.clone()))
        .await
        .unwrap();
    let mut euros = charge("k7", "e", None, ways);
    euros.cost = Some("0.000001 EUR".parse().unwrap());
    take(&store, euros).await.unwrap_err();
}

/// Of several ways the first with room is taken; a way without limits counts nothing.
pub async fn the_first_way_with_room_is_taken(store: Store) {
    let ways = vec![
        vec![counter(1, Some(1), None)],
        vec![counter(2, Some(1), None)],
    ];
    take(&store, charge("k1", "e", None, ways.clone()))
        .await
        .unwrap();
    take(&store, charge("k2", "e", None, ways.clone()))
        .await
        .unwrap();
    take(&store, charge("k3", "e", None, ways.clone()))
        .await
        .unwrap_err();
    let free = ways.into_iter().chain([Vec::new()]).collect();
    take(&store, charge("k3", "e", None, free)).await.unwrap();
}

/// Charges that race never exceed a limit together.
pub async fn racing_charges_never_exceed_a_limit(store: Store) {
    let ways = vec![vec![counter(1, Some(3), Some(100))]];
    let mut taken = tokio::task::JoinSet::new();
    for n in 0..8 {
        let (store, ways) = (Arc::clone(&store), ways.clone());
        taken.spawn(async move {
            take(&store, charge(&format!("k{n}"), "e", Some(1), ways))
                .await
                .is_ok()
        });
    }
    let n_taken = taken.join_all().await.into_iter().filter(|ok| *ok).count();
    assert_eq!(n_taken, 3);
}

/// Trying tells what taking would, and counts nothing.
pub async fn trying_counts_nothing(store: Store) {
    let ways = vec![vec![counter(1, Some(1), None)]];
    for _ in 0..3 {
        let tried = charge("k1", "e", None, ways.clone());
        store
            .charge(&scope(), tried, ChargeMode::Try)
            .await
            .unwrap();
    }
    take(&store, charge("k1", "e", None, ways.clone()))
        .await
        .unwrap();
    let again = charge("k1", "e", None, ways.clone());
    store
        .charge(&scope(), again, ChargeMode::Try)
        .await
        .unwrap();
    let other = charge("k2", "e", None, ways);
    store
        .charge(&scope(), other, ChargeMode::Try)
        .await
        .unwrap_err();
}

/// Pruning forgets what concerns grants that ended before the moment, and nothing else.
pub async fn pruning_forgets_what_has_ended(store: Store) {
    let early = Timestamp::from_unix_ms(1_000);
    let grants = vec![(id(1), early), (id(2), END)];
    store.revoke(&scope(), grants, String::new()).await.unwrap();
    let mut ended = counter(1, Some(1), None);
    ended.expires = early;
    take(&store, charge("k1", "e", None, vec![vec![ended]]))
        .await
        .unwrap();
    let lasting = vec![vec![counter(2, Some(1), None)]];
    take(&store, charge("k2", "e", None, lasting.clone()))
        .await
        .unwrap();
    assert_eq!(store.prune(early).await.unwrap(), 0);
    assert_eq!(
        store.prune(Timestamp::from_unix_ms(1_001)).await.unwrap(),
        3
    );
    assert!(!store.is_revoked(id(1)) && store.is_revoked(id(2)));
    take(&store, charge("k3", "e", None, lasting))
        .await
        .unwrap_err();
}

/// Revocations above their bounds are refused.
pub async fn bounds_are_kept(store: Store) {
    let many = vec![(id(1), END); REVOKE_MAX + 1];
    let refused = store.revoke(&scope(), many, String::new()).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Exhausted);
    let long = "x".repeat(2_000);
    let refused = store.revoke(&scope(), vec![(id(1), END)], long).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid);
    assert!(!store.is_revoked(id(1)));
}
