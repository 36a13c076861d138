//! Sessions and orders as the protocol shows them.

use serde_json::{Map, Value, json};

use super::VERSION;
use super::merchant::{FulfillmentOption, NoteLevel, QuotedLine};
use super::seller::SellerConfig;
use super::session::{Session, Totals};
use crate::error::Result;

fn total(kind: &str, text: &str, amount: i64) -> Value {
    json!({ "type": kind, "display_text": text, "amount": amount })
}

fn line(line: &QuotedLine) -> Value {
    // Checked when the quote was taken.
    let base = line.unit_amount.saturating_mul(i64::from(line.quantity));
    let left = base.saturating_sub(line.discount);
    json!({
        "id": line_id(&line.item),
        "item": { "id": line.item },
        "name": line.title,
        "quantity": line.quantity,
        "unit_amount": line.unit_amount,
        "totals": [
            total("items_base_amount", "Price", base),
            total("items_discount", "Discount", line.discount),
            total("total", "Total", left),
        ],
    })
}

/// A line is named by its item, which a cart has once.
pub(super) fn line_id(item: &str) -> String {
    format!("li_{item}")
}

fn option(option: &FulfillmentOption) -> Value {
    json!({
        "type": option.kind.name(),
        "id": option.id,
        "title": option.title,
        "totals": [total("total", &option.title, option.amount)],
    })
}

fn totals(sums: Totals) -> Value {
    json!([
        total("items_base_amount", "Items", sums.base),
        total("items_discount", "Discounts", sums.discount),
        total("subtotal", "Subtotal", sums.subtotal),
        total("fulfillment", "Delivery", sums.fulfillment),
        total("tax", "Tax", sums.tax),
        total("total", "Total", sums.total),
    ])
}

fn messages(session: &Session) -> Vec<Value> {
    let mut messages = Vec::new();
    if session.is_forgotten {
        messages.push(json!({
            "type": "info", "content_type": "plain", "content": "what was in it is forgotten",
        }));
    }
    for note in &session.quote.notes {
        let mut message = Map::new();
        let kind = match note.level {
            NoteLevel::Info => "info",
            NoteLevel::Error => "error",
        };
        message.insert("type".to_owned(), json!(kind));
        if note.level == NoteLevel::Error {
            message.insert("code".to_owned(), json!(note.code));
        }
        if let Some(param) = &note.param {
            message.insert("param".to_owned(), json!(param));
        }
        message.insert("content_type".to_owned(), json!("plain"));
        message.insert("content".to_owned(), json!(note.content));
        messages.push(Value::Object(message));
    }
    if let (true, Some((param, why))) = (session.status.is_open(), session.missing()) {
        messages.push(json!({
            "type": "error", "code": "missing", "param": param,
            "content_type": "plain", "content": why,
        }));
    }
    messages
}

/// Shows a session.
pub(super) fn session(session: &Session, config: &SellerConfig) -> Result<Value> {
    let cart = &session.cart;
    let totals = if session.is_forgotten {
        json!([])
    } else {
        totals(session.totals()?)
    };
    let mut shown = json!({
        "id": session.id,
        "protocol": { "version": VERSION },
        "capabilities": { "payment": { "handlers": config.handlers() } },
        "status": session.status.name(),
        "currency": cart.currency,
        "line_items": session.quote.lines.iter().map(line).collect::<Vec<_>>(),
        "fulfillment_options": session.quote.options.iter().map(option).collect::<Vec<_>>(),
        "selected_fulfillment_options": cart.selected,
        "totals": totals,
        "messages": messages(session),
        "links": config.links(),
        "created_at": session.created.to_string(),
        "updated_at": session.updated.to_string(),
        "expires_at": session.expires.to_string(),
    });
    if let Some(fields) = shown.as_object_mut() {
        if let Some(buyer) = &cart.buyer {
            fields.insert("buyer".to_owned(), json!(buyer));
        }
        if let Some(details) = &cart.details {
            fields.insert("fulfillment_details".to_owned(), json!(details));
        }
        if let Some(order) = &session.order {
            fields.insert("order".to_owned(), order.clone());
        }
        fields.extend(session.echoed.clone());
    }
    Ok(shown)
}

/// Makes the order of a session that is paid.
pub(super) fn order(session: &Session, config: &SellerConfig) -> Result<Value> {
    let id = session.id.replacen("cs_", "ord_", 1);
    let lines = session.quote.lines.iter().map(|line| {
        let sum = line.unit_amount.saturating_mul(i64::from(line.quantity));
        json!({
            "id": line_id(&line.item),
            "title": line.title,
            "quantity": { "ordered": line.quantity, "current": line.quantity, "fulfilled": 0 },
            "unit_price": line.unit_amount,
            "subtotal": sum.saturating_sub(line.discount),
        })
    });
    Ok(json!({
        "type": "order",
        "id": id,
        "checkout_session_id": session.id,
        "permalink_url": config.permalink(&id),
        "status": "created",
        "line_items": lines.collect::<Vec<_>>(),
        "totals": totals(session.totals()?),
    }))
}
