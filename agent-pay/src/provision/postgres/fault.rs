//! What an error of the driver means to a caller.

use agent_core::{ErrorKind, Retry};
use deadpool_postgres::PoolError;
use tokio_postgres::error::{DbError, SqlState};

use crate::error::Error;

/// Names the operation that failed. Everything here can be repeated, so a lost connection is only
/// of unknown outcome; what the server refuses stays refused, except for want of means.
pub(super) fn db(operation: &'static str) -> impl FnOnce(tokio_postgres::Error) -> Error {
    move |source| {
        let (kind, retry) = source
            .as_db_error()
            .map_or((ErrorKind::Unavailable, Retry::Unknown), of_server);
        Error::backend("postgres", operation, kind, retry, source)
    }
}

/// No connection could be had.
pub(super) fn pool(source: PoolError) -> Error {
    match source {
        PoolError::Backend(source) if source.as_db_error().is_some() => db("connect")(source),
        _ => {
            let (kind, retry) = (ErrorKind::Unavailable, Retry::Safe);
            Error::backend("postgres", "connect", kind, retry, source)
        }
    }
}

fn of_server(refusal: &DbError) -> (ErrorKind, Retry) {
    let code = refusal.code();
    match code.code().get(..2) {
        Some("53" | "58") => (ErrorKind::Exhausted, Retry::Safe),
        Some("57" | "40" | "08") => (ErrorKind::Unavailable, Retry::Safe),
        // Another session works on the same database at this moment.
        Some("55") => (ErrorKind::Unavailable, Retry::Safe),
        Some("28") => (ErrorKind::Denied, Retry::Never),
        _ if *code == SqlState::INSUFFICIENT_PRIVILEGE => (ErrorKind::Denied, Retry::Never),
        _ => (ErrorKind::Internal, Retry::Never),
    }
}
