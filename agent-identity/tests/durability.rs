//! What was acknowledged is there after a kill, and nothing opens without the secret.
#![cfg(feature = "sqlite")]
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use agent_core::store::{self, Config, Db, Durability, sql};
use agent_core::{Classify, Env, ErrorKind, Principal, Scope, Secret, SecretBytes, Timestamp};
use agent_identity::backend::{SqliteGrantStore, SqliteKeyStore};
use agent_identity::vault::Cost;
use agent_identity::{DidKey, GrantId, GrantStore, Key, KeyName, KeyStore, Purpose, Unlock};
use tempfile::TempDir;

const END: Timestamp = Timestamp::from_unix_ms(9_000_000_000_000);

async fn open(path: &Path) -> Db {
    let config = Config::new(path).with_durability(Durability::ProcessKill);
    Db::open(config, &Env::system()).await.unwrap()
}

fn raw(byte: u8) -> Unlock {
    Unlock::key(SecretBytes::new(Box::new(vec![byte; 32])))
}

fn phrase(text: &str) -> Unlock {
    let least = Cost::new(Cost::MEMORY_KIB_MIN, Cost::PASSES_MIN).unwrap();
    Unlock::passphrase(Secret::from(text)).with_cost(least)
}

fn host() -> Scope {
    Scope::new(Principal::host())
}

fn name(text: &str) -> KeyName {
    KeyName::new(text).unwrap()
}

async fn key(store: &SqliteKeyStore, text: &str) -> Key {
    store
        .generate(&host(), vec![name(text)])
        .await
        .unwrap()
        .remove(0)
}

async fn signs(store: &SqliteKeyStore, key: &Key) -> agent_identity::Result<()> {
    let signature = store
        .sign(&host(), key.id, Purpose::MESSAGE, b"m".to_vec())
        .await?;
    key.did.verify(&Purpose::MESSAGE, b"m", &signature)
}

const CHILD: &str = "AGENT_IDENTITY_CHILD_DB";

/// The child acknowledges one key and one revocation after another until it is killed.
#[tokio::test]
async fn a_killed_process_loses_nothing_it_acknowledged() {
    if let Some(path) = std::env::var_os(CHILD) {
        let db = open(Path::new(&path)).await;
        let keys = SqliteKeyStore::open(&db, raw(1)).await.unwrap();
        let grants = SqliteGrantStore::open(&db).await.unwrap();
        for n in 0.. {
            let key = key(&keys, &format!("agent-{n}")).await;
            let grant = GrantId::from_bits(n);
            grants
                .revoke(&host(), vec![(grant, END)], String::new())
                .await
                .unwrap();
            println!("\nacknowledged {} {} {grant}", key.name, key.did);
        }
    }
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("db");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "a_killed_process_loses_nothing_it_acknowledged",
            "--nocapture",
        ])
        .env(CHILD, &path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let lines = lines.map_while(Result::ok);
    let acknowledged: Vec<_> = lines
        .filter_map(|line| line.strip_prefix("acknowledged ").map(str::to_owned))
        .take(20)
        .collect();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(acknowledged.len(), 20);
    let db = open(&path).await;
    db.verify().await.unwrap();
    let keys = SqliteKeyStore::open(&db, raw(1)).await.unwrap();
    let grants = SqliteGrantStore::open(&db).await.unwrap();
    for line in acknowledged {
        let words: Vec<_> = line.split(' ').collect();
        let [name, did, grant] = words.as_slice() else {
            panic!("unexpected {line}");
        };
        let key = key(&keys, name).await;
        assert_eq!(
            (key.did, key.generation),
            (did.parse::<DidKey>().unwrap(), 0)
        );
        signs(&keys, &key).await.unwrap();
        assert!(grants.is_revoked(grant.parse().unwrap()));
    }
}

#[tokio::test]
async fn a_passphrase_opens_the_same_identities_and_another_nothing() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("db");
    let db = open(&path).await;
    let first = key(
        &SqliteKeyStore::open(&db, phrase("correct horse"))
            .await
            .unwrap(),
        "a",
    )
    .await;
    // Dropped without a shutdown.
    drop(db.clone());
    db.close().await;
    let db = open(&path).await;
    let wrong = SqliteKeyStore::open(&db, phrase("correct house"))
        .await
        .unwrap_err();
    assert_eq!(
        (wrong.code(), wrong.kind()),
        ("identity.wrong_secret", ErrorKind::Denied)
    );
    let wrong = SqliteKeyStore::open(&db, raw(1)).await.unwrap_err();
    assert_eq!(wrong.code(), "identity.wrong_secret");
    let keys = SqliteKeyStore::open(&db, phrase("correct horse"))
        .await
        .unwrap();
    assert_eq!(key(&keys, "a").await, first);
    signs(&keys, &first).await.unwrap();
}

