//! What a path says about a file: how it is written and whether it may be changed.

use super::bytes;

/// How a file is to be read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Syntax {
    Markdown,
    Rst,
    /// Prose without markup.
    Text,
    /// A language whose comments and strings can be told apart.
    Source(&'static Lang),
    Yaml,
    /// Structured data that has no strings over several lines, and no comments.
    Data,
    /// Only lines that start with one of these markers are understood, as comments.
    Loose(&'static [&'static str]),
    Unknown,
}

/// The lexical rules of a language.
#[derive(Debug)]
pub(crate) struct Lang {
    pub(crate) line: &'static [&'static str],
    pub(crate) block: Option<(&'static str, &'static str)>,
    pub(crate) quotes: &'static [Quote],
    pub(crate) quirk: Quirk,
}

/// What else has to be known to find the strings of a language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quirk {
    None,
    /// Nested comments, lifetimes, raw strings.
    Rust,
    /// Raw strings `R"x(…)x"`.
    Cpp,
    /// Docstrings.
    Python,
    /// Here-documents; `#` starts a comment after a blank alone.
    Shell,
}

/// One kind of string.
#[derive(Debug)]
pub(crate) struct Quote {
    pub(crate) mark: &'static str,
    pub(crate) escapes: bool,
    pub(crate) multiline: bool,
}

const fn quote(mark: &'static str, escapes: bool, multiline: bool) -> Quote {
    Quote {
        mark,
        escapes,
        multiline,
    }
}

const C_BLOCK: Option<(&str, &str)> = Some(("/*", "*/"));

static RUST: Lang = Lang {
    line: &["//"],
    block: C_BLOCK,
    quotes: &[quote("\"", true, true)],
    quirk: Quirk::Rust,
};
static C: Lang = Lang {
    line: &["//"],
    block: C_BLOCK,
    quotes: &[quote("\"", true, false), quote("'", true, false)],
    quirk: Quirk::Cpp,
};
static JAVA: Lang = Lang {
    line: &["//"],
    block: C_BLOCK,
    quotes: &[
        quote("\"\"\"", true, true),
        quote("\"", true, false),
        quote("'", true, false),
    ],
    quirk: Quirk::None,
};
static SCRIPT: Lang = Lang {
    line: &["//"],
    block: C_BLOCK,
    quotes: &[
        quote("`", true, true),
        quote("\"", true, false),
        quote("'", true, false),
    ],
    quirk: Quirk::None,
};
static GO: Lang = Lang {
    line: &["//"],
    block: C_BLOCK,
    quotes: &[
        quote("`", false, true),
        quote("\"", true, false),
        quote("'", true, false),
    ],
    quirk: Quirk::None,
};
static PYTHON: Lang = Lang {
    line: &["#"],
    block: None,
    quotes: &[
        quote("\"\"\"", true, true),
        quote("'''", true, true),
        quote("\"", true, false),
        quote("'", true, false),
    ],
    quirk: Quirk::Python,
};
static TOML: Lang = Lang {
    line: &["#"],
    block: None,
    quotes: &[
        quote("\"\"\"", true, true),
        quote("'''", false, true),
        quote("\"", true, false),
        quote("'", false, false),
    ],
    quirk: Quirk::None,
};
static SHELL: Lang = Lang {
    line: &["#"],
    block: None,
    quotes: &[quote("'", false, true), quote("\"", true, true)],
    quirk: Quirk::Shell,
};
static CSS: Lang = Lang {
    line: &[],
    block: C_BLOCK,
    quotes: &[quote("\"", true, false), quote("'", true, false)],
    quirk: Quirk::None,
};

/// How the file at a path is to be read.
pub(crate) fn of(path: &[u8]) -> Syntax {
    let name = name(path);
    match name.as_slice() {
        b"dockerfile" | b"makefile" | b"gnumakefile" | b".gitignore" | b".gitattributes" => {
            return Syntax::Loose(&["#"]);
        }
        b"cmakelists.txt" => return Syntax::Loose(&["#"]),
        _ => {}
    }
    match extension(&name) {
        b"md" | b"markdown" | b"mdx" => Syntax::Markdown,
        b"rst" => Syntax::Rst,
        b"txt" | b"text" | b"adoc" | b"asciidoc" => Syntax::Text,
        b"rs" => Syntax::Source(&RUST),
        b"c" | b"h" | b"cc" | b"cpp" | b"cxx" | b"hh" | b"hpp" | b"hxx" | b"m" | b"mm" | b"cu"
        | b"proto" => Syntax::Source(&C),
        b"java" | b"kt" | b"kts" | b"scala" | b"swift" | b"dart" => Syntax::Source(&JAVA),
        b"js" | b"jsx" | b"mjs" | b"cjs" | b"ts" | b"tsx" | b"mts" | b"cts" => {
            Syntax::Source(&SCRIPT)
        }
        b"go" => Syntax::Source(&GO),
        b"py" | b"pyi" | b"bzl" | b"bazel" => Syntax::Source(&PYTHON),
        b"toml" => Syntax::Source(&TOML),
        b"sh" | b"bash" | b"zsh" => Syntax::Source(&SHELL),
        b"css" | b"scss" | b"less" => Syntax::Source(&CSS),
        b"yml" | b"yaml" => Syntax::Yaml,
        b"json" | b"json5" | b"jsonc" | b"webmanifest" => Syntax::Data,
        b"rb" | b"pl" | b"pm" | b"ex" | b"exs" | b"nix" | b"r" | b"ini" | b"cfg" | b"conf"
        | b"cmake" | b"mk" | b"jl" | b"tcl" => Syntax::Loose(&["#"]),
        b"php" | b"cs" | b"zig" | b"vue" | b"svelte" | b"groovy" | b"gradle" | b"fs" => {
            Syntax::Loose(&["//"])
        }
        b"sql" | b"lua" | b"hs" | b"elm" => Syntax::Loose(&["--"]),
        b"el" | b"lisp" | b"clj" | b"scm" | b"asm" | b"wat" => Syntax::Loose(&[";"]),
        b"tex" | b"erl" => Syntax::Loose(&["%"]),
        b"bat" | b"cmd" => Syntax::Loose(&["rem ", "REM ", "::"]),
        _ => Syntax::Unknown,
    }
}

