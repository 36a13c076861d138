//! Examples print what the file of their name in `tests/out` says.

#![expect(clippy::expect_used, reason = "tests")]

use std::process::Command;

/// Runs a program and compares what it prints.
fn prints(program: &str, expected: &str) {
    let out = Command::new(program)
        .output()
        .expect("the example can be run");
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    assert_eq!(String::from_utf8_lossy(&out.stdout), expected);
}

#[test]
fn quickstart_prints_its_transcript() {
    prints(
        env!("CARGO_BIN_EXE_quickstart"),
        include_str!("out/quickstart.out"),
    );
}

#[test]
fn waits_prints_its_transcript() {
    prints(env!("CARGO_BIN_EXE_waits"), include_str!("out/waits.out"));
}