#[tokio::test]
async fn a_changed_secret_replaces_the_old_one_and_keeps_the_keys() {
    let dir = TempDir::new().unwrap();
    let db = open(&dir.path().join("db")).await;
    let keys = SqliteKeyStore::open(&db, raw(1)).await.unwrap();
    let first = key(&keys, "a").await;
    keys.change_secret(raw(2)).await.unwrap();
    let wrong = SqliteKeyStore::open(&db, raw(1)).await.unwrap_err();
    assert_eq!(wrong.code(), "identity.wrong_secret");
    let keys = SqliteKeyStore::open(&db, raw(2)).await.unwrap();
    signs(&keys, &first).await.unwrap();
}

#[tokio::test]
async fn racing_openers_agree_on_one_vault() {
    let dir = TempDir::new().unwrap();
    let db = open(&dir.path().join("db")).await;
    let (one, two) = tokio::join!(
        SqliteKeyStore::open(&db, raw(1)),
        SqliteKeyStore::open(&db, raw(1))
    );
    let (one, two) = (one.unwrap(), two.unwrap());
    let made = key(&one, "a").await;
    signs(&two, &made).await.unwrap();
}

#[tokio::test]
async fn tampering_with_stored_keys_is_detected() {
    for (statement, code) in [
        // The sealed key of another name.
        (
            "UPDATE identity_key SET sealed = (SELECT sealed FROM identity_key WHERE name = 'b')
             WHERE name = 'a'",
            "identity.tampered",
        ),
        // The whole identity of another name.
        (
            "DELETE FROM identity_key WHERE name = 'a';
             UPDATE identity_key SET name = 'a' WHERE name = 'b'",
            "identity.tampered",
        ),
        (
            "UPDATE identity_key SET generation = 5 WHERE name = 'a'",
            "identity.tampered",
        ),
        (
            "UPDATE identity_key SET sealed = x'00' WHERE name = 'a'",
            "identity.tampered",
        ),
        (
            "UPDATE identity_key SET sealed = zeroblob(72) WHERE name = 'a'",
            "identity.tampered",
        ),
        (
            "UPDATE identity_key SET key_id = 'key_' || hex(zeroblob(16)) WHERE name = 'a'",
            "identity.tampered",
        ),
        (
            "UPDATE identity_key SET did = 'did:key:zABC' WHERE name = 'a'",
            "identity.backend",
        ),
    ] {
        let dir = TempDir::new().unwrap();
        let db = open(&dir.path().join("db")).await;
        let keys = SqliteKeyStore::open(&db, raw(1)).await.unwrap();
        keys.generate(&host(), vec![name("a"), name("b")])
            .await
            .unwrap();
        tamper(&db, statement).await;
        let outcome = match keys.generate(&host(), vec![name("a")]).await {
            Ok(found) => signs(&keys, found.first().unwrap()).await,
            Err(error) => Err(error),
        };
        let error = outcome.unwrap_err();
        assert_eq!(
            (error.code(), error.kind()),
            (code, ErrorKind::Corrupt),
            "{statement}"
        );
    }
}

async fn tamper(db: &Db, statement: &'static str) {
    db.write(move |tx| tx.sql().execute_batch(statement).map_err(sql("tamper")))
        .await
        .map_err(|error: store::Error| error)
        .unwrap();
}

#[tokio::test]
async fn a_damaged_header_is_refused() {
    let dir = TempDir::new().unwrap();
    let db = open(&dir.path().join("db")).await;
    SqliteKeyStore::open(&db, phrase("p")).await.unwrap();
    tamper(
        &db,
        "CREATE TABLE saved AS SELECT header FROM identity_vault",
    )
    .await;
    for (statement, code) in [
        (
            "UPDATE identity_vault SET header = '{}'",
            "identity.damaged",
        ),
        (
            "UPDATE identity_vault SET header = replace(header, '\"v\":1', '\"v\":2')",
            "identity.damaged",
        ),
        // More memory than any host would give.
        (
            "UPDATE identity_vault SET header =
             replace(header, '\"memory_kib\":19456', '\"memory_kib\":4294967295')",
            "identity.damaged",
        ),
        // Cheaper to guess than the minimum.
        (
            "UPDATE identity_vault SET header =
             replace(header, '\"memory_kib\":19456', '\"memory_kib\":8')",
            "identity.damaged",
        ),
        (
            "UPDATE identity_vault SET header = replace(header, '\"passes\":2', '\"passes\":3')",
            "identity.wrong_secret",
        ),
    ] {
        tamper(&db, statement).await;
        let error = SqliteKeyStore::open(&db, phrase("p")).await.unwrap_err();
        assert_eq!(error.code(), code, "{statement}");
        let restore = "UPDATE identity_vault SET header = (SELECT header FROM saved)";
        tamper(&db, restore).await;
    }
    SqliteKeyStore::open(&db, phrase("p")).await.unwrap();
}

