//! What embedding again reports, in every backend that does it.

/// How far embedding again has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Embedded {
    /// How many memories this call embedded.
    pub n_done: usize,
    /// How many are left where the call looks: in a file all, in a database the tenant's.
    pub n_left: usize,
}
