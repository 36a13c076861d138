//! The command line of Stripe Projects, played by a real child process that speaks its JSON.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent_core::{Amount, Asset, Classify, ErrorKind, ExposeSecret, Retry, Secret, SystemClock};
use agent_pay::Error;
use agent_pay::conformance::ProvisionerSubject;
use agent_pay::provision::{
    BlockerCode, CredentialName, MemoryVault, Plan, Provisioner, ResourceName, Spec,
    StripeProjects, StripeProjectsSettings,
};

const PROGRAM: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/peers/stripe_projects.sh"
);
const SERVICE: &str = "neon/postgres";

fn plan(id: &str, units: i128) -> Plan {
    let month = Duration::from_secs(30 * 86_400);
    Plan::new(id, Amount::from_units(units, Asset::USD), month)
}

fn settings(dir: &Path) -> StripeProjectsSettings {
    StripeProjectsSettings::new(PROGRAM, dir)
        .with_variable("PATH", "/usr/bin:/bin")
        .with_plan(SERVICE, plan("large", 20_000_000))
        .with_plan(SERVICE, plan("small", 5_000_000))
}

fn projects(settings: StripeProjectsSettings) -> StripeProjects {
    StripeProjects::new(settings, Arc::new(SystemClock::new()))
}

fn spec(name: &str) -> Spec {
    let name = ResourceName::new(name).unwrap();
    Spec::new(name, SERVICE, plan("small", 5_000_000))
}

/// The stand-in keeps what exists in a file each: what it no longer has cannot be used.
async fn opens(dir: std::path::PathBuf, values: BTreeMap<CredentialName, Secret>) -> bool {
    values.iter().all(|(name, value)| {
        let service = name.as_str().split('/').nth(1).unwrap();
        let has_own = value.expose_secret().contains(&service.to_uppercase());
        has_own && dir.join(".projects/made").join(service).exists()
    })
}

async fn make() -> ProvisionerSubject {
    let dir = tempfile::tempdir().unwrap();
    let projects = projects(settings(dir.path()).with_terms_accepted());
    let path = dir.path().to_owned();
    let opens = move |values| opens(path.clone(), values);
    ProvisionerSubject::new(Arc::new(projects), opens, dir)
}

agent_pay::provisioner_conformance!(make);

fn calls(dir: &Path, of: &str) -> usize {
    let calls = std::fs::read_to_string(dir.join("calls")).unwrap_or_default();
    let beginning = format!("projects {of}");
    calls
        .lines()
        .filter(|call| call.starts_with(&beginning))
        .count()
}

#[tokio::test]
async fn every_blocker_comes_at_once_with_its_code_and_remedy() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("blocked"), "").unwrap();
    let projects = projects(settings(dir.path()));
    let mut spec = spec("db");
    spec.offer = "posthog/analytics".to_owned();
    let found = projects.preflight(&spec).await.unwrap();
    let codes: Vec<BlockerCode> = found.iter().map(|b| b.code.clone()).collect();
    assert_eq!(
        codes,
        [
            BlockerCode::BrowserAuthRequired,
            BlockerCode::AccountNotEligible,
            BlockerCode::Other("REGION_CLOSED".to_owned()),
            BlockerCode::TosAcceptanceRequired,
            BlockerCode::PriceUnknown,
        ]
    );
    assert!(found.iter().all(|b| !b.remedy.is_empty()));
    assert_eq!(calls(dir.path(), "add"), 0);
}

#[tokio::test]
async fn terms_are_the_hosts_to_accept() {
    let dir = tempfile::tempdir().unwrap();
    let unaccepted = projects(settings(dir.path()));
    let refused = unaccepted.create(&spec("db"), &MemoryVault::new()).await;
    let blockers = match refused {
        Err(Error::Blocked { blockers, .. }) => Ok(blockers),
        other => Err(other),
    };
    assert_eq!(
        blockers.unwrap()[0].code,
        BlockerCode::TosAcceptanceRequired
    );
    std::fs::write(dir.path().join("paid-plan-required"), "").unwrap();
    let accepted = projects(settings(dir.path()).with_terms_accepted());
    let refused = accepted.create(&spec("db"), &MemoryVault::new()).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.retry(), Retry::Never);
    assert!(refused.to_string().contains("PLAN_REQUIRED"), "{refused}");
    assert_eq!(accepted.list().await.unwrap(), []);
}

