//! The repository checks that run as a guest, compiled natively: what they find, what they leave
//! alone, and that hostile bytes do them no harm.

use std::collections::BTreeMap;

#[path = "../guests/checks/checks/lib.rs"]
mod checks;

use checks::report::Finding;
use checks::{CHECKS, Error, Input, Options, Report, Tree};

#[derive(Default)]
struct Files(BTreeMap<&'static str, &'static str>);

impl Tree for Files {
    fn paths(&self) -> Option<Vec<u8>> {
        let paths: Vec<_> = self.0.keys().copied().collect();
        Some(paths.join("\n").into_bytes())
    }

    fn read(&self, path: &str) -> Option<Vec<u8>> {
        self.0.get(path).map(|text| text.as_bytes().to_vec())
    }
}

#[expect(clippy::expect_used, reason = "tests")]
fn run_in(check: &str, path: &str, bytes: &[u8], tree: &Files, options: Options) -> Report {
    let input = Input {
        path: path.as_bytes(),
        bytes,
        options,
        tree,
    };
    checks::run(check, &input).expect("a known check and a small file")
}

fn run(check: &str, path: &str, text: impl AsRef<[u8]>) -> Report {
    run_in(
        check,
        path,
        text.as_ref(),
        &Files::default(),
        Options::default(),
    )
}

/// The findings as `line:column code`, with `+` if fixable.
fn found(report: &Report) -> Vec<String> {
    let mark = |fixable| if fixable { "+" } else { "" };
    let show = |f: &Finding| format!("{}:{} {}{}", f.line, f.column, f.code, mark(f.fixable));
    report.findings.iter().map(show).collect()
}

#[expect(clippy::indexing_slicing, reason = "tests")]
fn apply(file: &[u8], report: &Report) -> Vec<u8> {
    let mut out = Vec::new();
    let mut from = 0;
    for edit in &report.edits {
        assert!(
            edit.start >= from && edit.end >= edit.start && edit.end <= file.len(),
            "{edit:?}"
        );
        out.extend_from_slice(&file[from..edit.start]);
        out.extend_from_slice(edit.insert.as_bytes());
        from = edit.end;
    }
    out.extend_from_slice(&file[from..]);
    assert_eq!(
        out.len(),
        if report.edits.is_empty() {
            file.len()
        } else {
            report.bytes_after()
        }
    );
    out
}

#[expect(clippy::expect_used, reason = "tests")]
fn fixed(check: &str, path: &str, text: impl AsRef<[u8]>) -> String {
    let report = run(check, path, text.as_ref());
    String::from_utf8(apply(text.as_ref(), &report)).expect("valid text stays valid")
}

#[test]
fn trailing_blanks_go_where_they_mean_nothing() {
    let fix = |path, text: &str| fixed("trailing-whitespace", path, text);
    assert_eq!(fix("a.rs", "fn a() {} \t\n  \nx"), "fn a() {}\n\nx");
    assert_eq!(fix("a.rs", "// a \r\nb  "), "// a\r\nb");
    assert_eq!(fix("a.md", "hard  \nbreak \n"), "hard  \nbreak\n");
    assert_eq!(fix("a.md", "no break  \n\nx\n"), "no break\n\nx\n");
    assert_eq!(fix("a.md", "```\ncode  \n```\n"), "```\ncode  \n```\n");
    assert_eq!(
        fix("a.rs", "let a = \"x  \ny\";  \n"),
        "let a = \"x  \ny\";\n"
    );
    assert_eq!(
        fix("a.rs", "let a = r#\"x\"  \ny\"#;  \n"),
        "let a = r#\"x\"  \ny\"#;\n"
    );
    assert_eq!(fix("a.c", "#define A \\ \n b\n"), "#define A \\ \n b\n");
    assert_eq!(
        fix("a.sh", "cat <<E  \nx  \nE\ny  \n"),
        "cat <<E\nx  \nE\ny\n"
    );
    assert_eq!(
        fix("a.py", "def f():\n    \"\"\"Doc  \n    x\"\"\"\n"),
        "def f():\n    \"\"\"Doc\n    x\"\"\"\n"
    );
    assert_eq!(
        fix("a.py", "x = \"\"\"a  \n\"\"\"\n"),
        "x = \"\"\"a  \n\"\"\"\n"
    );
    assert_eq!(fix("a.yml", "a: |\n  x  \nb: 1  \n"), "a: |\n  x  \nb: 1\n");
    for untouched in [
        "a.patch",
        "tests/fixtures/a.rs",
        "a.snap",
        "a.unknown",
        "a.min.js",
    ] {
        assert_eq!(fix(untouched, "x  \ny\n"), "x  \ny\n", "{untouched}");
    }
}

