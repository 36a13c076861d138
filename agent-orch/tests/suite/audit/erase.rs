//! Erasure: the text is gone, and the chain is whole.

use std::path::Path;

use agent_orch::Journal;
use agent_orch::audit::{ErasePayloads, verify_export};

use super::chain::{Chain, SECRET, host};

fn is_in_files(dir: &Path, text: &str) -> bool {
    std::fs::read_dir(dir).unwrap().any(|file| {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        bytes
            .windows(text.len())
            .any(|found| found == text.as_bytes())
    })
}

#[tokio::test]
async fn erased_text_is_in_no_file_and_the_chain_is_whole() {
    let chain = Chain::new().await;
    assert!(is_in_files(chain.dir.path(), SECRET), "the scan finds it");
    let before = chain.journal.verify().await.unwrap();
    let what = ErasePayloads::Task(chain.task);
    let erased = chain.journal.erase(&host(), what).await.unwrap();
    assert!(erased.is_scrubbed && erased.payloads > 0, "{erased:?}");
    assert!(!is_in_files(chain.dir.path(), SECRET), "while open");
    let after = chain.journal.verify_with(chain.trusting()).await.unwrap();
    assert_eq!(after.records, before.records + 1);
    let lines = chain.export().await;
    let exported = verify_export(lines.as_bytes(), chain.trusting()).unwrap();
    assert_eq!(exported, after, "an erased export verifies");
    chain.db.close().await;
    assert!(!is_in_files(chain.dir.path(), SECRET), "once closed");
}

#[tokio::test]
async fn a_payload_removed_without_an_erasure_is_found() {
    let chain = Chain::new().await;
    chain.execute("DELETE FROM orch_body WHERE seq = 3").await;
    assert_eq!(chain.found().await.0, 3);
    let what = ErasePayloads::Record(3);
    chain.journal.erase(&host(), what).await.unwrap();
    chain.journal.verify().await.unwrap();
}

#[tokio::test]
async fn a_run_is_erased_as_a_whole() {
    let chain = Chain::new().await;
    let run = chain.journal.task(chain.task).await.unwrap().run;
    let what = ErasePayloads::Run(run);
    chain.journal.erase(&host(), what).await.unwrap();
    assert!(!is_in_files(chain.dir.path(), SECRET));
    chain.journal.verify().await.unwrap();
}
