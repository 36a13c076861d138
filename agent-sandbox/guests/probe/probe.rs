//! The guest of the conformance suite: each command is one thing a program, or an attacker, does.
//!
//! A command prints what happened and exits with 0; refusals of the host are printed by their
//! number, so that the suite can compare them.

use std::env;
use std::fs;
use std::io::{self, Read, Write};
use std::process::exit;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    fn random_get(buffer: *mut u8, len: usize) -> u16;
    fn fd_write(fd: u32, buffers: *const [u32; 2], n: u32, written: *mut u32) -> u16;
    fn fd_prestat_get(fd: u32, into: *mut [u32; 2]) -> u16;
    fn fd_renumber(from: u32, to: u32) -> u16;
    fn path_open(
        fd: u32,
        flags: u32,
        path: *const u8,
        len: usize,
        oflags: u32,
        rights: u64,
        inheriting: u64,
        fdflags: u32,
        into: *mut u32,
    ) -> u16;
    fn path_symlink(target: *const u8, len: usize, fd: u32, path: *const u8, path_len: usize) -> u16;
    fn path_filestat_get(fd: u32, flags: u32, path: *const u8, len: usize, into: *mut [u64; 8]) -> u16;
    fn path_rename(
        fd: u32,
        path: *const u8,
        len: usize,
        to_fd: u32,
        to: *const u8,
        to_len: usize,
    ) -> u16;
    fn sock_shutdown(fd: u32, how: u32) -> u16;
}

fn main() {
    let args: Vec<String> = env::args().collect();
    let command = args.get(1).map_or("", String::as_str);
    let text = |index: usize| args.get(index).map_or("", String::as_str);
    let number = |index: usize| text(index).parse::<usize>().unwrap_or(0);
    match command {
        "exit" => exit(number(2) as i32),
        "panic" => panic!("as asked"),
        "args" => println!("{args:?}"),
        "env" => println!("{:?}", env::vars().collect::<Vec<_>>()),
        "mounts" => mounts(),
        "cat-stdin" => cat_stdin(),
        "echo-lines" => echo_lines(),
        "both" => {
            print!("to stdout");
            eprint!("to stderr");
        }
        "flood" => flood(number(2)),
        "loop" => endless(),
        "recurse" => println!("{}", recurse(1)),
        "allocate" => allocate(number(2)),
        "stain" => println!("{}", stain()),
        "time" => time(),
        "sleep" => {
            let before = Instant::now();
            std::thread::sleep(std::time::Duration::from_millis(number(2) as u64));
            println!("{}", before.elapsed().as_millis());
        }
        "random" => random(number(2)),
        "read" => report(fs::read_to_string(text(2))),
        "write" => report(fs::write(text(2), text(3)).map(|()| "written".to_owned())),
        "append" => append(text(2), text(3)),
        "list" => list(text(2)),
        "remove" => report(fs::remove_file(text(2)).map(|()| "removed".to_owned())),
        "grow" => grow(text(2), number(3)),
        "many-files" => many_files(text(2), number(3)),
        "many-open" => many_open(text(2)),
        "escape" => escapes(3, text(2)),
        "long-path" => println!("{}", open(3, &"a/".repeat(number(2)), 0, 0)),
        "cross-mount" => println!("{}", rename(3, "a", 4, "b")),
        "iovec-wrap" => raw_write(&[[u32::MAX - 8, 16]]),
        "iovec-outside" => raw_write(&[[0, u32::MAX - 1]]),
        "iovec-total" => raw_write(&vec![[0, 65_536]; number(2)]),
        "renumber" => {
            // A mount moved over the standard output must not become a way to print.
            let errno = unsafe { fd_renumber(3, 1) };
            let mut written = 0;
            let again = unsafe { fd_write(1, [[0, 1]].as_ptr(), 1, &raw mut written) };
            exit(i32::from(errno) * 100 + i32::from(again));
        }
        "socket" => println!("{}", unsafe { sock_shutdown(3, 0) }),
        other => {
            eprintln!("unknown command {other:?}");
            exit(64);
        }
    }
}

fn report(result: io::Result<String>) {
    match result {
        Ok(text) => println!("{text}"),
        Err(error) => println!("errno {}", error.raw_os_error().unwrap_or(-1)),
    }
}

fn mounts() {
    for fd in 3.. {
        let mut stat = [0; 2];
        if unsafe { fd_prestat_get(fd, &raw mut stat) } != 0 {
            println!("{}", fd - 3);
            return;
        }
    }
}

fn cat_stdin() {
    let mut all = Vec::new();
    io::stdin().read_to_end(&mut all).unwrap();
    io::stdout().write_all(&all).unwrap();
}

fn echo_lines() {
    let mut line = String::new();
    while io::stdin().read_line(&mut line).unwrap() > 0 {
        print!("got {line}");
        io::stdout().flush().unwrap();
        line.clear();
    }
}

fn flood(bytes: usize) {
    let chunk = [b'x'; 4_096];
    let mut left = bytes;
    while left > 0 {
        let n = left.min(chunk.len());
        io::stdout().write_all(&chunk[..n]).unwrap();
        left -= n;
    }
}

