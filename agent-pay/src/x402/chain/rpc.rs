//! A chain of Ethereum's kind behind JSON-RPC.

use std::fmt;
use std::sync::Arc;

use agent_core::{BoxError, ErrorKind, Retry};
use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Chain, Execution};
use crate::error::{Error, Result};
use crate::transport::Transport;
use crate::x402::authorization::Authorization;
use crate::x402::bytes::Address;
use crate::x402::eip712::{Domain, keccak};

/// Up to which block a chain is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlockTag {
    /// The newest, which may be replaced by another: for chains of one node, and for tests.
    Latest,
    /// One that is unlikely to be replaced.
    Safe,
    /// One that is never replaced.
    Finalized,
}

impl BlockTag {
    const fn name(self) -> &'static str {
        match self {
            Self::Latest => "latest",
            Self::Safe => "safe",
            Self::Finalized => "finalized",
        }
    }
}

/// A chain of Ethereum's kind that is asked by JSON-RPC: three reads of the Ethereum API
/// (`eth_getBlockByNumber`, `eth_call`, `eth_getLogs`).
#[derive(Clone)]
pub struct EvmRpc {
    transport: Arc<dyn Transport>,
    url: String,
    chain_id: u64,
    tag: BlockTag,
    n_blocks: u64,
}

impl fmt::Debug for EvmRpc {
    /// Without the URL: keys of hosted nodes are part of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EvmRpc")
            .field("chain_id", &self.chain_id)
            .finish_non_exhaustive()
    }
}

impl EvmRpc {
    /// Asks the node at a URL about one chain, up to the finalized block, and looks for transactions
    /// in the last 10,000 blocks, which nodes allow and which is longer than authorizations hold.
    #[must_use]
    pub fn new(transport: Arc<dyn Transport>, url: impl Into<String>, chain_id: u64) -> Self {
        let (url, tag, n_blocks) = (url.into(), BlockTag::Finalized, 10_000);
        Self {
            transport,
            url,
            chain_id,
            tag,
            n_blocks,
        }
    }

    /// Sets up to which block the chain is believed. Default: finalized.
    #[must_use]
    pub const fn with_tag(mut self, tag: BlockTag) -> Self {
        self.tag = tag;
        self
    }

    /// Sets how many blocks are looked through for transactions. Default: 10,000.
    #[must_use]
    pub const fn with_blocks(mut self, n_blocks: u64) -> Self {
        self.n_blocks = n_blocks;
        self
    }

    async fn call(&self, method: &'static str, params: Value) -> Result<Value> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let request = http::Request::post(&self.url)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body.to_string().into_bytes())
            .map_err(|e| failed(method, e.into()))?;
        let answer = self.transport.send(request).await;
        let answer = answer.map_err(|e| failed(method, e.into()))?;
        let mut said: Value =
            serde_json::from_slice(answer.body()).map_err(|e| failed(method, e.into()))?;
        match said.get_mut("result").map(Value::take) {
            Some(result) if !result.is_null() => Ok(result),
            _ => Err(failed(method, "the node answered with an error".into())),
        }
    }

    async fn number(&self, method: &'static str, params: Value) -> Result<u64> {
        let said = self.call(method, params).await?;
        number(&said).ok_or_else(|| failed(method, "the node answered no number".into()))
    }

    async fn logs(&self, token: &Address, blocks: [u64; 2], topics: Value) -> Result<Vec<Value>> {
        let [from, to] = blocks.map(|block| format!("{block:#x}"));
        let filter =
            json!([{ "address": token, "fromBlock": from, "toBlock": to, "topics": topics }]);
        let said = self.call("eth_getLogs", filter).await?;
        Ok(items(&said).to_vec())
    }

    /// Says whether the payer gave a nonce up, after which the token takes it from nobody (EIP-3009,
    /// `cancelAuthorization`).
    async fn is_canceled(
        &self,
        token: &Address,
        blocks: [u64; 2],
        of: &Authorization,
    ) -> Result<bool> {
        let name = event("AuthorizationCanceled(address,bytes32)");
        let topics = json!([name, word(&of.from), of.nonce]);
        Ok(!self.logs(token, blocks, topics).await?.is_empty())
    }