#[test]
fn a_string_that_never_ends_makes_the_file_untouchable() {
    let report = run("trailing-whitespace", "a.rs", "a  \nlet s = \"x  \ny\n");
    assert_eq!(found(&report), ["1:2 trailing-whitespace"]);
}

#[test]
fn the_last_line_gets_its_line_end() {
    let fix = |path, text: &str| fixed("final-newline", path, text);
    assert_eq!(fix("a.rs", "a"), "a\n");
    assert_eq!(fix("a.rs", "a\r\nb"), "a\r\nb\r\n");
    assert_eq!(fix("a.rs", ""), "");
    assert_eq!(fix("a.bin", "a"), "a");
    assert_eq!(
        found(&run("final-newline", "a.rs", "a\n\n\n\n")),
        ["1:2 blank-lines-at-end"]
    );
    assert!(found(&run("final-newline", "a.rs", "a\n\n")).is_empty());
}

#[test]
fn mixed_line_ends_follow_the_majority() {
    let fix = |path, text: &str| fixed("line-endings", path, text);
    assert_eq!(fix("a.rs", "a\r\nb\nc\n"), "a\nb\nc\n");
    assert_eq!(fix("a.rs", "a\r\nb\r\nc\n"), "a\r\nb\r\nc\r\n");
    assert_eq!(fix("a.rs", "a\r\nb\r\n"), "a\r\nb\r\n");
    assert_eq!(fix("a.bat", "a\r\nb\nc\n"), "a\r\nb\r\nc\r\n");
    assert_eq!(
        found(&run("line-endings", "a.cmd", "a\nb\n")),
        ["1:1 batch-without-crlf"]
    );
}

#[test]
fn doubled_words_lose_one() {
    let fix = |path, text: &str| fixed("doubled-words", path, text);
    assert_eq!(fix("a.md", "This is the the end.\n"), "This is the end.\n");
    assert_eq!(
        fix("a.md", "The end of the\nthe story.\n"),
        "The end of the\nstory.\n"
    );
    assert_eq!(
        fix("a.rs", "/// One of of two.\nlet a = b;\n"),
        "/// One of two.\nlet a = b;\n"
    );
    assert_eq!(
        fix("a.rs", "// to read the\n// the file\n"),
        "// to read the\n// file\n"
    );
    for kept in [
        "It is `the the` here.\n",
        "```\nthe the\n```\n",
        "| the the | x |\n",
        "log in in a moment\n",
        "what it is is clear\n",
        "I had had it\n",
        "the and and or operators\n",
        "see \"the the\"\n",
        "the the the\n",
        "The\nthe\n",
        "the   the\n",
        "linked in in most builds\n",
        "whatever the value is is returned\n",
        "a to to_string call\n",
        "x a a b\n",
    ] {
        assert_eq!(fix("a.md", kept), kept);
    }
    assert_eq!(
        fix("a.rs", "let the the = 1; \"the the\"\n"),
        "let the the = 1; \"the the\"\n"
    );
    assert_eq!(
        found(&run("doubled-words", "a.md", "I think that that works\n")),
        ["1:14 doubled-word"]
    );
}

