//! Randomness as a dependency, so that a run can be repeated bit for bit.

use std::fmt;

/// Fills buffers with random bytes.
pub trait Entropy: fmt::Debug + Send + Sync + 'static {
    /// Fills the whole buffer.
    fn fill(&self, buffer: &mut [u8]);
}

/// Shorthands over [`Entropy`], for users. Do not implement it.
pub trait EntropyExt: Entropy {
    /// Returns a uniformly distributed number.
    fn next_u64(&self) -> u64 {
        let mut bytes = [0_u8; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Returns true in `per_million` of a million cases.
    fn chance(&self, per_million: u32) -> bool {
        self.next_u64() % 1_000_000 < u64::from(per_million)
    }
}

impl<E: Entropy + ?Sized> EntropyExt for E {}

/// The operating system's generator; the only source fit for keys.
#[derive(Debug, Default, Clone, Copy)]
#[non_exhaustive]
pub struct OsEntropy;

impl OsEntropy {
    /// Creates the source; nothing is opened until the first use.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl Entropy for OsEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        // A system without a random source cannot run agents with keys: retry until it answers,
        // since returning predictable bytes would be worse than waiting.
        while getrandom::fill(buffer).is_err() {
            std::thread::yield_now();
        }
    }
}

/// A repeatable source: the BLAKE3 extendable output of a seed. Never use it for keys.
#[derive(Debug)]
pub struct SeededEntropy {
    output: parking_lot::Mutex<blake3::OutputReader>,
}

impl SeededEntropy {
    /// Creates the source; the same seed gives the same bytes.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"agent-core seeded entropy v1");
        hasher.update(&seed.to_le_bytes());
        Self {
            output: parking_lot::Mutex::new(hasher.finalize_xof()),
        }
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        self.output.lock().fill(buffer);
    }
}
