//! Why a seller refuses.

use serde::Deserialize;

use crate::transport::{self, Refuses, plain};

/// A call to a seller that did not end well.
pub type AcpError = transport::CallError<SellerRefusal>;

/// Why a seller refused, as it said it; text of a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct SellerRefusal {
    /// The HTTP status.
    #[serde(skip)]
    pub status: u16,
    /// The category.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code.
    pub code: String,
    /// Words for people.
    pub message: String,
    /// What it is about.
    pub param: Option<String>,
}

impl Refuses for SellerRefusal {
    const WHO: &'static str = "the seller";
    const CODES: [&'static str; 4] = [
        "pay.acp.refused",
        "pay.acp.busy",
        "pay.acp.unknown",
        "pay.acp.not_sent",
    ];

    fn read(status: u16, body: &[u8]) -> Self {
        let said: Self = serde_json::from_slice(body).unwrap_or_default();
        Self { status, ..said }
    }

    fn status(&self) -> u16 {
        self.status
    }

    fn reason(&self) -> String {
        match self.code.as_str() {
            "" => format!("http_{}", self.status),
            code => plain(code),
        }
    }
}
