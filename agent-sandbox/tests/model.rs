//! Random file operations against a reference that is a map of paths.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;

use agent_core::{Env, Principal, Scope};
use agent_sandbox::backend::wasm::{Config, WasmRuntime};
use agent_sandbox::{
    Access, Error, FileProblem, FileType, Files, Limits, Mount, Program, Runtime, Spec,
};
use proptest::prelude::{Just, Strategy, prop, prop_oneof};
use proptest::test_runner::{Config as ProptestConfig, TestRunner};

const BYTES_MAX: usize = 64;

#[derive(Clone, Debug)]
enum Op {
    Write(String, usize),
    Read(String),
    List(String),
    CreateDir(String),
    Remove(String),
}

fn path() -> impl Strategy<Value = String> {
    let name = prop_oneof![Just("a"), Just("b"), Just("c")];
    prop::collection::vec(name, 1..4).prop_map(|parts| format!("/{}", parts.join("/")))
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (path(), 0..40_usize).prop_map(|(path, len)| Op::Write(path, len)),
        path().prop_map(Op::Read),
        path().prop_map(Op::List),
        path().prop_map(Op::CreateDir),
        path().prop_map(Op::Remove),
    ]
}

/// The reference: `None` is a directory.
#[derive(Default)]
struct Model(BTreeMap<String, Option<usize>>);

impl Model {
    fn parent_problem(&self, path: &str) -> Option<FileProblem> {
        let above = path
            .match_indices('/')
            .skip(1)
            .filter_map(|(at, _)| path.get(..at));
        let mut problems = above.filter_map(|dir| match self.0.get(dir) {
            None => Some(FileProblem::NotFound),
            Some(Some(_)) => Some(FileProblem::NotDirectory),
            Some(None) => None,
        });
        problems.next()
    }

    fn children(&self, path: &str) -> Vec<(String, FileType)> {
        let prefix = format!("{path}/");
        let below = self.0.iter().filter_map(|(name, node)| {
            let rest = name.strip_prefix(&prefix)?;
            let kind = if node.is_some() {
                FileType::File
            } else {
                FileType::Directory
            };
            (!rest.contains('/')).then(|| (rest.to_owned(), kind))
        });
        below.collect()
    }

    fn held(&self) -> usize {
        self.0.values().flatten().sum()
    }

    /// What an operation must answer.
    fn apply(&mut self, op: &Op) -> Result<String, FileProblem> {
        let (Op::Write(path, _)
        | Op::Read(path)
        | Op::List(path)
        | Op::CreateDir(path)
        | Op::Remove(path)) = op;
        if let Some(problem) = self.parent_problem(path) {
            return Err(problem);
        }
        let node = self.0.get(path).copied();
        match (op, node) {
            (Op::Write(..) | Op::Read(_), Some(None)) => Err(FileProblem::IsDirectory),
            (Op::Write(_, len), _) => {
                if self.held() + len > BYTES_MAX {
                    // The name is made before its contents are refused.
                    self.0.entry(path.clone()).or_insert(Some(0));
                    return Err(FileProblem::Quota);
                }
                self.0.insert(path.clone(), Some(*len));
                Ok(String::new())
            }
            (Op::CreateDir(_), None) => {
                self.0.insert(path.clone(), None);
                Ok(String::new())
            }
            (Op::CreateDir(_), Some(_)) => Err(FileProblem::Exists),
            (_, None) => Err(FileProblem::NotFound),
            (Op::Read(_), Some(Some(len))) => Ok(format!("{len}")),
            (Op::List(_), Some(Some(_))) => Err(FileProblem::NotDirectory),
            (Op::List(_), Some(None)) => Ok(format!("{:?}", self.children(path))),
            (Op::Remove(_), Some(None)) if !self.children(path).is_empty() => {
                Err(FileProblem::NotEmpty)
            }
            (Op::Remove(_), Some(_)) => {
                self.0.remove(path);
                Ok(String::new())
            }
        }
    }
}

