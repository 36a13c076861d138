//! Each rule finds a violation that is planted, and only that one.

use std::fs;

use tempfile::TempDir;

use crate::rules::{self, Finding};
use crate::tree::Tree;

fn tree(files: &[(&str, &str)]) -> Tree {
    let dir = TempDir::new().expect("a directory");
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        fs::write(path, text).expect("a file");
    }
    Tree::read(dir.path()).expect("the directory can be read")
}

fn paths(findings: &[Finding]) -> Vec<&str> {
    findings
        .iter()
        .map(|finding| finding.path.as_str())
        .collect()
}

#[test]
fn long_files_are_found() {
    let (short, long) = ("\n".repeat(800), "\n".repeat(801));
    let lib = "\n".repeat(121);
    let tree = tree(&[
        ("agent-x/src/a.rs", &short),
        ("agent-x/src/b.rs", &long),
        ("agent-x/src/lib.rs", &lib),
        ("target/c.rs", &long),
    ]);
    assert_eq!(
        paths(&rules::long_files(&tree)),
        ["agent-x/src/b.rs", "agent-x/src/lib.rs"]
    );
}

#[test]
fn a_crate_without_its_parts_is_found() {
    let whole = [
        ("agent-x/Cargo.toml", "[lints]\nworkspace = true\n"),
        ("agent-x/README.md", "# agent-x\n"),
        (
            "agent-x/src/lib.rs",
            "#![doc = include_str!(\"../README.md\")]\n",
        ),
        ("agent-x/src/error.rs", "pub enum Error {}\n"),
    ];
    assert!(rules::anatomy(&tree(&whole)).is_empty());
    for part in 1..whole.len() {
        let mut less = whole.to_vec();
        let (path, _) = less.remove(part);
        assert_eq!(paths(&rules::anatomy(&tree(&less))), [path]);
    }
    let mut unlinted = whole;
    unlinted[0].1 = "[package]\n";
    assert_eq!(
        paths(&rules::anatomy(&tree(&unlinted))),
        ["agent-x/Cargo.toml"]
    );
}

#[test]
fn a_mod_file_is_found_in_sources_alone() {
    let tree = tree(&[
        ("agent-x/src/a/mod.rs", ""),
        ("agent-x/tests/common/mod.rs", ""),
    ]);
    assert_eq!(paths(&rules::mod_files(&tree)), ["agent-x/src/a/mod.rs"]);
}

#[test]
fn an_unlisted_law_is_found() {
    let suite = "pub async fn one() {}\nmacro_rules! laws {\n    one,\n    two,\n}\n";
    let more = "pub async fn two() {}\npub async fn three() {}\n";
    let files = [
        ("agent-x/src/conformance.rs", suite),
        ("agent-x/src/conformance/more.rs", more),
    ];
    let findings = rules::unlisted_laws(&tree(&files));
    assert_eq!(paths(&findings), ["agent-x/src/conformance/more.rs"]);
    assert!(findings[0].to_string().contains("`three`"), "{findings:?}");
}

#[test]
fn two_laws_of_one_name_are_listed_twice() {
    let suite = "macro_rules! laws {\n    one,\n}\n";
    let law = "pub async fn one() {}\n";
    let files = [
        ("agent-x/src/conformance.rs", suite),
        ("agent-x/src/conformance/a.rs", law),
        ("agent-x/src/conformance/b.rs", law),
    ];
    assert_eq!(rules::unlisted_laws(&tree(&files)).len(), 1);
}

#[test]
fn an_async_function_without_cancel_safety_is_found() {
    let said = "/// Does.\n///\n/// # Cancel safety\n/// Atomic.\n#[inline]\npub async fn a() {}\n";
    let unsaid = "/// Does.\npub async fn b() {}\n";
    let both = format!("{said}{unsaid}");
    let files = [
        ("agent-x/src/a.rs", both.as_str()),
        ("agent-x/tests/a.rs", unsaid),
    ];
    assert_eq!(
        paths(&rules::unsaid_cancel_safety(&tree(&files))),
        ["agent-x/src/a.rs"]
    );
}

#[test]
fn history_is_found_in_comments_alone() {
    let code = "let previously = 1;\n/// It was Previously a list.\nlet a = \"\"; // refactored\n";
    let text = "let a = \"// formerly\";\n";
    let tree = tree(&[("a.rs", code), ("b.rs", text)]);
    assert_eq!(paths(&rules::history_in_comments(&tree)), ["a.rs", "a.rs"]);
}

#[test]
fn boasting_is_found() {
    let text = "It is robust.\nRobustness is measured, simplicity too.\n";
    assert_eq!(rules::boasting(&tree(&[("README.md", text)])).len(), 1);
}

#[test]
fn gaps_are_found() {
    let gaps = [
        ["todo", "!()"],
        ["#[ig", "nore]"],
        ["#[ig", "nore = \"slow\"]"],
        ["#![al", "low(dead_code)]"],
    ];
    let fine = [
        "#[ig",
        "nore = \"the child process of a_test\"]\n#[expect(dead_code)]",
    ]
    .concat();
    let code = gaps.map(|parts| parts.concat()).join("\n");
    let files = [
        ("agent-x/tests/a.rs", code.as_str()),
        ("agent-x/tests/b.rs", &fine),
    ];
    assert_eq!(
        paths(&rules::left_undone(&tree(&files))),
        ["agent-x/tests/a.rs"; 4]
    );
}

#[test]
fn a_machine_is_found() {
    let text = ["see /ro", "ot/notes"].concat();
    assert_eq!(paths(&rules::machines(&tree(&[("a.md", &text)]))), ["a.md"]);
}

#[test]
fn a_test_that_is_missing_is_found() {
    let readme = "`a::this_test_is_there`, `this_test_is_missing`, `with_x(self)`, `some_name`\n";
    let files = [
        ("agent-x/Cargo.toml", ""),
        ("agent-x/README.md", readme),
        ("agent-x/tests/a.rs", "fn this_test_is_there() {}\n"),
        ("agent-y/tests/a.rs", "fn this_test_is_missing() {}\n"),
    ];
    let findings = rules::missing_tests(&tree(&files));
    assert_eq!(paths(&findings), ["agent-x/README.md"]);
}

#[test]
fn a_dead_link_is_found() {
    let text = "[a](../a.md) [b](b.md#part) [c](https://example.org/c) [d](missing.md)\n";
    let files = [("a.md", ""), ("docs/b.md", ""), ("docs/index.md", text)];
    assert_eq!(paths(&rules::dead_links(&tree(&files))), ["docs/index.md"]);
}
