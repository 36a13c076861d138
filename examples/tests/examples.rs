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

#[test]
fn recovery_gets_every_task_through_three_percent_of_faults_in_each_layer() {
    // It fails by itself if fewer than 99.9 % of the tasks are verified.
    let program = || {
        Command::new(env!("CARGO_BIN_EXE_reliability"))
            .arg("300")
            .output()
    };
    let (first, second) = (program().expect("it runs"), program().expect("it runs"));
    let said = String::from_utf8_lossy(&first.stdout);
    assert!(
        first.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&first.stderr)
    );
    assert!(said.contains("supervised: 300 of 300"), "{said}");
    let faults = |out: &[u8]| -> Vec<String> {
        let text = String::from_utf8_lossy(out);
        let lines = text.lines().filter(|line| line.contains("injected"));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(faults(&first.stdout), faults(&second.stdout), "one seed");
}
