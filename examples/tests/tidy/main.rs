//! Rules of this repository that no lint holds: sizes, the anatomy of crates, words, and that
//! what the documents name exists.
//!
//! Each rule is a function over a directory. It is run on the repository, where it must find
//! nothing, and on a directory with a planted violation, where it must find that one.

#![expect(clippy::expect_used, reason = "tests")]

mod planted;
mod rules;
mod tree;

use std::path::Path;
use std::sync::LazyLock;

use rules::Finding;
use tree::Tree;

/// Files longer than this are named in the output of the test.
const LINES_NOTED: usize = 600;

/// Read once for all rules.
static REPOSITORY: LazyLock<Tree> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    Tree::read(&root).expect("the repository can be read")
});

fn assert_none(findings: &[Finding]) {
    let list: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(findings.is_empty(), "\n{}\n", list.join("\n"));
}

#[test]
fn the_repository_is_read() {
    let tree = &*REPOSITORY;
    assert!(tree.crates().len() >= 7, "{:?}", tree.crates());
    assert!(tree.rust().count() > 100);
}

#[test]
fn no_file_is_too_long() {
    let tree = &*REPOSITORY;
    for (path, lines) in rules::lengths(tree, LINES_NOTED) {
        println!("{path} has {lines} lines: look for a seam");
    }
    assert_none(&rules::long_files(tree));
}

#[test]
fn every_crate_has_the_same_anatomy() {
    assert_none(&rules::anatomy(&REPOSITORY));
}

#[test]
fn modules_are_files_of_their_name() {
    assert_none(&rules::mod_files(&REPOSITORY));
}

#[test]
fn every_law_is_listed() {
    assert_none(&rules::unlisted_laws(&REPOSITORY));
}

#[test]
fn every_public_async_function_says_what_dropping_it_means() {
    assert_none(&rules::unsaid_cancel_safety(&REPOSITORY));
}

#[test]
fn comments_say_what_is() {
    assert_none(&rules::history_in_comments(&REPOSITORY));
}

#[test]
fn documents_do_not_boast() {
    assert_none(&rules::boasting(&REPOSITORY));
}

#[test]
fn nothing_is_left_undone_or_silenced() {
    assert_none(&rules::left_undone(&REPOSITORY));
}

#[test]
fn no_machine_is_named() {
    assert_none(&rules::machines(&REPOSITORY));
}

#[test]
fn tests_that_documents_name_exist() {
    assert_none(&rules::missing_tests(&REPOSITORY));
}

#[test]
fn files_that_documents_link_to_exist() {
    assert_none(&rules::dead_links(&REPOSITORY));
}
