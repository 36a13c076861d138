//! What an endpoint answers: hostile input like any other.

use agent_core::{Error, ErrorKind, Result, Retry};
use reqwest::Response;
use serde::Deserialize;

use super::broken;

/// The longest text of one number, with its comma and white space around it.
const NUMBER_BYTES: usize = 48;
/// What an answer may have beside its numbers, for each text and in all.
const FRAME_BYTES: usize = 1_024;
/// How much of a refusal is kept, in bytes.
const REFUSAL_BYTES: usize = 512;

#[derive(Deserialize)]
struct Answer {
    data: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    index: usize,
    embedding: Vec<f32>,
}

/// The longest answer that can be one.
pub(super) fn bytes_max(n_texts: usize, dimensions: usize) -> usize {
    let each = dimensions
        .saturating_mul(NUMBER_BYTES)
        .saturating_add(FRAME_BYTES);
    each.saturating_mul(n_texts).saturating_add(FRAME_BYTES)
}

/// Reads a body of at most `most` bytes.
pub(super) async fn read(mut response: Response, most: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let chunk = response.chunk().await.map_err(|e| {
            let kind = ErrorKind::Unavailable;
            broken("read an answer", kind, Retry::Safe, e.without_url())
        })?;
        let Some(chunk) = chunk else {
            return Ok(bytes);
        };
        if bytes.len().saturating_add(chunk.len()) > most {
            return Err(corrupt("a longer answer than the vectors need"));
        }
        bytes.extend_from_slice(&chunk);
    }
}

/// Reads the beginning of a refusal, without control characters.
pub(super) async fn refusal(mut response: Response) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < REFUSAL_BYTES
        && let Ok(Some(chunk)) = response.chunk().await
    {
        bytes.extend_from_slice(&chunk);
    }
    bytes.truncate(REFUSAL_BYTES);
    let text = String::from_utf8_lossy(&bytes);
    text.chars().filter(|c| !c.is_control()).collect()
}

fn corrupt(reason: impl Into<String>) -> Error {
    broken(
        "read an answer",
        ErrorKind::Corrupt,
        Retry::Never,
        reason.into(),
    )
}

/// Reads vectors in the order of the texts and brings them to length one.
pub(super) fn vectors(bytes: &[u8], n_texts: usize, dimensions: usize) -> Result<Vec<Vec<f32>>> {
    let answer: Answer = serde_json::from_slice(bytes).map_err(|e| corrupt(e.to_string()))?;
    if answer.data.len() != n_texts {
        let n = answer.data.len();
        return Err(corrupt(format!("{n} vectors for {n_texts} texts")));
    }
    let mut vectors: Vec<Option<Vec<f32>>> = vec![None; n_texts];
    for Entry { index, embedding } in answer.data {
        let place = vectors.get_mut(index).filter(|place| place.is_none());
        let place =
            place.ok_or_else(|| corrupt(format!("index {index} comes twice or is none")))?;
        *place = Some(unit(embedding, dimensions)?);
    }
    Ok(vectors.into_iter().flatten().collect())
}

fn unit(vector: Vec<f32>, dimensions: usize) -> Result<Vec<f32>> {
    if vector.len() != dimensions {
        let n = vector.len();
        return Err(corrupt(format!(
            "a vector of {n} numbers, not {dimensions}"
        )));
    }
    let norm = vector
        .iter()
        .map(|x| f64::from(*x).powi(2))
        .sum::<f64>()
        .sqrt();
    if !norm.is_finite() {
        return Err(corrupt("a number that is not finite"));
    }
    if norm == 0.0 {
        return Ok(vector);
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a quotient of two f32 in range"
    )]
    let scaled = |x: f32| (f64::from(x) / norm) as f32;
    Ok(vector.into_iter().map(scaled).collect())
}

#[cfg(test)]
mod tests {
    use agent_core::Classify;

    use super::*;

    fn kind(bytes: &[u8]) -> ErrorKind {
        vectors(bytes, 2, 2).unwrap_err().kind()
    }

    #[test]
    fn vectors_come_in_the_order_of_their_texts_and_have_length_one() {
        let answer = br#"{"object":"list","data":[
            {"index":1,"embedding":[0,-2],"object":"embedding"},
            {"index":0,"embedding":[3,4]}],"usage":{"total_tokens":2}}"#;
        let read = vectors(answer, 2, 2).unwrap();
        assert_eq!(read, [vec![0.6, 0.8], vec![0.0, -1.0]]);
    }

    #[test]
    fn answers_of_another_shape_are_refused() {
        for answer in [
            "",
            "null",
            "[]",
            r#"{"data":[]}"#,
            r#"{"data":[{"index":0,"embedding":[1,0]}]}"#,
            r#"{"data":[{"index":0,"embedding":[1,0]},{"index":0,"embedding":[1,0]}]}"#,
            r#"{"data":[{"index":0,"embedding":[1,0]},{"index":2,"embedding":[1,0]}]}"#,
            r#"{"data":[{"index":0,"embedding":[1]},{"index":1,"embedding":[1,0]}]}"#,
            r#"{"data":[{"index":0,"embedding":[1,0,0]},{"index":1,"embedding":[1,0]}]}"#,
            r#"{"data":[{"index":0,"embedding":[1,NaN]},{"index":1,"embedding":[1,0]}]}"#,
            r#"{"data":[{"index":0,"embedding":[1e39,0]},{"index":1,"embedding":[1,0]}]}"#,
            r#"{"data":[{"index":-1,"embedding":[1,0]},{"index":1,"embedding":[1,0]}]}"#,
            r#"{"data":[{"index":0,"embedding":"AAAA"},{"index":1,"embedding":[1,0]}]}"#,
        ] {
            assert_eq!(kind(answer.as_bytes()), ErrorKind::Corrupt, "{answer}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(kind(deep.as_bytes()), ErrorKind::Corrupt);
    }
}
