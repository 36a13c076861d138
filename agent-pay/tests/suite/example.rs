//! The example plays as written down.

#[path = "../../examples/paid_team.rs"]
mod paid_team;

#[tokio::test]
async fn paid_team_plays_as_written_down() {
    let directory = tempfile::tempdir().unwrap();
    let mut out = Vec::new();
    paid_team::play(directory.path(), &mut out).await.unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        include_str!("../paid_team.out")
    );
}