#[tokio::test]
async fn unusable_secrets_are_refused() {
    let dir = TempDir::new().unwrap();
    let db = open(&dir.path().join("db")).await;
    let short = Unlock::key(SecretBytes::new(Box::new(vec![1; 31])));
    for unlock in [short, phrase("")] {
        let error = SqliteKeyStore::open(&db, unlock).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    Cost::new(1_024, 3).unwrap_err();
    Cost::new(Cost::MEMORY_KIB_MIN, 1).unwrap_err();
}

#[tokio::test]
async fn no_secret_reaches_the_file_or_debug() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("db");
    let db = open(&path).await;
    let unlock = phrase("open sesame 123");
    assert!(!format!("{unlock:?}").contains("sesame"));
    let keys = SqliteKeyStore::open(&db, unlock).await.unwrap();
    let made = key(&keys, "a").await;
    assert!(!format!("{keys:?} {made:?} {:?}", raw(77)).contains("77, 77"));
    db.close().await;
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let found = bytes.windows(6).any(|window| window == b"sesame");
        assert!(!found);
    }
}

#[tokio::test]
async fn writes_of_a_transaction_commit_together_or_not_at_all() {
    let dir = TempDir::new().unwrap();
    let db = open(&dir.path().join("db")).await;
    let keys = SqliteKeyStore::open(&db, raw(1)).await.unwrap();
    let grants = Arc::new(SqliteGrantStore::open(&db).await.unwrap());
    let grant = GrantId::from_bits(1);
    let (in_tx, revoking) = (keys.clone(), Arc::clone(&grants));
    let undone: agent_identity::Result<()> = db
        .write(move |tx| {
            in_tx.generate_in(tx, "default", &[name("a")])?;
            revoking.revoke_in(tx, &Principal::host(), &[(grant, END)], "")?;
            Err(agent_identity::Error::BadSignature)
        })
        .await;
    undone.unwrap_err();
    assert!(keys.history(&host(), name("a")).await.unwrap().is_empty());
    assert!(grants.revocations(None, 10).await.unwrap().is_empty());
    // Denied until the process ends rather than allowed by mistake.
    assert!(grants.is_revoked(grant));
    assert!(!SqliteGrantStore::open(&db).await.unwrap().is_revoked(grant));
    let (in_tx, revoking) = (keys.clone(), Arc::clone(&grants));
    let made = db
        .write(move |tx| {
            let made = in_tx.generate_in(tx, "default", &[name("a")])?;
            revoking.revoke_in(tx, &Principal::host(), &[(grant, END)], "")?;
            Ok::<_, agent_identity::Error>(made)
        })
        .await
        .unwrap();
    assert_eq!(keys.history(&host(), name("a")).await.unwrap(), made);
    assert!(SqliteGrantStore::open(&db).await.unwrap().is_revoked(grant));
}

#[tokio::test]
async fn used_limits_survive_a_restart() {
    use agent_core::{Digest, Effect, EffectClass, Gate, IdempotencyKey, Verdict};
    use agent_identity::grant_store::ChargeMode;
    use agent_identity::{Capability, CapabilityGate, GrantChain, Terms};

    let dir = TempDir::new().unwrap();
    let path = dir.path().join("db");
    let (mut texts, mut used_up) = (Vec::new(), Vec::new());
    for _restart in 0..2 {
        let db = open(&path).await;
        let keys = SqliteKeyStore::open(&db, raw(1)).await.unwrap();
        let grants = Arc::new(SqliteGrantStore::open(&db).await.unwrap());
        let (issuer, agent) = (key(&keys, "host").await, key(&keys, "agent").await);
        let once = Capability::new("pay.*", "*").unwrap().with_calls_max(1);
        let terms = Terms::new(agent.did, vec![once], END);
        let chain = GrantChain::issue(&keys, &host(), &issuer, &terms)
            .await
            .unwrap();
        let gate = CapabilityGate::new(
            vec![issuer.did],
            Arc::<SqliteGrantStore>::clone(&grants),
            &Env::system(),
        );
        gate.admit(&chain.to_string()).unwrap();
        let actor = Scope::new(Principal::try_from(agent.did).unwrap());
        let pay = Effect::new("pay.out", "x", EffectClass::Opaque, serde_json::Value::Null);
        used_up.push(gate.check(&actor, &pay).await.unwrap() != Verdict::Allow);
        if let Some(text) = texts.first() {
            assert_eq!(*text, Digest::of_bytes(chain.to_string().as_bytes()));
        } else {
            let id = IdempotencyKey::new("k").unwrap();
            let charge = gate.charge(&actor, &pay, id).unwrap().unwrap();
            grants
                .charge(&actor, charge, ChargeMode::Take)
                .await
                .unwrap();
        }
        texts.push(chain.digest());
        db.close().await;
    }
    assert_eq!(used_up, [false, true]);
}