#[test]
fn conflict_markers_are_found_outside_examples() {
    let block = "<<<<<<< HEAD\na\n=======\nb\n>>>>>>> other\n";
    let lines = |path, text: &str| run("conflict-markers", path, text).n_findings;
    assert_eq!(lines("a.rs", block), 3);
    assert_eq!(lines("a.md", block), 3);
    assert_eq!(lines("a.rs", ">>>>>>> other\n"), 1);
    assert_eq!(lines("a.md", &format!("```\n{block}```\n")), 0);
    assert_eq!(lines("a.rs", &format!("let a = \"\n{block}\";\n")), 0);
    assert_eq!(lines("a.rst", "Title\n=======\n"), 0);
    assert_eq!(lines("a.md", ">>>>>>> quoted\n"), 0);
}

#[test]
fn links_lead_to_tracked_files_and_headings() {
    let tree = Files(BTreeMap::from([
        ("docs/a.md", ""),
        (
            "docs/b.md",
            "# One\n## One\n<a id=\"own\"></a>\nTwo *words*\n---\n",
        ),
        ("src/lib.rs", ""),
        ("sub", ""),
    ]));
    let text = "# My `code`, & more\n\
        [ok](b.md) [ok](../src) [ok](b.md#one-1) [ok](b.md#own) [ok](#my-code--more) [ok](b)\n\
        [ok](https://x.y/z) [ok](/abs) [ok](mailto:a@b.c) [ok](../../issues) [ok](../sub/x.c)\n\
        `[code](gone.md)` [ok](b.md#two-words \"title\") ![ok](<b.md>) [ok](../src/lib.rs#L10)\n\
        [no](gone.md) [no](b.md#two) [no](#gone) ![no](x/y.png)\n\n\
        [ok]: b.md\n[no]: c.md\n\n```\n[x](gone.md)\n```\n";
    let report = run_in(
        "links",
        "docs/a.md",
        text.as_bytes(),
        &tree,
        Options::default(),
    );
    assert_eq!(
        found(&report),
        [
            "5:6 missing-file",
            "5:20 missing-anchor",
            "5:35 missing-anchor",
            "5:48 missing-file",
            "8:7 missing-file",
        ]
    );
}

#[test]
fn open_tasks_are_listed_and_become_stale() {
    let text = "// TODO: one\nlet todo = \"TODO: no\"; // FIXME(x) two\n// TODOS\n";
    let report = run("todo", "a.rs", text);
    assert_eq!(found(&report), ["1:4 open-task", "2:27 open-task"]);
    assert_eq!(report.findings[1].message, "FIXME(x) two");
    let args = [b"age_days=400".to_vec(), b"stale_days=365".to_vec()];
    let options = Options::parse(&args).expect("known options");
    let report = run_in("todo", "a.rs", text.as_bytes(), &Files::default(), options);
    assert_eq!(found(&report), ["1:4 stale-task", "2:27 stale-task"]);
}

#[test]
fn long_lines_are_counted_in_characters() {
    let long = "// wörter ".repeat(13);
    let at_limit = "// wörter ".repeat(12);
    let text = format!("{long}\n{at_limit}\n{long} https://a.b\na\nb\nc\n");
    assert_eq!(found(&run("long-lines", "a.rs", text)), ["1:1 long-line"]);
}

/// Invented, and put together here, so that this file holds no token.
#[expect(clippy::indexing_slicing, reason = "tests")]
fn token(prefix: &str, n: usize) -> String {
    let letters = b"q7Rz2LmX9sK4vTbW8nHc3JdY6pFg5Ua1eGxQ0oZiSrVkMwNy";
    prefix
        .chars()
        .chain((0..n).map(|i| char::from(letters[i * 7 % letters.len()])))
        .collect()
}

