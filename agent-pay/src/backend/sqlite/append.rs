//! Rows appended many to a statement: a statement begins, ends and finds its place in the table
//! once, whatever it appends.

use std::sync::OnceLock;

use agent_core::store::{Tx, sql};
use rusqlite::{CachedStatement, ToSql};

use crate::error::{Error, Result};

/// How many rows a statement has. Whatever the number of rows, it takes a few of each at most.
const SIZES: [usize; 4] = [64, 16, 4, 1];

/// An insert that ends in `VALUES`, with a statement for each size.
///
/// A statement that undoes itself when it fails first copies each page it changes, and after an
/// error here the transaction is not kept anyway. So say `OR FAIL`, and leave the row's number out
/// where it is the next: with a number of its own, and with a check that calls a function, an insert
/// of many rows copies in any case.
pub(super) struct Append {
    insert: &'static str,
    n_columns: usize,
    texts: [OnceLock<String>; 4],
}

impl Append {
    pub(super) const fn new(insert: &'static str, n_columns: usize) -> Self {
        Self {
            insert,
            n_columns,
            texts: [const { OnceLock::new() }; 4],
        }
    }

    /// Appends rows in their order. After an error some of them may be there.
    pub(super) fn run<T>(
        &self,
        tx: &Tx<'_>,
        mut rows: &[T],
        bind: impl Fn(&mut Values<'_>, &T) -> Result<()>,
    ) -> Result<()> {
        for (n_rows, text) in SIZES.into_iter().zip(&self.texts) {
            if rows.len() < n_rows {
                continue;
            }
            let text = text.get_or_init(|| self.text(n_rows));
            let statement = tx.sql().prepare_cached(text);
            let mut values = Values {
                statement: statement.map_err(sql("append rows"))?,
                n_bound: 0,
            };
            while let Some((now, later)) = rows.split_at_checked(n_rows) {
                now.iter().try_for_each(|row| bind(&mut values, row))?;
                values.append(n_rows.saturating_mul(self.n_columns))?;
                rows = later;
            }
        }
        Ok(())
    }

    /// Appends rows whose numbers are left out and end with `last`, as SQLite gives them out from the
    /// greatest there is.
    pub(super) fn run_to<T>(
        &self,
        tx: &Tx<'_>,
        rows: &[T],
        last: i64,
        bind: impl Fn(&mut Values<'_>, &T) -> Result<()>,
    ) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        self.run(tx, rows, bind)?;
        match tx.sql().last_insert_rowid() {
            found if found == last => Ok(()),
            found => Err(Error::corrupt(format!("row {found} where {last} is next"))),
        }
    }

    fn text(&self, n_rows: usize) -> String {
        let row = format!("({})", vec!["?"; self.n_columns].join(", "));
        format!("{} {}", self.insert, vec![row; n_rows].join(", "))
    }
}

/// The values of a statement, bound one after another.
pub(super) struct Values<'c> {
    statement: CachedStatement<'c>,
    n_bound: usize,
}

impl Values<'_> {
    /// Binds the next value.
    pub(super) fn put(&mut self, value: impl ToSql) -> Result<&mut Self> {
        self.n_bound = self.n_bound.saturating_add(1);
        let bound = self.statement.raw_bind_parameter(self.n_bound, value);
        bound.map_err(sql("bind a value"))?;
        Ok(self)
    }

    fn append(&mut self, n_values: usize) -> Result<()> {
        if std::mem::take(&mut self.n_bound) != n_values {
            return Err(Error::corrupt("a row has another number of columns"));
        }
        self.statement.raw_execute().map_err(sql("append rows"))?;
        Ok(())
    }
}
