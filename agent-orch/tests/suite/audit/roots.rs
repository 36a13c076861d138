//! Ends that were cut off, and the signed roots that show it.

use std::sync::Arc;

use agent_core::Env;
use agent_identity::backend::InMemoryKeyStore;
use agent_identity::{KeyName, KeyStore};
use agent_orch::Journal;
use agent_orch::audit::{Sealer, verify_export};
use agent_orch::backend::sqlite::Sqlite;

use super::chain::{Chain, host, named};

#[tokio::test]
async fn records_cut_off_at_the_end_are_found() {
    let chain = Chain::new().await;
    let n_records = chain.journal.head().await.unwrap().records;
    chain
        .execute(&format!("DELETE FROM orch_event WHERE seq = {n_records}"))
        .await;
    assert_eq!(chain.found().await, (n_records, "was cut off"));
}

/// Cuts the chain behind a record and moves its end there, as a forger would.
fn cut(seq: u64) -> String {
    format!(
        "DELETE FROM orch_event WHERE seq > {seq}; DELETE FROM orch_body WHERE seq > {seq};
         UPDATE orch_head SET seq = {seq},
             hash = (SELECT hash FROM orch_event WHERE seq = {seq})"
    )
}

#[tokio::test]
async fn a_cut_with_a_moved_end_is_found_by_a_signed_root() {
    let chain = Chain::new().await;
    let root = chain.journal.roots(0).await.unwrap().remove(0);
    chain.execute(&cut(root.seq - 1)).await;
    let (seq, found) = chain.found().await;
    assert_eq!(seq, root.seq, "{found}");
}

#[tokio::test]
async fn a_cut_that_takes_its_roots_along_is_found_by_a_root_kept_elsewhere() {
    let chain = Chain::new().await;
    let root = chain.journal.roots(0).await.unwrap().remove(0);
    chain.execute(&cut(root.seq - 1)).await;
    chain.execute("DELETE FROM orch_root").await;
    chain.journal.verify().await.unwrap();
    let how = chain.trusting().including(root.clone());
    assert_eq!(named(&chain.journal.verify_with(how).await).0, root.seq);
    let lines = chain.export().await;
    let how = chain.trusting().including(root.clone());
    assert_eq!(named(&verify_export(lines.as_bytes(), how)).0, root.seq);
}

#[tokio::test]
async fn forged_and_removed_roots_are_found() {
    let chain = Chain::new().await;
    let root = chain.journal.roots(0).await.unwrap().remove(0);
    chain.execute("DELETE FROM orch_root").await;
    assert_eq!(chain.found().await.0, root.seq + 1, "it was removed");
    chain.execute("INSERT INTO orch_root SELECT 2, seq, at_ms, hash, 'did:key:x', zeroblob(64) FROM orch_event WHERE seq = 1").await;
    assert_eq!(chain.found().await.0, 2, "it was made up");

    let chain = Chain::new().await;
    let stranger = Arc::new(InMemoryKeyStore::new(&Env::system()));
    let name = KeyName::new("host").unwrap();
    let keys = stranger.generate(&host(), vec![name]).await.unwrap();
    let journal = Arc::<Sqlite>::clone(&chain.journal);
    let forger = Sealer::new(journal, stranger, Env::system(), host(), keys[0].clone());
    forger.seal().await.unwrap().unwrap();
    let end = chain.journal.head().await.unwrap().records;
    assert_eq!(chain.found().await.0, end, "a stranger signed it");
}

#[tokio::test]
async fn verification_starts_from_a_root_and_finds_what_came_after_it() {
    let chain = Chain::new().await;
    let root = chain.sealer.seal().await.unwrap().unwrap();
    let from = || chain.trusting().after(root.clone());
    let whole = chain.journal.verify().await.unwrap();
    let part = chain.journal.verify_with(from()).await.unwrap();
    assert_eq!((part.records, part.head), (whole.records, whole.head));
    chain
        .execute("UPDATE orch_event SET code = 'x' WHERE seq = 2")
        .await;
    assert_eq!(chain.found().await.0, 2);
    chain.journal.verify_with(from()).await.unwrap();
    let of_root = format!(
        "UPDATE orch_event SET hash = zeroblob(32) WHERE seq = {}",
        root.seq
    );
    chain.execute(&of_root).await;
    let broken = named(&chain.journal.verify_with(from()).await);
    assert_eq!(broken.0, root.seq, "its record must be there");
}