#[test]
fn secrets_are_found_and_never_shown() {
    for (prefix, n) in [
        ("ghp_", 36),
        ("glpat-", 20),
        ("sk_live_", 24),
        ("AIza", 35),
        ("npm_", 36),
    ] {
        let secret = token(prefix, n);
        let report = run("secrets", "src/a.rs", format!("let a = \"{secret}\";\n"));
        assert_eq!(found(&report), ["1:10 token"], "{prefix}");
        assert!(
            !report
                .json()
                .contains(secret.get(..prefix.len() + 4).unwrap()),
            "{}",
            report.json()
        );
        assert!(report.json().contains("\"severity\":\"secret\""));
    }
    let value = token("", 24);
    let report = run("secrets", "src/a.py", format!("DB_PASSWORD = '{value}'\n"));
    assert_eq!(found(&report), ["1:16 credential"]);
    assert!(!report.json().contains(value.get(..4).unwrap()));
    let key = format!(
        "-----BEGIN RSA PRIVATE {}-----\n{}\n",
        "KEY",
        token("MIIE", 60)
    );
    assert_eq!(found(&run("secrets", "src/a", key)), ["1:1 private-key"]);
    for harmless in [
        "AKIAIOSFODNN7EXAMPLE",
        "-----BEGIN PRIVATE KEY-----",
        "password = \"changeme-changeme-1x2y\"",
        "token = \"${GITHUB_TOKEN_FROM_ENV_1}\"",
        "secret_name = \"q7Rz2LmX9sK4vTbW8nHc3JdY\"",
        "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "password: this-is-a-long-sentence-of-words",
    ] {
        assert!(
            found(&run("secrets", "src/a.rs", harmless)).is_empty(),
            "{harmless}"
        );
    }
}

