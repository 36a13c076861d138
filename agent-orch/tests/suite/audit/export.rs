//! Exports: verified without a store.

use agent_orch::Journal;
use agent_orch::audit::verify_export;

use super::chain::{Chain, named};

#[tokio::test]
async fn an_export_verifies_without_a_store() {
    let chain = Chain::new().await;
    let lines = chain.export().await;
    let audit = verify_export(lines.as_bytes(), chain.trusting()).unwrap();
    assert_eq!(audit, chain.journal.verify().await.unwrap());
    let n_lines = u64::try_from(lines.lines().count()).unwrap();
    assert_eq!(n_lines, audit.records + 2, "a header and an end");
    for n in 1..lines.lines().count() {
        let without: Vec<&str> = lines
            .lines()
            .enumerate()
            .filter(|(m, _)| *m != n)
            .map(|(_, line)| line)
            .collect();
        let broken = verify_export(without.join("\n").as_bytes(), chain.trusting());
        assert_eq!(
            named(&broken).0,
            u64::try_from(n).unwrap(),
            "line {n} is missing"
        );
    }
}

#[tokio::test]
async fn any_flipped_byte_of_an_export_is_found() {
    let chain = Chain::new().await;
    let lines = chain.export().await;
    // The records of a whole run would take minutes; the header, two records and an end do not.
    let n_kept: usize = lines.lines().take(3).map(|line| line.len() + 1).sum();
    for n in 0..n_kept {
        let mut flipped = lines.clone().into_bytes();
        flipped[n] ^= 1;
        let found = verify_export(flipped.as_slice(), chain.trusting());
        assert!(found.is_err(), "byte {n} of {:?}", &lines[..n_kept]);
    }
}
