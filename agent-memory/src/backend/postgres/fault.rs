//! What an error of the driver means to a caller.

use agent_core::{ErrorKind, Retry};
use deadpool_postgres::PoolError;
use tokio_postgres::error::{DbError, Severity, SqlState};

use crate::error::Error;

/// Names the operation that failed, before the transaction was asked to commit: nothing of it holds.
pub(super) fn db(operation: &'static str) -> impl FnOnce(tokio_postgres::Error) -> Error {
    move |source| {
        let kind = kind_of(&source);
        let retry = match kind {
            ErrorKind::Unavailable | ErrorKind::Exhausted => Retry::Safe,
            _ => Retry::Never,
        };
        database(operation, kind, retry, source)
    }
}

/// A failed commit. Unless the server said that it rolled back, the transaction may hold.
pub(super) fn commit(source: tokio_postgres::Error) -> Error {
    let is_rolled_back = source.as_db_error().is_some_and(|refusal| {
        !matches!(
            refusal.parsed_severity(),
            Some(Severity::Fatal | Severity::Panic)
        )
    });
    if is_rolled_back {
        return db("commit")(source);
    }
    database("commit", ErrorKind::Unavailable, Retry::Unknown, source)
}

/// No connection could be had.
pub(super) fn pool(source: PoolError) -> Error {
    match source {
        PoolError::Backend(source) => db("connect")(source),
        PoolError::Timeout(_) => database(
            "connect in time",
            ErrorKind::Unavailable,
            Retry::Safe,
            source,
        ),
        _ => database("connect", ErrorKind::Unavailable, Retry::Never, source),
    }
}

/// A database this backend cannot be used with.
pub(super) fn unsupported(found: &'static str) -> Error {
    database("hold memories", ErrorKind::Unsupported, Retry::Never, found)
}

/// A bug on this side.
pub(super) fn internal(operation: &'static str, source: impl Into<agent_core::BoxError>) -> Error {
    database(operation, ErrorKind::Internal, Retry::Never, source)
}

fn database(
    operation: &'static str,
    kind: ErrorKind,
    retry: Retry,
    source: impl Into<agent_core::BoxError>,
) -> Error {
    Error::Database {
        operation,
        kind,
        retry,
        source: source.into(),
    }
}

fn kind_of(error: &tokio_postgres::Error) -> ErrorKind {
    let Some(refusal) = error.as_db_error() else {
        // A value that does not fit its column is a bug; all else is the connection.
        let is_conversion = std::error::Error::source(error)
            .is_some_and(|source| source.is::<tokio_postgres::types::WrongType>());
        return if is_conversion {
            ErrorKind::Internal
        } else {
            ErrorKind::Unavailable
        };
    };
    of_state(refusal)
}

/// By the classes of SQLSTATE (PostgreSQL, appendix A).
fn of_state(refusal: &DbError) -> ErrorKind {
    let state = refusal.code();
    let one_of = |states: &[&SqlState]| states.contains(&state);
    if one_of(&[&SqlState::DISK_FULL, &SqlState::OUT_OF_MEMORY]) {
        return ErrorKind::Exhausted;
    }
    if one_of(&[&SqlState::INSUFFICIENT_PRIVILEGE]) {
        return ErrorKind::Denied;
    }
    // A standby that was promoted elsewhere, or not yet.
    if one_of(&[
        &SqlState::READ_ONLY_SQL_TRANSACTION,
        &SqlState::LOCK_NOT_AVAILABLE,
    ]) {
        return ErrorKind::Unavailable;
    }
    match state.code().get(..2) {
        // Connections, resources, rollbacks by conflict, intervention of an operator, the system.
        Some("08" | "53" | "40" | "57" | "58") => ErrorKind::Unavailable,
        Some("28") => ErrorKind::Denied,
        Some("3D") => ErrorKind::NotFound,
        Some("XX") => ErrorKind::Corrupt,
        _ => ErrorKind::Internal,
    }
}
