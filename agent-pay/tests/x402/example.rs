//! The example plays as written down.

#[path = "../../examples/paid_api.rs"]
mod paid_api;

#[tokio::test]
async fn paid_api_plays_as_written_down() {
    let directory = tempfile::tempdir().unwrap();
    let mut out = Vec::new();
    paid_api::play(directory.path(), &mut out).await.unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        include_str!("../paid_api.out")
    );
}