    /// Says how a nonce was used: by the transfer that follows its event, which is the authorization's
    /// own. Another transfer of the same transaction is another payment.
    async fn used(&self, domain: &Domain, of: &Authorization, height: u64) -> Result<Execution> {
        let (token, from) = (&domain.contract, word(&of.from));
        let blocks = [height.saturating_sub(self.n_blocks), height];
        let topics = json!([event("AuthorizationUsed(address,bytes32)"), from, of.nonce]);
        let used = self.logs(token, blocks, topics).await?;
        if used.is_empty() && self.is_canceled(token, blocks, of).await? {
            return Ok(Execution::never("authorization_canceled"));
        }
        // A nonce that was used too long ago to be looked for.
        let odd = || {
            failed(
                "eth_getLogs",
                "the node does not say where the nonce was used".into(),
            )
        };
        let used = used.first().ok_or_else(odd)?;
        let index = member(used, "logIndex").ok_or_else(odd)?;
        let block = member(used, "blockNumber").ok_or_else(odd)?;
        let transaction = text(used, "transactionHash").ok_or_else(odd)?;
        let topics = json!([event("Transfer(address,address,uint256)"), from]);
        let moved = self.logs(token, [block, block], topics).await?;
        let after = |log: &&Value| {
            text(log, "transactionHash") == Some(transaction)
                && member(log, "logIndex") > Some(index)
        };
        let moved = moved
            .iter()
            .filter(after)
            .min_by_key(|log| member(log, "logIndex"));
        let is_paid = moved.is_some_and(|log| {
            let to = log.pointer("/topics/2").and_then(Value::as_str);
            let value = format!("0x{:064x}", of.value.units());
            to == Some(&word(&of.to)) && text(log, "data") == Some(&value)
        });
        Ok(if is_paid {
            Execution::executed(transaction)
        } else {
            Execution::never("nonce_used_otherwise")
        })
    }
}

/// The first topic of an event.
fn event(signature: &str) -> String {
    format!("0x{}", hex::encode(keccak(signature.as_bytes())))
}

/// An address as a topic.
fn word(address: &Address) -> String {
    format!("0x{:0>64}", hex::encode(address.as_bytes()))
}

fn text<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    value.get(name).and_then(Value::as_str)
}

fn member(value: &Value, name: &str) -> Option<u64> {
    value.get(name).and_then(number)
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn number(value: &Value) -> Option<u64> {
    u64::from_str_radix(value.as_str()?.strip_prefix("0x")?, 16).ok()
}

fn failed(operation: &'static str, source: BoxError) -> Error {
    Error::backend(
        "evm node",
        operation,
        ErrorKind::Unavailable,
        Retry::Safe,
        source,
    )
}

#[async_trait]
impl Chain for EvmRpc {
    async fn look_up(&self, domain: Domain, authorization: Authorization) -> Result<Execution> {
        if domain.chain_id != self.chain_id
            || self.number("eth_chainId", json!([])).await? != self.chain_id
        {
            return Err(Error::invalid("chain", "the node is of another chain"));
        }
        let method = "eth_getBlockByNumber";
        let block = self.call(method, json!([self.tag.name(), false])).await?;
        let of_block = |name: &str| {
            let found = block.get(name).and_then(number);
            found.ok_or_else(|| failed(method, "a block without number or time".into()))
        };
        let (height, time) = (of_block("number")?, of_block("timestamp")?);
        let selector = keccak(b"authorizationState(address,bytes32)");
        let data = format!(
            "0x{}{:0>64}{}",
            hex::encode(selector.get(..4).unwrap_or_default()),
            hex::encode(authorization.from.as_bytes()),
            hex::encode(authorization.nonce.as_bytes()),
        );
        let call = json!([{ "to": domain.contract, "data": data }, format!("{height:#x}")]);
        let state = self.call("eth_call", call).await?;
        let is_used = match state.as_str().and_then(|s| s.strip_prefix("0x")) {
            Some(word) if word.len() == 64 => word.bytes().any(|b| b != b'0'),
            _ => {
                return Err(failed(
                    "eth_call",
                    "the token says nothing of the nonce".into(),
                ));
            }
        };
        if is_used {
            return self.used(&domain, &authorization, height).await;
        }
        // Time in blocks only grows, and the token wants a block before `valid_before`.
        if time >= authorization.valid_before {
            return Ok(Execution::never("authorization_expired"));
        }
        Ok(Execution::NotYet)
    }
}