/// Folders whose files other programs compare byte by byte, or that belong to somebody else.
const VERBATIM_FOLDERS: [&[u8]; 22] = [
    b"testdata",
    b"test_data",
    b"test-data",
    b"fixture",
    b"fixtures",
    b"snapshot",
    b"snapshots",
    b"__snapshots__",
    b"golden",
    b"goldens",
    b"baselines",
    b"corpus",
    b"corpora",
    b"vendor",
    b"vendored",
    b"third_party",
    b"third-party",
    b"node_modules",
    b"ui",
    b"dist",
    b"samples",
    b"licenses",
];

/// Extensions of files whose every byte may matter.
const VERBATIM_EXTENSIONS: [&[u8]; 26] = [
    b"patch",
    b"diff",
    b"rej",
    b"orig",
    b"snap",
    b"golden",
    b"approved",
    b"expected",
    b"expect",
    b"stdout",
    b"stderr",
    b"out",
    b"ref",
    b"csv",
    b"tsv",
    b"tab",
    b"svg",
    b"lock",
    b"sum",
    b"pem",
    b"crt",
    b"key",
    b"pub",
    b"map",
    b"po",
    b"eml",
];

/// Why a file's bytes are not to be judged by taste, if there is a reason.
pub(crate) fn verbatim(path: &[u8], bytes: &[u8]) -> Option<&'static str> {
    let name = name(path);
    let folders = path.rsplit(|byte| *byte == b'/').skip(1);
    let mut folders = folders.map(<[u8]>::to_ascii_lowercase);
    // `ui` holds the expected messages of compilers when it lies below `tests`.
    let is_in = |folder: &[u8]| VERBATIM_FOLDERS.contains(&folder) && folder != b"ui";
    let is_ui = bytes::find(path, b"tests/ui/", 0).is_some();
    let is_legal = [
        b"license".as_slice(),
        b"licence",
        b"copying",
        b"notice",
        b"unlicense",
    ]
    .iter()
    .any(|legal| name.starts_with(legal));
    if folders.any(|folder| is_in(&folder)) || is_ui {
        return Some("verbatim");
    }
    if is_legal || VERBATIM_EXTENSIONS.contains(&extension(&name)) {
        return Some("verbatim");
    }
    let is_minified = name.windows(5).any(|part| part == b".min.");
    (is_minified || is_generated(bytes)).then_some("generated")
}

/// Bytes in which generators say that a file is theirs.
const BANNER_BYTES: usize = 1500;

fn is_generated(bytes: &[u8]) -> bool {
    let head = bytes::slice(bytes, 0, BANNER_BYTES);
    [
        "@generated",
        "code generated by",
        "automatically generated",
        "auto-generated",
        "autogenerated",
        "generated automatically",
        "this file is generated",
        "file was generated",
        "do not edit",
    ]
    .iter()
    .any(|banner| bytes::contains_ignoring_case(head, banner))
}

/// Whether a path lies among tests or examples, where credentials are mostly invented.
pub(crate) fn is_test(path: &[u8]) -> bool {
    [
        "test", "example", "spec", "mock", "fixture", "bench", "sample", "demo",
    ]
    .iter()
    .any(|word| bytes::contains_ignoring_case(path, word))
}

/// Whether the file is a script of the Windows command processor.
pub(crate) fn is_batch(path: &[u8]) -> bool {
    [b"bat".as_slice(), b"cmd"].contains(&extension(&name(path)))
}

/// Whether settings stand in the file without quotes around their values.
pub(crate) fn is_settings(path: &[u8]) -> bool {
    let name = name(path);
    name.starts_with(b".env")
        || [
            b"env".as_slice(),
            b"ini",
            b"cfg",
            b"conf",
            b"properties",
            b"yml",
            b"yaml",
        ]
        .contains(&extension(&name))
}

fn name(path: &[u8]) -> Vec<u8> {
    path.rsplit(|byte| *byte == b'/')
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase()
}

fn extension(name: &[u8]) -> &[u8] {
    name.iter()
        .rposition(|byte| *byte == b'.')
        .map_or(&[], |dot| bytes::slice(name, dot + 1, name.len()))
}
