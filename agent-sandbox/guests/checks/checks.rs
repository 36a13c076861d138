//! The command around the checks: arguments and bytes in, one JSON object out. See `README.md`.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::process::ExitCode;

#[path = "checks/lib.rs"]
mod checks;

use checks::{FILE_BYTES_MAX, Input, Options, Tree};

/// Where the host mounts the repository.
const TREE: &str = "/tree";

/// The list of tracked paths may be larger than any one file.
const PATHS_BYTES_MAX: u64 = 64 << 20;

/// The repository as the host mounted it, if it did.
struct Mounted;

impl Tree for Mounted {
    fn paths(&self) -> Option<Vec<u8>> {
        read(&format!("{TREE}/paths"), PATHS_BYTES_MAX)
    }

    fn read(&self, path: &str) -> Option<Vec<u8>> {
        read(&format!("{TREE}/{path}"), FILE_BYTES_MAX)
    }
}

fn read(path: &str, bytes_max: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let n_bytes = File::open(path)
        .ok()?
        .take(bytes_max + 1)
        .read_to_end(&mut bytes)
        .ok()?;
    u64::try_from(n_bytes)
        .is_ok_and(|n| n <= bytes_max)
        .then_some(bytes)
}

fn main() -> ExitCode {
    let mut args = std::env::args_os()
        .skip(1)
        .map(OsString::into_encoded_bytes);
    let check = String::from_utf8_lossy(&args.next().unwrap_or_default()).into_owned();
    let path = args.next().unwrap_or_default();
    let options = args.collect::<Vec<_>>();
    let mut bytes = Vec::new();
    let n_bytes = std::io::stdin()
        .lock()
        .take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes);
    let outcome = match n_bytes {
        Ok(_) => Options::parse(&options).and_then(|options| {
            checks::run(
                &check,
                &Input {
                    path: &path,
                    bytes: &bytes,
                    options,
                    tree: &Mounted,
                },
            )
        }),
        Err(_) => Err(checks::Error::Unreadable),
    };
    let (json, code) = match outcome {
        Ok(report) => (report.json(), ExitCode::SUCCESS),
        Err(error) => (error.json(&check), ExitCode::from(2)),
    };
    let mut stdout = std::io::stdout().lock();
    match stdout
        .write_all(json.as_bytes())
        .and_then(|()| stdout.write_all(b"\n"))
    {
        Ok(()) => code,
        Err(_) => ExitCode::from(3),
    }
}
