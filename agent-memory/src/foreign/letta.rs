//! Letta: agent files (`.af`), of the form with `agents` and `blocks` and of the earlier one with
//! `core_memory`.

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::{Entry, Foreign, at_entry, labeled, parsed, time};
use crate::error::Result;
use crate::memory::{Draft, Kind, Trust};

#[derive(Deserialize)]
#[serde(untagged)]
enum File {
    Agents {
        agents: Vec<Agent>,
        #[serde(default)]
        blocks: Option<Vec<Block>>,
    },
    Agent {
        name: String,
        core_memory: Vec<Block>,
        #[serde(default)]
        messages: Option<Vec<Message>>,
    },
}

#[derive(Deserialize)]
struct Agent {
    id: String,
    #[serde(default)]
    block_ids: Option<Vec<String>>,
    #[serde(default)]
    messages: Option<Vec<Message>>,
}

#[derive(Deserialize)]
struct Block {
    #[serde(default)]
    id: Option<String>,
    label: String,
    value: String,
    #[serde(default)]
    created_at: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    id: Option<String>,
    role: String,
    #[serde(default)]
    content: Option<Content>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    created_at: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Map<String, Json>>),
}

/// Reads an agent file. A memory block is one or more facts, cut at line ends where it is longer
/// than a memory may be; a message is an event of the agent's thread. Messages of the role
/// `system` are left out: they are instructions, not memories. What tools said is untrusted. The
/// owner is the agent.
///
/// # Errors
/// [`Error::Import`](crate::Error::Import) with the number of the block or message in its agent,
/// blocks first: `Invalid` for a text beyond the limits; `Invalid` for a file of another form.
pub fn letta(json: &[u8]) -> Result<Vec<Foreign>> {
    let mut found = Vec::new();
    match parsed(json, "agent file")? {
        File::Agents { agents, blocks } => {
            let blocks = blocks.unwrap_or_default();
            for agent in agents {
                let ids = agent.block_ids.unwrap_or_default();
                let own = blocks
                    .iter()
                    .filter(|block| block.id.as_ref().is_some_and(|id| ids.contains(id)));
                read(
                    &agent.id,
                    own,
                    &agent.messages.unwrap_or_default(),
                    &mut found,
                )?;
            }
        }
        File::Agent {
            name,
            core_memory,
            messages,
        } => read(
            &name,
            core_memory.iter(),
            &messages.unwrap_or_default(),
            &mut found,
        )?,
    }
    Ok(found)
}

fn read<'b>(
    agent: &str,
    blocks: impl Iterator<Item = &'b Block>,
    messages: &[Message],
    found: &mut Vec<Foreign>,
) -> Result<()> {
    let mut n = 0;
    for block in blocks {
        n += 1;
        let id = format!(
            "{agent}/block/{}",
            block.id.as_deref().unwrap_or(&block.label)
        );
        for text in pieces(&block.value) {
            let entry = Entry {
                system: "letta",
                id: &id,
                kind: Kind::Fact,
                text,
                at: block.created_at.as_deref().and_then(time::parse),
            };
            let draft = entry.draft().map_err(|e| at_entry(n, e))?;
            found.push(of(agent, draft, "block", &block.label));
        }
    }
    for (place, message) in messages.iter().enumerate() {
        n += 1;
        let text = message.text();
        if message.role == "system" || text.trim().is_empty() {
            continue;
        }
        let id = match &message.id {
            Some(id) => format!("{agent}/message/{id}"),
            None => format!("{agent}/message/{place}"),
        };
        for text in pieces(&text) {
            let entry = Entry {
                system: "letta",
                id: &id,
                kind: Kind::Event,
                text,
                at: message.created_at.as_deref().and_then(time::parse),
            };
            let mut draft = entry.draft().map_err(|e| at_entry(n, e))?;
            if message.role == "tool" {
                draft = draft.with_trust(Trust::Untrusted);
            }
            let thread = super::segment(agent);
            if thread.len() <= Draft::NAME_BYTES_MAX {
                draft = draft.in_thread(thread);
            }
            found.push(of(agent, draft, "role", &message.role));
        }
    }
    Ok(())
}

fn of(agent: &str, draft: Draft, label: &str, value: &str) -> Foreign {
    let mut labels = Map::new();
    labels.insert(label.to_owned(), Json::String(value.to_owned()));
    Foreign {
        owner: vec![format!("agent:{agent}")],
        draft: labeled(draft, "letta", &labels),
    }
}

impl Message {
    fn text(&self) -> String {
        match (&self.content, &self.text) {
            (Some(Content::Text(text)), _) | (None, Some(text)) => text.clone(),
            (Some(Content::Parts(parts)), _) => {
                let texts = parts.iter().filter_map(|part| {
                    let is_text = part.get("type").and_then(Json::as_str) == Some("text");
                    part.get("text")?.as_str().filter(|_| is_text)
                });
                texts.collect::<Vec<_>>().join("\n")
            }
            (None, None) => String::new(),
        }
    }
}

/// Cuts a text into pieces that a memory can hold, at line ends where there are any; pieces
/// without visible text are left out.
fn pieces(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while rest.len() > Draft::TEXT_BYTES_MAX {
        let whole = rest.floor_char_boundary(Draft::TEXT_BYTES_MAX);
        let head = rest.get(..whole).unwrap_or_default();
        let end = head.rfind('\n').map_or(whole, |end| end + 1);
        let (piece, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    pieces.retain(|piece| piece.chars().any(crate::terms::is_visible));
    pieces
}
