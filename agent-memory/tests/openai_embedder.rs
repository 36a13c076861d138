//! The embedder behind an endpoint, against a server on this machine that speaks the protocol.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use agent_core::{Classify, Embedder, Env, Error, ErrorKind, Principal, Retry, Scope, Secret};
use agent_memory::{OpenAiConfig, OpenAiEmbedder};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What a server got: the head of a request, and its body.
type Got = Arc<Mutex<Vec<(String, Value)>>>;

/// Serves the answers one after the other, the last for ever.
async fn serve(answers: Vec<String>) -> (String, Got, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/v1/", listener.local_addr().unwrap());
    let got = Got::default();
    let seen = Arc::clone(&got);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        for n in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let request = read(&mut stream).await;
            seen.lock().push(request);
            let answer = answers.get(n).or(answers.last()).unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    (base, got, tasks)
}

async fn read(stream: &mut TcpStream) -> (String, Value) {
    let mut bytes = Vec::new();
    loop {
        let mut part = [0; 4_096];
        let n = stream.read(&mut part).await.unwrap();
        bytes.extend_from_slice(part.get(..n).unwrap());
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && let Ok(body) = serde_json::from_str(body)
        {
            return (head.to_ascii_lowercase(), body);
        }
        assert!(n > 0, "the request broke off");
    }
}

fn http(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}connection: close\r\n\r\n{body}"
    )
}

/// An answer of one vector for each text.
fn vectors(n: usize) -> String {
    let entry = |index| json!({ "index": index, "embedding": [0.0, 2.0] });
    let data: Vec<Value> = (0..n).map(entry).collect();
    http("200 OK", "", &json!({ "data": data }).to_string())
}

fn embedder(base: &str) -> OpenAiEmbedder {
    let config = OpenAiConfig::new(base, "m", 2)
        .with_key(Secret::from("k-secret"))
        .with_timeout(Duration::from_secs(5))
        .with_attempts(2)
        .with_batch(2);
    OpenAiEmbedder::new(config, &Env::system()).unwrap()
}

async fn embed(base: &str, texts: &[&str]) -> Result<Vec<Vec<f32>>, Error> {
    let scope = Scope::new(Principal::host());
    let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
    embedder(base).embed(&scope, &texts).await
}

#[tokio::test]
async fn texts_go_in_batches_and_empty_ones_stay_here() {
    let (base, got, _server) = serve(vec![vectors(2), vectors(1)]).await;
    let found = embed(&base, &["a", "", "b", "c"]).await.unwrap();
    let (unit, zero) = (vec![0.0, 1.0], vec![0.0, 0.0]);
    assert_eq!(found, [unit.clone(), zero, unit.clone(), unit]);
    let got = got.lock();
    let (head, body) = &got[0];
    assert!(head.starts_with("post /v1/embeddings "));
    assert!(head.contains("authorization: bearer k-secret"));
    assert_eq!(body["input"], json!(["a", "b"]));
    assert_eq!((&body["model"], got.len()), (&json!("m"), 2));
}

#[tokio::test]
async fn what_the_other_side_was_too_busy_for_is_asked_again() {
    let busy = http("429 Too Many Requests", "retry-after: 0\r\n", "slow down");
    let (base, got, _server) = serve(vec![busy.clone(), vectors(1)]).await;
    assert_eq!(embed(&base, &["a"]).await.unwrap().len(), 1);
    assert_eq!(got.lock().len(), 2);
    let (base, got, _server) = serve(vec![busy]).await;
    let error = embed(&base, &["a"]).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.retry()),
        (ErrorKind::Exhausted, Retry::Safe)
    );
    assert_eq!(got.lock().len(), 2);
    let later = http("503 Service Unavailable", "retry-after: 3600\r\n", "");
    let (base, got, _server) = serve(vec![later]).await;
    let error = embed(&base, &["a"]).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3_600)));
    assert_eq!(got.lock().len(), 1, "an hour is the caller's to wait");
}

#[tokio::test]
async fn refusals_have_their_kind_and_never_the_key() {
    for (status, kind) in [
        ("401 Unauthorized", ErrorKind::Denied),
        ("404 Not Found", ErrorKind::NotFound),
        ("400 Bad Request", ErrorKind::Invalid),
        ("302 Found", ErrorKind::Invalid),
    ] {
        let headers = "location: http://127.0.0.1:1/\r\n";
        let (base, _, _server) = serve(vec![http(status, headers, "{\"error\":\"no\"}")]).await;
        let error = embed(&base, &["a"]).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.retry()),
            (kind, Retry::Never),
            "{status}"
        );
        assert!(!format!("{error:?}").contains("k-secret"));
    }
    let shown = format!("{:?}", embedder("http://127.0.0.1:1"));
    assert!(!shown.contains("k-secret"));
    let error = embed("http://127.0.0.1:1", &["a"]).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.retry()),
        (ErrorKind::Unavailable, Retry::Safe)
    );
}

#[tokio::test]
async fn answers_that_cannot_be_are_refused() {
    let short = http("200 OK", "", r#"{"data":[{"index":0,"embedding":[1.0]}]}"#);
    let endless = http(
        "200 OK",
        "",
        &format!("{{\"data\":\"{}\"}}", "x".repeat(1 << 20)),
    );
    for answer in [short, endless, http("200 OK", "", "<html>")] {
        let (base, _, _server) = serve(vec![answer]).await;
        assert_eq!(
            embed(&base, &["a"]).await.unwrap_err().kind(),
            ErrorKind::Corrupt
        );
    }
}

#[tokio::test]
async fn unsafe_and_nonsensical_settings_are_refused() {
    let new = |config| OpenAiEmbedder::new(config, &Env::system());
    let at = |base: &str| OpenAiConfig::new(base, "m", 2);
    for base in ["http://example.org/v1", "ftp://example.org", "nonsense", ""] {
        assert_eq!(
            new(at(base)).unwrap_err().kind(),
            ErrorKind::Invalid,
            "{base}"
        );
    }
    assert!(new(at("http://example.org/v1").allowing_plain_http()).is_ok());
    assert!(new(at("https://example.org/v1")).is_ok());
    let key = at("https://example.org").with_key(Secret::from("a\nb"));
    for config in [
        at("https://x.org").with_batch(0),
        at("https://x.org").with_attempts(0),
        key,
    ] {
        assert_eq!(new(config).unwrap_err().kind(), ErrorKind::Invalid);
    }
    let none = OpenAiConfig::new("https://x.org", "m", 0);
    assert_eq!(new(none).unwrap_err().kind(), ErrorKind::Invalid);
}
