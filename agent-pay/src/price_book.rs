//! Rate cards over time.

use std::collections::BTreeMap;
use std::sync::Arc;

use agent_core::Timestamp;

use crate::error::{Error, Result};
use crate::rate_card::RateCard;

/// The rate cards of all times, each from a moment on: what was used then costs what it cost then,
/// also when it is reported late.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PriceBook {
    cards: BTreeMap<Timestamp, Arc<RateCard>>,
}

impl PriceBook {
    /// The most cards: one a day for ten years.
    pub const CARDS_MAX: usize = 4_000;

    /// A book without cards: nothing has a price.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a card that is in force from a moment until the next card's.
    ///
    /// # Errors
    /// `Invalid` if another card begins at that moment or has the same version, or there are too
    /// many.
    pub fn with_card(mut self, from: Timestamp, card: RateCard) -> Result<Self> {
        if self
            .cards
            .values()
            .any(|other| other.version() == card.version())
        {
            return Err(Error::invalid("price book", "two cards of one version"));
        }
        if self.cards.len() >= Self::CARDS_MAX {
            return Err(Error::invalid("price book", "more than 4000 cards"));
        }
        if self.cards.insert(from, Arc::new(card)).is_some() {
            return Err(Error::invalid("price book", "two cards from one moment"));
        }
        Ok(self)
    }

    /// Returns the card in force at a moment.
    #[must_use]
    pub fn card_at(&self, at: Timestamp) -> Option<&RateCard> {
        let (_from, card) = self.cards.range(..=at).next_back()?;
        Some(card)
    }
}

impl From<Arc<RateCard>> for PriceBook {
    /// Takes one card for all times.
    fn from(card: Arc<RateCard>) -> Self {
        let always = Timestamp::from_unix_ms(i64::MIN);
        Self {
            cards: BTreeMap::from([(always, card)]),
        }
    }
}
