//! Every backend keeps the laws of its contract.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::Arc;

use agent_core::Env;
use agent_identity::backend::{InMemoryGrantStore, InMemoryKeyStore};
use agent_identity::{GrantStore, KeyStore, grant_store_conformance, key_store_conformance};

mod in_memory_keys {
    use super::*;

    async fn make() -> (Arc<dyn KeyStore>, ()) {
        (Arc::new(InMemoryKeyStore::new(&Env::system())), ())
    }
    key_store_conformance!(make);
}

mod in_memory_grants {
    use super::*;

    async fn make() -> (Arc<dyn GrantStore>, ()) {
        (Arc::new(InMemoryGrantStore::new(&Env::system())), ())
    }
    grant_store_conformance!(make);
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use agent_core::SecretBytes;
    use agent_core::store::{Config, Db, Durability};
    use agent_identity::Unlock;
    use agent_identity::backend::{SqliteGrantStore, SqliteKeyStore};
    use tempfile::TempDir;

    use super::*;

    async fn db() -> (Db, TempDir) {
        let dir = TempDir::new().unwrap();
        let config = Config::new(dir.path().join("db")).with_durability(Durability::Nothing);
        (Db::open(config, &Env::system()).await.unwrap(), dir)
    }

    mod keys {
        use super::*;

        async fn make() -> (Arc<dyn KeyStore>, TempDir) {
            let (db, dir) = db().await;
            let unlock = Unlock::key(SecretBytes::new(Box::new(vec![7; 32])));
            (
                Arc::new(SqliteKeyStore::open(&db, unlock).await.unwrap()),
                dir,
            )
        }
        key_store_conformance!(make);
    }

    mod grants {
        use super::*;

        async fn make() -> (Arc<dyn GrantStore>, TempDir) {
            let (db, dir) = db().await;
            (Arc::new(SqliteGrantStore::open(&db).await.unwrap()), dir)
        }
        grant_store_conformance!(make);
    }
}
