//! Typed data as it is signed: EIP-712 digests of EIP-3009 authorizations and of signed offers.

use sha3::{Digest as _, Keccak256};

use super::authorization::Authorization;
use super::bytes::{Address, Bytes32};

/// The hash of Ethereum, which is not the standardized SHA-3.
pub(super) fn keccak(bytes: &[u8]) -> [u8; 32] {
    Keccak256::digest(bytes).into()
}

/// What a signature is for, besides its message: a contract on a chain (EIP-712, `EIP712Domain`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Domain {
    /// The token's name.
    pub name: String,
    /// The version of its signed data.
    pub version: String,
    /// The chain (EIP-155).
    pub chain_id: u64,
    /// The token.
    pub contract: Address,
}

impl Domain {
    /// Describes a domain.
    #[must_use]
    pub fn new(name: &str, version: &str, chain_id: u64, contract: Address) -> Self {
        let (name, version) = (name.to_owned(), version.to_owned());
        Self {
            name,
            version,
            chain_id,
            contract,
        }
    }

    fn separator(&self) -> [u8; 32] {
        const TYPE: &[u8] =
            b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)";
        Words::of(TYPE)
            .hashed(self.name.as_bytes())
            .hashed(self.version.as_bytes())
            .number(self.chain_id.into())
            .address(&self.contract)
            .hash()
    }

    /// Digests an authorization for the token of this domain, as EIP-3009 has it signed.
    #[must_use]
    pub fn digest(&self, authorization: &Authorization) -> Bytes32 {
        const TYPE: &[u8] = b"TransferWithAuthorization(address from,address to,uint256 value,\
                              uint256 validAfter,uint256 validBefore,bytes32 nonce)";
        let message = Words::of(TYPE)
            .address(&authorization.from)
            .address(&authorization.to)
            .number(authorization.value.units())
            .number(authorization.valid_after.into())
            .number(authorization.valid_before.into())
            .word(authorization.nonce.as_bytes())
            .hash();
        typed(&self.separator(), &message)
    }
}

/// The digest of a struct under a domain.
pub(super) fn typed(separator: &[u8; 32], message: &[u8; 32]) -> Bytes32 {
    let mut bytes = vec![0x19, 0x01];
    bytes.extend_from_slice(separator);
    bytes.extend_from_slice(message);
    Bytes32::from_bytes(keccak(&bytes))
}

/// The encoded members of a struct, 32 bytes each after the hash of its type.
pub(super) struct Words(Vec<u8>);

impl Words {
    pub(super) fn of(kind: &[u8]) -> Self {
        Self(keccak(kind).to_vec())
    }

    pub(super) fn word(mut self, word: &[u8; 32]) -> Self {
        self.0.extend_from_slice(word);
        self
    }

    pub(super) fn hashed(self, bytes: &[u8]) -> Self {
        self.word(&keccak(bytes))
    }

    pub(super) fn number(mut self, number: u128) -> Self {
        self.0.extend_from_slice(&[0; 16]);
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    pub(super) fn address(mut self, address: &Address) -> Self {
        self.0.extend_from_slice(&[0; 12]);
        self.0.extend_from_slice(address.as_bytes());
        self
    }

    pub(super) fn hash(self) -> [u8; 32] {
        keccak(&self.0)
    }
}
