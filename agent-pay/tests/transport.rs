//! What is known of a request whose answer did not come.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use agent_pay::transport::{Direct, DirectConfig, Lost, Request, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A server that reads one request and writes these bytes; it counts connections it served.
async fn serving(answers: Vec<Vec<u8>>) -> (String, JoinSet<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = format!("http://{}/pay", listener.local_addr().unwrap());
    let mut server = JoinSet::new();
    server.spawn(async move {
        let mut n_served = 0;
        for answer in answers {
            let Ok((mut stream, _)) = listener.accept().await else {
                break;
            };
            let mut bytes = [0; 4096];
            if stream.read(&mut bytes).await.is_ok_and(|n| n > 0) {
                n_served += 1;
            }
            let _gone = stream.write_all(&answer).await;
        }
        n_served
    });
    (at, server)
}

fn post(to: &str) -> Request {
    http::Request::post(to).body(b"1.00 USD".to_vec()).unwrap()
}

#[tokio::test]
async fn an_answer_comes_back_whole_whatever_its_status() {
    let said = b"HTTP/1.1 402 Payment Required\r\nx-price: 5\r\ncontent-length: 4\r\n\r\npay!";
    let (at, mut server) = serving(vec![said.to_vec()]).await;
    let answer = Direct::new(DirectConfig::new())
        .unwrap()
        .send(post(&at))
        .await
        .unwrap();
    assert_eq!(answer.status(), 402);
    assert_eq!(
        answer.headers().get("x-price").map(|v| v.as_bytes()),
        Some(&b"5"[..])
    );
    assert_eq!(answer.body(), b"pay!");
    assert_eq!(server.join_next().await.transpose().unwrap(), Some(1));
}

#[tokio::test]
async fn only_what_cannot_have_arrived_counts_as_not_sent() {
    let direct = Direct::new(DirectConfig::new().with_answer_bytes_max(8)).unwrap();
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}/", free.local_addr().unwrap());
    drop(free);
    let not_sent = [nobody.as_str(), "http://198.51.100.7/", "ftp://127.0.0.1/"];
    for to in not_sent {
        let lost = direct.send(post(to)).await.err();
        assert!(matches!(lost, Some(Lost::NotSent { .. })), "{to}: {lost:?}");
    }
    let cut = b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\npa".to_vec();
    let long = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n123456789".to_vec();
    for answer in [cut, long, b"nonsense\r\n\r\n".to_vec(), Vec::new()] {
        let (at, mut server) = serving(vec![answer.clone(), answer.clone()]).await;
        let lost = direct.send(post(&at)).await.err();
        assert!(
            matches!(lost, Some(Lost::MayHaveArrived { .. })),
            "{answer:?}: {lost:?}"
        );
        server.abort_all();
        while server.join_next().await.is_some() {}
    }
}

#[tokio::test]
async fn no_request_is_made_twice_and_no_redirect_is_followed() {
    let direct = Direct::new(DirectConfig::new().with_timeout(Duration::from_millis(300))).unwrap();
    let (elsewhere, mut other) = serving(vec![b"HTTP/1.1 200 OK\r\n\r\n".to_vec()]).await;
    let away = format!("HTTP/1.1 307 T\r\nlocation: {elsewhere}\r\ncontent-length: 0\r\n\r\n");
    let (at, mut server) = serving(vec![away.into_bytes()]).await;
    assert_eq!(direct.send(post(&at)).await.unwrap().status(), 307);
    assert_eq!(server.join_next().await.transpose().unwrap(), Some(1));
    assert!(
        other.try_join_next().is_none(),
        "the payment went elsewhere"
    );
    other.abort_all();

    // It takes the request and hangs up: a second connection would be a second payment.
    let (at, mut server) = serving(vec![Vec::new(), Vec::new()]).await;
    assert!(
        direct
            .send(post(&at))
            .await
            .is_err_and(|lost| lost.may_have_had_effect())
    );
    assert!(server.try_join_next().is_none(), "it was sent again");
    server.abort_all();
}
