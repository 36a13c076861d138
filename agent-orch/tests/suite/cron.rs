//! When cron expressions are due, and what is said of wrong ones.

#![expect(clippy::unwrap_used, reason = "tests")]

use agent_core::Timestamp;
use agent_orch::{Cron, Fleet};
use proptest::prelude::*;

/// 2026-11-25T09:05:30Z, a Wednesday.
const NOW: Timestamp = Timestamp::from_unix_ms(1_795_597_530_000);

fn next(cron: &str) -> String {
    let cron: Cron = cron.parse().unwrap();
    cron.next_after(NOW).unwrap().to_string()
}

#[test]
fn expressions_are_due_when_they_say() {
    for (cron, due) in [
        ("* * * * *", "2026-11-25T09:06:00.000Z"),
        ("*/5 * * * *", "2026-11-25T09:10:00.000Z"),
        ("5 9 * * *", "2026-11-26T09:05:00.000Z"),
        ("0 8-10 * * *", "2026-11-25T10:00:00.000Z"),
        ("30/20 * * * *", "2026-11-25T09:30:00.000Z"),
        ("0 2 * * mon-fri", "2026-11-26T02:00:00.000Z"),
        ("0 0 * * 7", "2026-11-29T00:00:00.000Z"),
        ("0 0 * * sun,sat", "2026-11-28T00:00:00.000Z"),
        ("0 0 1 jan *", "2027-01-01T00:00:00.000Z"),
        ("0 0 31 * *", "2026-12-31T00:00:00.000Z"),
        ("0 0 29 2 *", "2028-02-29T00:00:00.000Z"),
        ("@hourly", "2026-11-25T10:00:00.000Z"),
        ("@yearly", "2027-01-01T00:00:00.000Z"),
        // With both days restricted either is enough.
        ("0 0 13 * fri", "2026-11-27T00:00:00.000Z"),
    ] {
        assert_eq!(next(cron), due, "{cron}");
    }
}

#[test]
fn a_leap_day_is_found_past_a_century() {
    let cron: Cron = "0 0 29 2 *".parse().unwrap();
    // 2096-03-01T00:00:00Z; 2100 has no leap day.
    let due = cron.next_after(Timestamp::from_unix_ms(3_981_398_400_000));
    assert_eq!(due.unwrap().to_string(), "2104-02-29T00:00:00.000Z");
}

#[test]
fn wrong_expressions_name_the_field_and_what_is_expected() {
    for (cron, said) in [
        ("* * * *", "expected five fields"),
        ("60 * * * *", "`60` is no minute: expected `*`, 0 to 59"),
        ("* 24 * * *", "`24` is no hour"),
        ("* * 0 * *", "`0` is no day"),
        ("* * * 13 *", "`13` is no month"),
        ("* * * * funday", "`funday` is no weekday"),
        ("*/0 * * * *", "`*/0` is no minute"),
        ("9-5 * * * *", "`9-5` is no minute"),
        ("1,,2 * * * *", "`` is no minute"),
        ("0 0 31 2 *", "never come together"),
    ] {
        let error = cron.parse::<Cron>().unwrap_err().to_string();
        assert!(error.contains(said), "{cron}: {error}");
    }
}

const FLEET: &str = r#"
[fleet]
name = "test"
budget = "1.00 USD"
[pool.work]
agent = "worker"
size = 1
budget = "1.00 USD"
verifier = "check"
[pool.check]
agent = "checker"
size = 1
budget = "1.00 USD"
[schedule.nightly]
"#;

#[test]
fn a_manifest_has_schedules_or_names_line_key_and_remedy() {
    let with = |lines: &str| Fleet::from_toml(&format!("{FLEET}{lines}"));
    let text = "cron = \"0 2 * * *\"\npool = \"work\"\ninput = { all = true }\ncatch_up = \"all\"";
    let fleet = with(text).unwrap();
    assert_eq!(fleet.schedules["nightly"].input["all"], true);
    assert_ne!(
        fleet.digest().unwrap(),
        with("cron = \"1 2 * * *\"\npool = \"work\"")
            .unwrap()
            .digest()
            .unwrap(),
        "a schedule is part of the hash"
    );
    for (lines, said) in [
        (
            "cron = \"0 25 * * *\"\npool = \"work\"",
            "line 15: schedule.nightly.cron: `25` is no hour",
        ),
        (
            "cron = \"@daily\"\npool = \"wrk\"",
            "line 16: schedule.nightly.pool",
        ),
        ("cron = \"@daily\"\npool = \"wrk\"", "write `work`"),
        (
            "cron = \"@daily\"\npool = \"check\"",
            "add `pool.check.verifier`",
        ),
        (
            "cron = \"@daily\"\npool = \"work\"\noverlap = \"skp\"",
            "write `skip`",
        ),
        (
            "cron = \"@daily\"\npool = \"work\"\npriority = 5",
            "a number from 0 to 4",
        ),
        (
            "cron = \"@daily\"\npool = \"work\"\nzone = \"CET\"",
            "`zone` is not known",
        ),
    ] {
        let error = with(lines).unwrap_err().to_string();
        assert!(error.contains(said), "{said}: {error}");
    }
}

proptest! {
    #[test]
    fn the_next_moment_is_the_last_at_itself(
        minute in 0_u32..60, step in 1_u32..24, weekday in 0_u32..8, at in 0_i64..4_000_000_000_000,
    ) {
        let cron: Cron = format!("{minute} */{step} * * {weekday}").parse().unwrap();
        let at = Timestamp::from_unix_ms(at);
        let next = cron.next_after(at).unwrap();
        prop_assert!(next > at);
        prop_assert_eq!(next.as_unix_ms() % 60_000, 0);
        prop_assert_eq!(cron.last_at(next), Some(next));
        let before = cron.last_at(Timestamp::from_unix_ms(next.as_unix_ms() - 1)).unwrap();
        prop_assert!(before <= at);
        prop_assert_eq!(cron.next_after(before), Some(next));
    }
}