fn endless() {
    let mut n = 0_u64;
    loop {
        n = std::hint::black_box(n).wrapping_add(1);
    }
}

#[inline(never)]
fn recurse(depth: u64) -> u64 {
    let pad = std::hint::black_box([depth; 16]);
    if depth == u64::MAX { 0 } else { recurse(depth + 1).wrapping_add(pad[3]) }
}

fn allocate(bytes: usize) {
    let memory = vec![1_u8; std::hint::black_box(bytes)];
    println!("allocated {}", std::hint::black_box(memory).len());
}

/// Grows the memory, counts the bytes there that are not zero, and fills them.
fn stain() -> usize {
    let pages = core::arch::wasm32::memory_grow(0, 64);
    let bytes = unsafe { std::slice::from_raw_parts_mut((pages * 65_536) as *mut u8, 64 * 65_536) };
    let dirty = bytes.iter().filter(|byte| **byte != 0).count();
    std::hint::black_box(bytes).fill(0xa5);
    dirty
}

fn time() {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let (a, b) = (Instant::now(), Instant::now());
    println!("{wall} {}", (b - a).as_nanos());
}

fn random(len: usize) {
    let mut bytes = vec![0; len];
    let errno = unsafe { random_get(bytes.as_mut_ptr(), len) };
    let hex: String = bytes.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    println!("{errno} {hex}");
}

fn append(path: &str, text: &str) {
    let file = fs::OpenOptions::new().append(true).create(true).open(path);
    report(file.and_then(|mut file| file.write_all(text.as_bytes())).map(|()| "written".to_owned()));
}

fn list(path: &str) {
    let Ok(entries) = fs::read_dir(path) else { return println!("cannot list") };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    println!("{}", names.join(" "));
}

/// Writes pieces of 64 KiB until the host refuses.
fn grow(path: &str, n_pieces: usize) {
    let mut file = fs::File::create(path).unwrap();
    let piece = vec![7; 65_536];
    for n in 0..n_pieces {
        if let Err(error) = file.write_all(&piece) {
            return println!("errno {} after {n}", error.raw_os_error().unwrap_or(-1));
        }
    }
    println!("wrote {n_pieces}");
}

fn many_files(dir: &str, n_files: usize) {
    for n in 0..n_files {
        if let Err(error) = fs::write(format!("{dir}/{n}"), "") {
            return println!("errno {} after {n}", error.raw_os_error().unwrap_or(-1));
        }
    }
    println!("made {n_files}");
}

fn many_open(path: &str) {
    fs::write(path, "").unwrap();
    let mut files = Vec::new();
    loop {
        match fs::File::open(path) {
            Ok(file) => files.push(file),
            Err(error) => {
                return println!("errno {} after {}", error.raw_os_error().unwrap_or(-1), files.len());
            }
        }
    }
}

fn open(fd: u32, path: &str, oflags: u32, rights: u64) -> u16 {
    let mut into = 0;
    unsafe { path_open(fd, 1, path.as_ptr(), path.len(), oflags, rights, 0, 0, &raw mut into) }
}

fn symlink(target: &str, fd: u32, path: &str) -> u16 {
    unsafe { path_symlink(target.as_ptr(), target.len(), fd, path.as_ptr(), path.len()) }
}

fn stat(fd: u32, path: &str) -> u16 {
    let mut into = [0; 8];
    unsafe { path_filestat_get(fd, 1, path.as_ptr(), path.len(), &raw mut into) }
}

fn rename(fd: u32, path: &str, to_fd: u32, to: &str) -> u16 {
    unsafe { path_rename(fd, path.as_ptr(), path.len(), to_fd, to.as_ptr(), to.len()) }
}

/// Tries every way out of a mount; `outside` is a file beside the mounted directory.
fn escapes(fd: u32, outside: &str) {
    let _made = fs::create_dir("inner");
    let up = format!("../{outside}");
    let deep = format!("inner/../../{outside}");
    let absolute = format!("/{outside}");
    println!("up {}", open(fd, &up, 0, 2));
    println!("deep {}", open(fd, &deep, 0, 2));
    println!("absolute {}", open(fd, &absolute, 0, 2));
    println!("create {}", open(fd, &up, 1, 64));
    println!("dots {}", open(fd, "..", 2, 2));
    println!("rename {}", rename(fd, "inner", fd, &up));
    // A link out may be made, but not gone through; a host may refuse to make it.
    for (name, target) in [("link", up.as_str()), ("slash", "../"), ("dir", ".."), ("abs", "/")] {
        let made = symlink(target, fd, name);
        let followed = open(fd, name, 0, 2);
        let through = open(fd, &format!("{name}/{outside}"), 0, 2);
        let beyond = stat(fd, &format!("{name}/"));
        println!("{name} {} {} {}", followed != 0, through != 0, beyond != 0);
        let _made = made;
    }
    println!("loop {}", (symlink("ring", fd, "ring"), open(fd, "ring", 0, 2)).1);
}

fn raw_write(buffers: &[[u32; 2]]) {
    let mut written = 0;
    let errno = unsafe { fd_write(1, buffers.as_ptr(), buffers.len() as u32, &raw mut written) };
    eprintln!("{errno}");
}
