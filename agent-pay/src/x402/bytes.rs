//! Byte strings of fixed length as Ethereum writes them: `0x` and hexadecimal digits, no other form.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::eip712::keccak;
use crate::error::{Error, Result};

/// Reads `0x` and exactly as many digits as the bytes have: a shorter or padded text of the same
/// number is another text, and nothing that names a payment may have two.
fn read<const N: usize>(what: &'static str, text: &str) -> Result<[u8; N]> {
    let mut bytes = [0_u8; N];
    let digits = text.strip_prefix("0x");
    let digits = digits.ok_or_else(|| Error::invalid(what, "it does not begin with 0x"))?;
    hex::decode_to_slice(digits, &mut bytes)
        .map_err(|_form| Error::invalid(what, format!("{N} bytes in hexadecimal digits")))?;
    Ok(bytes)
}

macro_rules! bytes {
    ($(#[$doc:meta])* $name:ident, $n:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name([u8; $n]);

        impl $name {
            /// Takes the bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $n]) -> Self {
                Self(bytes)
            }

            /// Returns the bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $n] {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                read($what, text).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;

            fn try_from(text: String) -> Result<Self> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

bytes! {
    /// An account or a contract: 20 bytes. Read in any case of letters, written with the checksum of
    /// EIP-55; two texts of one address are the same address.
    Address, 20, "address"
}

bytes! {
    /// 32 bytes: a nonce, a digest, the hash of a transaction.
    Bytes32, 32, "32 bytes"
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = hex::encode(self.0);
        let digest = keccak(digits.as_bytes());
        f.write_str("0x")?;
        for (n, digit) in digits.chars().enumerate() {
            let byte = digest.get(n / 2).copied().unwrap_or(0);
            let nibble = if n % 2 == 0 { byte >> 4 } else { byte & 15 };
            let written = if nibble >= 8 {
                digit.to_ascii_uppercase()
            } else {
                digit
            };
            fmt::Write::write_char(f, written)?;
        }
        Ok(())
    }
}

impl fmt::Display for Bytes32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{}", hex::encode(self.0))
    }
}

/// A signature by secp256k1 that its signer can be recovered from: r, s, and 27 or 28.
///
/// The other signature of the same message, with the negated s, is not read (EIP-2): tokens refuse
/// it too, and one message has one signature.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Signature([u8; 65]);

impl Signature {
    /// Half of the group's order: s is at most this.
    const S_MAX: [u8; 32] = [
        0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0x5d, 0x57, 0x6e, 0x73, 0x57, 0xa4, 0x50, 0x1d, 0xdf, 0xe9, 0x2f, 0x46, 0x68, 0x1b,
        0x20, 0xa0,
    ];

    /// Takes the bytes.
    ///
    /// # Errors
    /// `Invalid` if the last byte is neither 27 nor 28, or s is in the upper half.
    pub fn from_bytes(bytes: [u8; 65]) -> Result<Self> {
        let [.., v] = bytes;
        if v != 27 && v != 28 {
            return Err(Error::invalid("signature", "its last byte is 27 or 28"));
        }
        if bytes.get(32..64).is_none_or(|s| s > Self::S_MAX.as_slice()) {
            return Err(Error::invalid("signature", "its s is in the upper half"));
        }
        Ok(Self(bytes))
    }

    /// Returns the bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 65] {
        &self.0
    }
}

impl FromStr for Signature {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::from_bytes(read("signature", text)?)
    }
}

impl TryFrom<String> for Signature {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Signature> for String {
    fn from(signature: Signature) -> Self {
        format!("0x{}", hex::encode(signature.0))
    }
}

impl fmt::Debug for Signature {
    /// A signed authorization is money to whoever reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(..)")
    }
}