#[tokio::test]
async fn an_answer_that_was_lost_adds_nothing_twice() {
    for command in ["add", "env", "remove"] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(format!("fault-{command}")), "").unwrap();
        let projects = projects(settings(dir.path()).with_terms_accepted());
        let vault = MemoryVault::new();
        if command != "remove" {
            let lost = projects.create(&spec("db"), &vault).await.unwrap_err();
            assert_eq!(lost.retry(), Retry::Unknown, "{command}");
        }
        let names = projects.create(&spec("db"), &vault).await.unwrap();
        assert_eq!(names.len(), 2, "{command}");
        assert_eq!(calls(dir.path(), "add"), 1, "{command}");
        if command == "remove" {
            let lost = projects.destroy(&spec("db").name, &vault).await;
            assert_eq!(lost.unwrap_err().retry(), Retry::Unknown);
        }
        projects.destroy(&spec("db").name, &vault).await.unwrap();
        assert_eq!(calls(dir.path(), "remove"), 1, "{command}");
        assert_eq!(projects.list().await.unwrap(), []);
    }
}

#[tokio::test]
async fn values_go_into_the_vault_and_stay_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let projects = projects(settings(dir.path()).with_terms_accepted());
    let vault = MemoryVault::new();
    projects.create(&spec("other"), &vault).await.unwrap();
    let names = projects.create(&spec("db"), &vault).await.unwrap();
    let names: Vec<&str> = names.iter().map(CredentialName::as_str).collect();
    assert_eq!(names, ["stripe/db/api_key", "stripe/db/connection_string"]);
    let name = CredentialName::new("stripe/db/connection_string").unwrap();
    let value = vault.get(&name).unwrap();
    let expected = "postgresql://u:s3cret-DB@db.invalid/x?sslmode=require";
    assert_eq!(value.expose_secret(), expected);
    assert!(!dir.path().join(".env").exists());
    // A file of the host's own is neither read nor written over.
    std::fs::write(dir.path().join(".env"), "MINE=1").unwrap();
    let refused = projects.create(&spec("db"), &vault).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Denied);
    let kept = std::fs::read_to_string(dir.path().join(".env")).unwrap();
    assert_eq!(kept, "MINE=1");
}

#[tokio::test]
async fn a_dearer_plan_is_an_upgrade_and_a_cheaper_one_a_downgrade() {
    let dir = tempfile::tempdir().unwrap();
    let projects = projects(settings(dir.path()).with_terms_accepted());
    projects
        .create(&spec("db"), &MemoryVault::new())
        .await
        .unwrap();
    let mut large = spec("db");
    large.plan = plan("large", 20_000_000);
    for _ in 0..2 {
        projects.alter(&large, true).await.unwrap();
    }
    projects.alter(&spec("db"), true).await.unwrap();
    assert_eq!(calls(dir.path(), "upgrade"), 1);
    assert_eq!(calls(dir.path(), "downgrade"), 1);
}

/// Another process writes it: were it open for writing here, a process that another test starts at
/// this moment would have it open too, and it could not be run (`ETXTBSY`).
fn write_program(path: &Path, text: &str) {
    let status = std::process::Command::new("/bin/sh")
        .args(["-c", "printf %s \"$2\" > \"$1\" && chmod 700 \"$1\"", "sh"])
        .args([path.as_os_str(), text.as_ref()])
        .status();
    assert!(status.unwrap().success());
}

#[tokio::test]
async fn hostile_answers_are_errors() {
    for answer in [
        "",
        "not json",
        "[]",
        "{}",
        r#"{"ok":"yes"}"#,
        r#"{"ok":true,"data":{"services":7}}"#,
        r#"{"ok":false,"error":{"code":7}}"#,
        r#"{"ok":true,"data":{"services":[{"name":{}}]}}"#,
    ] {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("stripe");
        write_program(&program, &format!("#!/bin/sh\ncat <<'X'\n{answer}\nX\n"));
        let settings = StripeProjectsSettings::new(&program, dir.path())
            .with_variable("PATH", "/usr/bin:/bin");
        let projects = projects(settings);
        let error = projects.list().await.unwrap_err();
        assert_eq!(error.retry(), Retry::Unknown, "{answer}");
    }
    let settings = StripeProjectsSettings::new("/nowhere/stripe", ".");
    let found = projects(settings).preflight(&spec("db")).await.unwrap();
    assert_eq!(found[0].code, BlockerCode::ProgramUnusable);
}