#[test]
fn wrong_calls_are_errors_and_binaries_are_skipped() {
    let tree = Files::default();
    let input = Input {
        path: b"a",
        bytes: b"a",
        options: Options::default(),
        tree: &tree,
    };
    assert_eq!(
        checks::run("no-such", &input).err(),
        Some(Error::UnknownCheck)
    );
    for bad in ["max", "max=-1", "max=x", "other=1", "\u{0}"] {
        assert_eq!(
            Options::parse(&[bad.into()]).err(),
            Some(Error::BadOption),
            "{bad}"
        );
    }
    let large = vec![b'a'; (10 << 20) + 1];
    let input = Input {
        bytes: &large,
        ..input
    };
    assert_eq!(checks::run("todo", &input).err(), Some(Error::TooLarge));
    assert_eq!(
        run("final-newline", "a.rs", b"a\0b").skipped,
        Some("binary")
    );
    assert!(
        Error::Unreadable
            .json("\"\n")
            .starts_with(r#"{"v":1,"check":"\"\n","error""#)
    );
}

#[test]
fn a_report_is_bounded_and_is_json() {
    let report = run("trailing-whitespace", "a.rs", "a \n".repeat(300));
    assert_eq!(
        (report.findings.len(), report.n_findings, report.edits.len()),
        (100, 300, 300)
    );
    let report = run("trailing-whitespace", "a.rs", "a \n".repeat(6000));
    assert_eq!(
        (report.n_findings, report.n_fixable, report.edits.len()),
        (6000, 0, 0)
    );
    assert!(report.findings.iter().all(|finding| !finding.fixable));
    let text = b"// TODO \"\\\xff\x01\xe2\x80\xa8 \xf0\x9f\x98\x80\n";
    let json = run("todo", "a.rs", text).json();
    assert!(json.contains(r#""message":"TODO \"\\"#), "{json}");
    assert!(!json.bytes().any(|byte| byte < 0x20), "{json}");
    assert!(
        json.ends_with(r#""n_findings":1,"n_fixable":0,"truncated":false,"edit":null}"#),
        "{json}"
    );
    let json = run("final-newline", "a.rs", "a").json();
    let edit = r#""edit":{"kind":"ranges","bytes_before":1,"bytes_after":2,"ranges":[{"start":1,"end":1,"insert":"\n"}]}}"#;
    assert!(json.ends_with(edit), "{json}");
}

/// xorshift64*: the same bytes on every machine.
struct Random(u64);

impl Random {
    #[expect(clippy::expect_used, reason = "tests")]
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let word = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(word).expect("31 bits") % n
    }
}

/// What the scanners branch on.
const PARTS: [&str; 71] = [
    " ",
    "  ",
    "\t",
    "\n",
    "\n",
    "\r\n",
    "\r",
    "the",
    " the ",
    "the the",
    "a a",
    "in",
    " is",
    " of\n",
    "to",
    "log in in",
    "and",
    "or",
    ".",
    ",",
    "word",
    "some prose here",
    "`",
    "``",
    "```",
    "```\n",
    "~~~",
    "\"",
    "'",
    "\"\"\"",
    "'''",
    "r#\"",
    "\"#",
    "R\"(",
    ")\"",
    "\\",
    "//",
    "// ",
    "///",
    "/*",
    "*/",
    "#",
    "# ",
    "- ",
    "1. ",
    "|",
    "<",
    ">",
    "<!--",
    "-->",
    "[a](b)",
    "[a]:",
    "](",
    "](#",
    ")",
    "<<E",
    "E\n",
    "::\n",
    "    ",
    "---\n",
    "<<<<<<< a",
    "=======",
    ">>>>>>> b",
    "TODO",
    "password=\"",
    "AKIA",
    "eyJ.",
    "-----BEGIN ",
    "=|\n",
    "é",
    "\u{2028}",
];

const PATHS: [&str; 16] = [
    "a.md", "a.rs", "a.py", "a.sh", "a.c", "a.js", "a.yml", "a.rst", "a.txt", "a.toml", "a.json",
    "a.bat", "a.lua", "Makefile", "a.css", "a",
];

/// Rounds without optimization take a second; `guests/checks/test.sh` makes many more.
const N_ROUNDS: usize = if cfg!(debug_assertions) { 300 } else { 30_000 };

#[test]
fn any_bytes_give_a_report_whose_edits_settle_the_matter() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for round in 0..N_ROUNDS {
        let mut file = Vec::new();
        for _ in 0..random.below(60) {
            match random.below(12) {
                0 => file.push(u8::try_from(random.below(255) + 1).expect("a byte")),
                _ => file.extend_from_slice(PARTS[random.below(PARTS.len())].as_bytes()),
            }
        }
        let path = PATHS[random.below(PATHS.len())];
        for (check, _) in CHECKS {
            let report = run(check, path, &file);
            let after = apply(&file, &report);
            assert_eq!(report.n_fixable, report.edits.len());
            let show = || {
                format!(
                    "{round} {check} {path} {:?}",
                    String::from_utf8_lossy(&file)
                )
            };
            assert_eq!(run(check, path, &after).n_fixable, 0, "{}", show());
            assert!(
                report.findings.iter().all(|f| f.line > 0 && f.column > 0),
                "{}",
                show()
            );
        }
    }
}

#[test]
fn only_the_bytes_of_the_purpose_change() {
    let blanks = |bytes: &[u8]| {
        bytes
            .iter()
            .copied()
            .filter(|b| !b" \t".contains(b))
            .collect::<Vec<_>>()
    };
    let returns = |bytes: &[u8]| {
        bytes
            .iter()
            .copied()
            .filter(|b| *b != b'\r')
            .collect::<Vec<_>>()
    };
    let mut random = Random(7);
    for _ in 0..300 {
        let parts = (0..40).map(|_| PARTS[random.below(PARTS.len())]);
        let file = parts.collect::<String>().into_bytes();
        let path = PATHS[random.below(PATHS.len())];
        let after = |check| apply(&file, &run(check, path, &file));
        assert_eq!(blanks(&after("trailing-whitespace")), blanks(&file));
        assert_eq!(returns(&after("line-endings")), returns(&file));
        assert!(after("final-newline").starts_with(&file));
    }
}

#[test]
fn repeated_marks_do_no_harm() {
    for part in PARTS
        .iter()
        .step_by(if cfg!(debug_assertions) { 6 } else { 1 })
    {
        let file = part.repeat(N_ROUNDS * 10 / part.len());
        for path in ["a.md", "a.rs", "a.sh"] {
            for (check, _) in CHECKS {
                run(check, path, &file);
            }
        }
    }
}
