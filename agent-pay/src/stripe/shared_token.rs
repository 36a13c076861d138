//! Shared payment tokens: an agent lets one seller charge a stored method, up to an amount and until
//! a moment, and can take it back.

use agent_core::{IdempotencyKey, Timestamp};
use serde::Deserialize;

use super::client::Stripe;
use super::error::CallError;
use super::form::Form;
use super::id::{MethodId, ProfileId, SharedTokenId};
use super::money::Money;

/// A token to issue.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NewSharedToken {
    method: MethodId,
    seller: ProfileId,
    limit: Money,
    expires_at: Timestamp,
    external_id: Option<String>,
}

impl NewSharedToken {
    /// Lets `seller` charge `method` with at most `limit` until `expires_at`.
    #[must_use]
    pub const fn new(
        method: MethodId,
        seller: ProfileId,
        limit: Money,
        expires_at: Timestamp,
    ) -> Self {
        Self {
            method,
            seller,
            limit,
            expires_at,
            external_id: None,
        }
    }

    /// Sets what the seller calls the purchase. Default: nothing.
    #[must_use]
    pub fn with_external_id(mut self, id: impl Into<String>) -> Self {
        self.external_id = Some(id.into());
        self
    }

    fn form(&self) -> Form {
        let seconds = self.expires_at.as_unix_ms().div_euclid(1_000);
        let external = self.external_id.as_deref();
        Form::new()
            .with("payment_method", self.method.as_str())
            .with(
                "seller_details[network_business_profile]",
                self.seller.as_str(),
            )
            .with_some("seller_details[external_id]", external)
            .with("usage_limits[currency]", self.limit.currency())
            .with("usage_limits[max_amount]", self.limit.minor().to_string())
            .with("usage_limits[expires_at]", seconds.to_string())
    }
}

/// How far a token goes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct UsageLimits {
    /// The currency in lower case.
    pub currency: String,
    /// The most that can be captured, in the currency's units.
    pub max_amount: i64,
    /// When it ends, in seconds since 1970.
    #[serde(default)]
    pub expires_at: Option<i64>,
}

#[derive(Deserialize)]
struct Wire {
    id: String,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    deactivated_at: Option<i64>,
    #[serde(default)]
    deactivated_reason: Option<String>,
    usage_limits: UsageLimits,
}

/// A token, on the side of the agent or of the seller.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SharedToken {
    /// Its name, which is what a seller charges with.
    pub id: SharedTokenId,
    /// Whether it can be charged with.
    pub is_active: bool,
    /// Why not any more: `consumed`, `expired`, `resolved` or `revoked`.
    pub deactivated_reason: Option<String>,
    /// How far it goes.
    pub limits: UsageLimits,
}

impl SharedToken {
    /// Returns whether a charge keeps within the limits, as a seller should ask before it tries.
    #[must_use]
    pub fn covers(&self, money: &Money, now: Timestamp) -> bool {
        let ends = self.limits.expires_at.map(|s| s.saturating_mul(1_000));
        self.is_active
            && self.limits.currency == money.currency()
            && money.minor() <= self.limits.max_amount
            && ends.is_none_or(|ends_ms| now.as_unix_ms() < ends_ms)
    }
}

impl TryFrom<Wire> for SharedToken {
    type Error = CallError;

    fn try_from(wire: Wire) -> Result<Self, CallError> {
        let id = SharedTokenId::new(wire.id);
        let id = id.map_err(|_wrong| CallError::unknown("a token without a proper name"))?;
        // One that waits for a person is not usable, and the seller's side has no status.
        let is_active = wire.deactivated_at.is_none()
            && wire.deactivated_reason.is_none()
            && wire
                .status
                .as_deref()
                .is_none_or(|status| status == "active");
        Ok(Self {
            id,
            is_active,
            deactivated_reason: wire.deactivated_reason,
            limits: wire.usage_limits,
        })
    }
}

impl Stripe {
    /// Issues a token. What Stripe answers must not go further than what was asked.
    ///
    /// # Errors
    /// [`CallError`]; `Unknown` if the answer is another token than asked for.
    ///
    /// # Cancel safety
    /// Not cancel safe; repeat it with the same key.
    pub async fn issue_token(
        &self,
        key: &IdempotencyKey,
        new: &NewSharedToken,
    ) -> Result<SharedToken, CallError> {
        let path = "/v1/shared_payment/issued_tokens";
        let wire: Wire = self.post_shared(path, Some(key), &new.form()).await?;
        let token = SharedToken::try_from(wire)?;
        let is_wider = token.limits.max_amount > new.limit.minor()
            || token.limits.currency != new.limit.currency();
        if is_wider {
            return Err(CallError::unknown("a token that goes further than asked"));
        }
        Ok(token)
    }

    /// Takes a token back: no charge can begin with it any more.
    ///
    /// # Errors
    /// [`CallError`].
    ///
    /// # Cancel safety
    /// Not cancel safe; repeat it.
    pub async fn revoke_token(
        &self,
        key: &IdempotencyKey,
        id: &SharedTokenId,
    ) -> Result<SharedToken, CallError> {
        let path = format!("/v1/shared_payment/issued_tokens/{}/revoke", id.expose());
        let wire: Wire = self.post_shared(&path, Some(key), &Form::new()).await?;
        wire.try_into()
    }

    /// Returns a token this account issued.
    ///
    /// # Errors
    /// [`CallError`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn issued_token(&self, id: &SharedTokenId) -> Result<SharedToken, CallError> {
        let path = format!("/v1/shared_payment/issued_tokens/{}", id.expose());
        self.get_shared::<Wire>(&path).await?.try_into()
    }

    /// Returns a token that was granted to this account, before it is charged.
    ///
    /// # Errors
    /// [`CallError`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn granted_token(&self, id: &SharedTokenId) -> Result<SharedToken, CallError> {
        let path = format!("/v1/shared_payment/granted_tokens/{}", id.expose());
        self.get_shared::<Wire>(&path).await?.try_into()
    }
}
