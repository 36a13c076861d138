//! The cache of compiled programs on disk: shared by processes, and never trusted.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use agent_core::{Classify as _, Env, ErrorKind, Principal, Scope, SecretBytes};
use agent_sandbox::backend::wasm::{Config, WasmRuntime};
use agent_sandbox::{Exec, Program, Spec};

const HELLO: &[u8] = include_bytes!("../guests/probe/hello.wasm");

fn key(byte: u8) -> Option<SecretBytes> {
    Some(SecretBytes::new(Box::new(vec![byte; 32])))
}

/// Opens a runtime on the directory and runs a guest.
fn run(directory: &Path, key: Option<SecretBytes>) {
    let config = Config::new(Env::system())
        .with_concurrency_max(2)
        .with_cache(directory, key);
    let runtime = WasmRuntime::open(config).unwrap();
    let spec = Spec::new(Program::wasm("hello", HELLO));
    let sandbox = runtime.launch_blocking(spec).unwrap();
    let scope = Scope::new(Principal::host());
    let output = sandbox.output_blocking(&scope, &Exec::new()).unwrap();
    assert_eq!(output.stdout_lossy(), "hello from a guest\n");
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let listing = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    listing
        .filter(|path| path.extension().is_some_and(|ext| ext == "cwasm"))
        .collect()
}

fn only_entry(directory: &Path) -> PathBuf {
    let entries = entries(directory);
    assert_eq!(entries.len(), 1);
    entries.into_iter().next().unwrap()
}

#[test]
fn entry_is_used_by_the_next_process() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), None);
    let entry = only_entry(dir.path());
    let first = (
        fs::read(&entry).unwrap(),
        fs::metadata(&entry).unwrap().modified().unwrap(),
    );
    run(dir.path(), None);
    // An entry that is used is not written again.
    let second = (
        fs::read(&entry).unwrap(),
        fs::metadata(&entry).unwrap().modified().unwrap(),
    );
    assert!(first == second);
}

#[test]
fn changed_entry_is_compiled_afresh() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), key(1));
    let entry = only_entry(dir.path());
    let good = fs::read(&entry).unwrap();
    // A byte of the magic, the MAC, the start and the end of the code; then cut and empty entries.
    for at in [0, 10, 41, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&entry, &bad).unwrap();
        run(dir.path(), key(1));
        assert!(fs::read(&entry).unwrap() == good, "the entry is replaced");
    }
    for len in [0, 7, 40, good.len() - 1] {
        fs::write(&entry, &good[..len]).unwrap();
        run(dir.path(), key(1));
        assert!(fs::read(&entry).unwrap() == good, "the entry is replaced");
    }
}

#[test]
fn entry_of_another_key_is_compiled_afresh() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), key(1));
    let entry = only_entry(dir.path());
    let foreign = fs::read(&entry).unwrap();
    run(dir.path(), key(2));
    assert!(fs::read(&entry).unwrap() != foreign);
}

#[test]
fn entry_in_anothers_place_is_compiled_afresh() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), key(1));
    let hello = only_entry(dir.path());
    let good = fs::read(&hello).unwrap();
    // Another program for the same engine: the engine alone would take its code for the first's.
    let quiet = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x07\x0a\x01\x06_start\0\0\x0a\x04\x01\x02\0\x0b";
    let config = Config::new(Env::system())
        .with_concurrency_max(2)
        .with_cache(dir.path(), key(1));
    let runtime = WasmRuntime::open(config).unwrap();
    let quiet = Program::wasm("quiet", quiet.as_slice());
    runtime.launch_blocking(Spec::new(quiet)).unwrap();
    let other = entries(dir.path())
        .into_iter()
        .find(|path| *path != hello)
        .unwrap();
    fs::copy(&other, &hello).unwrap();
    run(dir.path(), key(1));
    assert!(fs::read(&hello).unwrap() == good);
}

#[test]
fn own_key_is_private_and_refused_if_others_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    run(&cache, None);
    let file = cache.join("key");
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(fs::read(&file).unwrap().len(), 32);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let config = Config::new(Env::system()).with_cache(&cache, None);
    let refused = WasmRuntime::open(config).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
}

#[test]
fn short_key_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let short = Some(SecretBytes::new(Box::new(vec![1; 31])));
    let config = Config::new(Env::system()).with_cache(dir.path(), short);
    assert_eq!(
        WasmRuntime::open(config).unwrap_err().kind(),
        ErrorKind::Invalid
    );
}