async fn run(files: &Arc<dyn Files>, op: &Op) -> Result<String, FileProblem> {
    let done = match op {
        Op::Write(path, len) => files
            .write(path, vec![7; *len])
            .await
            .map(|()| String::new()),
        Op::Read(path) => files.read(path, 1_000).await.map(|bytes| {
            assert!(bytes.iter().all(|byte| *byte == 7));
            bytes.len().to_string()
        }),
        Op::List(path) => files.list(path).await.map(|entries| {
            let entries: Vec<_> = entries.into_iter().map(|e| (e.name, e.file_type)).collect();
            format!("{entries:?}")
        }),
        Op::CreateDir(path) => files.create_dir(path).await.map(|()| String::new()),
        Op::Remove(path) => files.remove(path).await.map(|()| String::new()),
    };
    done.map_err(|error| match error {
        Error::File { problem, .. } => problem,
        other => panic!("{other:?}"),
    })
}

fn check(mount: impl Fn() -> (Mount, Option<tempfile::TempDir>), limited: bool) {
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    let runtime = WasmRuntime::open(Config::new(Env::system()).with_pooling(false)).unwrap();
    let smallest = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x07\x0a\x01\x06_start\0\0\x0a\x04\x01\x02\0\x0b";
    let program = Program::wasm("smallest", smallest.as_slice());
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 64,
        ..ProptestConfig::default()
    });
    let ops = prop::collection::vec(op(), 1..60);
    runner
        .run(&ops, |mut ops| {
            if !limited {
                ops.truncate(30);
            }
            let (mount, _guard) = mount();
            let bytes = if limited { 64 } else { 1_000_000 };
            let limits = Limits::new().with_storage_bytes_max(bytes, bytes);
            let spec = Spec::new(program.clone())
                .with_mount("/", mount)
                .with_limits(limits);
            let scope = Scope::new(Principal::host());
            tokio.block_on(async {
                let sandbox = runtime.launch(&scope, spec).await.unwrap();
                let files = sandbox.files();
                let mut model = Model::default();
                for op in &ops {
                    if !limited {
                        // The host's disk does not count what comes back, so sizes stay small.
                        assert!(model.held() < BYTES_MAX * 1_000);
                    }
                    let expected = if limited {
                        model.apply(op)
                    } else {
                        unlimited(&mut model, op)
                    };
                    assert_eq!(run(&files, op).await, expected, "{op:?} of {ops:?}");
                    if limited {
                        let held = u64::try_from(model.held()).unwrap();
                        assert_eq!(sandbox.metrics().storage_bytes, held);
                        let n = u64::try_from(model.0.len()).unwrap();
                        assert_eq!(sandbox.metrics().files, n);
                    }
                }
            });
            Ok(())
        })
        .unwrap();
}

/// Applies an operation to a model without a bound on bytes.
fn unlimited(model: &mut Model, op: &Op) -> Result<String, FileProblem> {
    match op {
        Op::Write(path, len) => {
            let tiny = Op::Write(path.clone(), 0);
            let sizes: Vec<_> = model
                .0
                .iter()
                .map(|(path, size)| (path.clone(), *size))
                .collect();
            for size in model.0.values_mut().flatten() {
                *size = 0;
            }
            let answer = model.apply(&tiny);
            for (path, size) in sizes {
                model.0.insert(path, size);
            }
            if answer.is_ok() {
                model.0.insert(path.clone(), Some(*len));
            }
            answer
        }
        other => model.apply(other),
    }
}

#[test]
fn memory_follows_the_model() {
    check(|| (Mount::Memory, None), true);
}

#[test]
fn host_directory_follows_the_model() {
    check(
        || {
            let dir = tempfile::tempdir().unwrap();
            (
                Mount::host_directory(dir.path(), Access::ReadWrite),
                Some(dir),
            )
        },
        false,
    );
}
