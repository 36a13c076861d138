//! Cells that were altered, records that were removed or swapped.

use agent_core::store::{self, Db, sql};
use agent_orch::Journal;
use rusqlite::types::Value as Cell;

use super::chain::Chain;

/// Another value of the same type.
fn altered(cell: &Cell) -> Cell {
    match cell {
        Cell::Null => Cell::Blob(vec![1; 16]),
        Cell::Integer(n) => Cell::Integer(n + 1_000),
        Cell::Real(x) => Cell::Real(x + 1.0),
        Cell::Text(text) => Cell::Text(format!("{text} ")),
        Cell::Blob(bytes) => {
            let flipped = bytes.iter().enumerate();
            Cell::Blob(
                flipped
                    .map(|(n, b)| if n == 0 { b ^ 1 } else { *b })
                    .collect(),
            )
        }
    }
}

/// Reads the cells of a table: its key, the column, the value.
async fn cells(db: &Db, table: &'static str, key: &'static str) -> Vec<(i64, String, Cell)> {
    db.read::<_, store::Error, _>(move |tx| {
        let read = || {
            let mut select = tx.sql().prepare(&format!("SELECT {key}, * FROM {table}"))?;
            let columns: Vec<String> = select.column_names().skip(1).map(str::to_owned).collect();
            let mut rows = select.query([])?;
            let mut cells = Vec::new();
            while let Some(row) = rows.next()? {
                for (n, column) in columns.iter().enumerate() {
                    cells.push((row.get(0)?, column.clone(), row.get(n + 1)?));
                }
            }
            Ok(cells)
        };
        read().map_err(sql("read the cells"))
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn any_altered_cell_is_found_and_its_record_named() {
    let chain = Chain::new().await;
    let records = chain.journal.verify_with(chain.trusting()).await.unwrap();
    assert!(records.records >= 10 && records.roots == 1, "{records:?}");
    let tables = [
        ("orch_event", "seq"),
        ("orch_body", "seq"),
        ("orch_root", "record"),
        ("orch_head", "id"),
    ];
    for (table, key) in tables {
        for (id, column, cell) in cells(&chain.db, table, key).await {
            if table == "orch_head" && column == "id" {
                continue;
            }
            let set = |cell: Cell, by: i64| {
                let text = format!("UPDATE {table} SET {column} = ?1 WHERE {key} = ?2");
                move |db: &rusqlite::Connection| {
                    db.execute(&text, rusqlite::params![cell, by]).map(drop)
                }
            };
            // An integer column that is empty cannot take bytes.
            let mut other = altered(&cell);
            if cell == Cell::Null && matches!(column.as_str(), "fence" | "cause") {
                other = Cell::Integer(0);
            }
            let moved = match &other {
                Cell::Integer(n) if column == key => *n,
                _ => id,
            };
            chain.tamper(set(other, id)).await;
            let (seq, found) = chain.found().await;
            chain.tamper(set(cell, moved)).await;
            assert!(seq > 0, "{table}.{column} of {id}: {found}");
            let names_it = i64::try_from(seq).unwrap() == id;
            assert!(
                names_it || table == "orch_head" || column == "record",
                "{table}.{column} of {id}: record {seq} {found}"
            );
        }
    }
    assert_eq!(chain.journal.verify().await.unwrap(), records);
}

#[tokio::test]
async fn any_removed_or_swapped_record_is_found_and_named() {
    let chain = Chain::new().await;
    let n_records = chain.journal.head().await.unwrap().records;
    for seq in 1..=n_records {
        chain
            .execute(&format!(
                "CREATE TEMP TABLE kept AS SELECT * FROM orch_event WHERE seq = {seq};
                 DELETE FROM orch_event WHERE seq = {seq}"
            ))
            .await;
        let (found_at, found) = chain.found().await;
        chain
            .execute("INSERT INTO orch_event SELECT * FROM kept; DROP TABLE kept")
            .await;
        assert_eq!(found_at, seq, "{found}");
    }
    for seq in 1..n_records {
        let (a, b) = (seq, seq + 1);
        let swap = format!(
            "UPDATE orch_event SET seq = -seq WHERE seq IN ({a}, {b});
             UPDATE orch_event SET seq = CASE seq WHEN -{a} THEN {b} ELSE {a} END WHERE seq < 0"
        );
        chain.execute(&swap).await;
        let (found_at, found) = chain.found().await;
        chain.execute(&swap).await;
        assert_eq!(found_at, a, "{found}");
    }
    chain.journal.verify().await.unwrap();
}
