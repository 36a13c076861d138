//! How much a guest may have.

use std::time::Duration;

/// What happens when a guest writes more than a stream's limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// The guest is stopped and the outcome says so.
    #[default]
    Stop,
    /// The rest is thrown away and the outcome says so.
    Truncate,
}

/// How much a guest may have. Every field has a default that suits a small check or tool.
///
/// | limit | default |
/// |---|---|
/// | `memory_bytes_max` | 256 MiB |
/// | `table_elements_max` | 20,000 |
/// | `fuel_max` | none |
/// | `wall_max` | 10 s |
/// | `stdout_bytes_max` | 1 MiB |
/// | `stderr_bytes_max` | 256 KiB |
/// | `overflow` | [`Overflow::Stop`] |
/// | `open_files_max` | 128 |
/// | `path_bytes_max` | 4,096 |
/// | `files_max` | 4,096 |
/// | `file_bytes_max` | 64 MiB |
/// | `storage_bytes_max` | 256 MiB |
/// | `random_bytes_max` | 64 KiB |
/// | `iovecs_max` | 1,024 |
/// | `args_bytes_max` | 256 KiB |
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The largest linear memory, in bytes.
    pub memory_bytes_max: u64,
    /// The most elements of a table.
    pub table_elements_max: u64,
    /// The fuel of one execution: about one unit an instruction. Metering costs about a tenth of
    /// the speed or more, so it is off unless a number is given.
    pub fuel_max: Option<u64>,
    /// The longest execution, without waiting for a free slot and compiling.
    pub wall_max: Duration,
    /// The most bytes on standard output; they are held in memory until read.
    pub stdout_bytes_max: u64,
    /// The most bytes on standard error; they are held in memory until read.
    pub stderr_bytes_max: u64,
    /// What happens when a stream's limit is reached.
    pub overflow: Overflow,
    /// The most descriptors open at once, with the standard streams and mounts.
    pub open_files_max: usize,
    /// The longest path, in bytes, also after symbolic links are put in.
    pub path_bytes_max: usize,
    /// The most files, directories and links a sandbox may have made at any time.
    pub files_max: u64,
    /// The largest file a guest may write.
    pub file_bytes_max: u64,
    /// The most bytes in files. In memory mounts, what is held; in host directories, what was
    /// written, since the host's disk cannot tell whose blocks came back.
    pub storage_bytes_max: u64,
    /// The most random bytes of one call; a larger request fails inside the guest.
    pub random_bytes_max: u32,
    /// The most buffers of one scatter or gather call.
    pub iovecs_max: u32,
    /// The most bytes in arguments and environment together.
    pub args_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes_max: 256 << 20,
            table_elements_max: 20_000,
            fuel_max: None,
            wall_max: Duration::from_secs(10),
            stdout_bytes_max: 1 << 20,
            stderr_bytes_max: 256 << 10,
            overflow: Overflow::Stop,
            open_files_max: 128,
            path_bytes_max: 4_096,
            files_max: 4_096,
            file_bytes_max: 64 << 20,
            storage_bytes_max: 256 << 20,
            random_bytes_max: 64 << 10,
            iovecs_max: 1_024,
            args_bytes_max: 256 << 10,
        }
    }
}

impl Limits {
    /// Creates the default limits, listed at [`Limits`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the largest linear memory. Default: 256 MiB.
    #[must_use]
    pub const fn with_memory_bytes_max(mut self, bytes: u64) -> Self {
        self.memory_bytes_max = bytes;
        self
    }

    /// Sets the fuel of one execution. Default: not metered.
    #[must_use]
    pub const fn with_fuel_max(mut self, fuel: u64) -> Self {
        self.fuel_max = Some(fuel);
        self
    }

    /// Sets the longest execution. Default: 10 s.
    #[must_use]
    pub const fn with_wall_max(mut self, wall: Duration) -> Self {
        self.wall_max = wall;
        self
    }

    /// Sets the most bytes on both output streams. Default: 1 MiB and 256 KiB.
    #[must_use]
    pub const fn with_output_bytes_max(mut self, stdout: u64, stderr: u64) -> Self {
        self.stdout_bytes_max = stdout;
        self.stderr_bytes_max = stderr;
        self
    }

    /// Sets what happens when a stream's limit is reached. Default: [`Overflow::Stop`].
    #[must_use]
    pub const fn with_overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// Sets the most descriptors open at once. Default: 128.
    #[must_use]
    pub const fn with_open_files_max(mut self, n: usize) -> Self {
        self.open_files_max = n;
        self
    }

    /// Sets the most files, directories and links. Default: 4,096.
    #[must_use]
    pub const fn with_files_max(mut self, n: u64) -> Self {
        self.files_max = n;
        self
    }

    /// Sets the largest file and the most bytes in all files. Default: 64 MiB and 256 MiB.
    #[must_use]
    pub const fn with_storage_bytes_max(mut self, file: u64, storage: u64) -> Self {
        self.file_bytes_max = file;
        self.storage_bytes_max = storage;
        self
    }

    /// Sets the longest path in bytes. Default: 4,096.
    #[must_use]
    pub const fn with_path_bytes_max(mut self, bytes: usize) -> Self {
        self.path_bytes_max = bytes;
        self
    }

    /// Sets the most random bytes of one call. Default: 64 KiB.
    #[must_use]
    pub const fn with_random_bytes_max(mut self, bytes: u32) -> Self {
        self.random_bytes_max = bytes;
        self
    }

    /// Sets the most buffers of one scatter or gather call. Default: 1,024.
    #[must_use]
    pub const fn with_iovecs_max(mut self, n: u32) -> Self {
        self.iovecs_max = n;
        self
    }
}
