//! The laws of a [`Provisioner`].

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use agent_core::{Classify, ErrorKind, ExposeSecret, Secret};

use crate::error::Error;
use crate::provision::{
    BlockerCode, CredentialName, MemoryVault, Offer, Plan, Provisioner, ResourceName, Spec,
};

/// Tries to use a resource by its credentials and returns whether it could.
type Opens = dyn Fn(BTreeMap<CredentialName, Secret>) -> Pin<Box<dyn Future<Output = bool> + Send>>
    + Send
    + Sync;

/// Writes a note into a resource by its credentials, or reads the one that is there.
type Notes = dyn Fn(
        BTreeMap<CredentialName, Secret>,
        Option<String>,
    ) -> Pin<Box<dyn Future<Output = Option<String>> + Send>>
    + Send
    + Sync;

/// A provisioner to try the laws on, with at least one offer of two plans and nothing made yet.
#[non_exhaustive]
pub struct ProvisionerSubject {
    /// The provisioner.
    pub provisioner: Arc<dyn Provisioner>,
    /// Where its credentials go.
    pub vault: Arc<MemoryVault>,
    opens: Box<Opens>,
    notes: Option<Box<Notes>>,
    guard: Box<dyn Any + Send + Sync>,
}

impl fmt::Debug for ProvisionerSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProvisionerSubject")
            .field("provisioner", &self.provisioner)
            .field("guard", &(*self.guard).type_id())
            .finish_non_exhaustive()
    }
}

impl ProvisionerSubject {
    /// Takes a provisioner, what uses a resource by its credentials alone, and what must live as
    /// long.
    pub fn new<F>(
        provisioner: Arc<dyn Provisioner>,
        opens: impl Fn(BTreeMap<CredentialName, Secret>) -> F + Send + Sync + 'static,
        guard: impl Any + Send + Sync,
    ) -> Self
    where
        F: Future<Output = bool> + Send + 'static,
    {
        Self {
            provisioner,
            vault: Arc::new(MemoryVault::new()),
            opens: Box::new(move |values| Box::pin(opens(values))),
            notes: None,
            guard: Box::new(guard),
        }
    }

    /// Sets what keeps a note in a resource, by its credentials alone, in the place of the one before it,
    /// and reads it where none is given; nothing if it cannot. Default: none, and the laws say nothing of
    /// what is in a resource.
    #[must_use]
    pub fn with_notes<F>(
        mut self,
        notes: impl Fn(BTreeMap<CredentialName, Secret>, Option<String>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Option<String>> + Send + 'static,
    {
        self.notes = Some(Box::new(move |values, note| Box::pin(notes(values, note))));
        self
    }

    async fn offer(&self) -> Offer {
        self.provisioner.catalogue().await.unwrap().swap_remove(0)
    }

    async fn spec(&self, name: &str) -> Spec {
        let mut offer = self.offer().await;
        Spec::new(resource(name), offer.id, offer.plans.swap_remove(0))
    }

    async fn create(&self, spec: &Spec) -> Vec<CredentialName> {
        let created = self.provisioner.create(spec, self.vault.as_ref()).await;
        created.unwrap()
    }

    async fn destroy(&self, name: &ResourceName) {
        let destroyed = self.provisioner.destroy(name, self.vault.as_ref()).await;
        destroyed.unwrap();
    }

    /// Returns what is in the vault now: whoever had it may try it later.
    fn values(&self, names: &[CredentialName]) -> BTreeMap<CredentialName, Secret> {
        let value = |name: &CredentialName| Some((name.clone(), self.vault.get(name)?));
        names.iter().filter_map(value).collect()
    }

    async fn is_usable(&self, names: &[CredentialName]) -> bool {
        let values = self.values(names);
        values.len() == names.len() && (self.opens)(values).await
    }

    /// Keeps a note in a resource.
    async fn note(&self, names: &[CredentialName], note: &str) {
        if let Some(notes) = &self.notes {
            let kept = notes(self.values(names), Some(note.to_owned())).await;
            assert_eq!(kept.as_deref(), Some(note));
        }
    }

    /// Checks which note a resource has.
    async fn assert_note(&self, names: &[CredentialName], expected: Option<&str>) {
        if let Some(notes) = &self.notes {
            let kept = notes(self.values(names), None).await;
            assert_eq!(kept.as_deref(), expected);
        }
    }
}

fn resource(name: &str) -> ResourceName {
    ResourceName::new(name).unwrap()
}

/// What the catalogue lists can be ordered, the cheapest plan first.
pub async fn what_is_listed_can_be_ordered(subject: ProvisionerSubject) {
    let catalogue = subject.provisioner.catalogue().await.unwrap();
    assert!(!catalogue.is_empty());
    for offer in catalogue {
        assert!(offer.plans.is_sorted_by_key(|plan| plan.price.units()));
        for plan in offer.plans {
            let spec = Spec::new(resource("listed"), offer.id.clone(), plan);
            assert_eq!(subject.provisioner.preflight(&spec).await.unwrap(), []);
        }
    }
    assert_eq!(subject.provisioner.list().await.unwrap(), []);
}

/// A created resource can be used with its credentials alone.
pub async fn credentials_open_what_was_created(subject: ProvisionerSubject) {
    let names = subject.create(&subject.spec("notes").await).await;
    assert!(!names.is_empty());
    assert!(subject.is_usable(&names).await);
    let found = subject.provisioner.inspect(&resource("notes")).await;
    assert!(found.unwrap().unwrap().is_awake);
}

/// Creating again finishes or finds the same resource, and its credentials open it.
pub async fn creating_again_makes_no_second(subject: ProvisionerSubject) {
    let spec = subject.spec("notes").await;
    let first = subject.create(&spec).await;
    subject.note(&first, "kept").await;
    assert_eq!(subject.provisioner.preflight(&spec).await.unwrap(), []);
    let again = subject.create(&spec).await;
    assert_eq!(again, first);
    assert!(subject.is_usable(&again).await);
    subject.assert_note(&again, Some("kept")).await;
    let listed = subject.provisioner.list().await.unwrap();
    assert_eq!(listed, [resource("notes")]);
}

/// What is destroyed is gone with its credentials, and destroying again is harmless.
pub async fn destroying_leaves_nothing(subject: ProvisionerSubject) {
    let names = subject.create(&subject.spec("notes").await).await;
    let values = subject.values(&names);
    for _ in 0..2 {
        subject.destroy(&resource("notes")).await;
    }
    assert!(!(subject.opens)(values).await);
    assert_eq!(subject.vault.names(), []);
    assert_eq!(subject.provisioner.list().await.unwrap(), []);
    let found = subject.provisioner.inspect(&resource("notes")).await;
    assert_eq!(found.unwrap(), None);
}

/// A name can be used again, and what it had before is not there.
pub async fn a_name_can_be_used_again(subject: ProvisionerSubject) {
    let spec = subject.spec("notes").await;
    for _ in 0..2 {
        let names = subject.create(&spec).await;
        assert!(subject.is_usable(&names).await);
        subject.assert_note(&names, None).await;
        subject.note(&names, "former").await;
        subject.destroy(&spec.name).await;
    }
}

/// Resources have nothing to do with one another.
pub async fn resources_are_apart(subject: ProvisionerSubject) {
    let one = subject.create(&subject.spec("one").await).await;
    let two = subject.create(&subject.spec("two").await).await;
    assert!(one.iter().all(|name| !two.contains(name)));
    subject.note(&one, "of one").await;
    subject.assert_note(&two, None).await;
    subject.note(&two, "of two").await;
    subject.assert_note(&one, Some("of one")).await;
    let values = subject.values(&one);
    subject.destroy(&resource("one")).await;
    assert!(!(subject.opens)(values).await);
    assert!(subject.is_usable(&two).await);
    subject.assert_note(&two, Some("of two")).await;
    let listed = subject.provisioner.list().await.unwrap();
    assert_eq!(listed, [resource("two")]);
}

/// What the catalogue does not have is refused with a code and a remedy, and nothing is made.
pub async fn what_is_not_listed_is_blocked(subject: ProvisionerSubject) {
    let spec = subject.spec("notes").await;
    let dear = spec.plan.price.plus(spec.plan.price).unwrap();
    let dear = dear
        .plus(agent_core::Amount::from_units(1, dear.asset()))
        .unwrap();
    let other = Plan::new("no-such-plan", dear, spec.plan.period);
    for (spec, code) in [
        (
            Spec::new(resource("notes"), "no/such-offer", spec.plan.clone()),
            BlockerCode::OfferUnknown,
        ),
        (
            Spec::new(resource("notes"), spec.offer.clone(), other),
            BlockerCode::PlanUnknown,
        ),
    ] {
        let found = subject.provisioner.preflight(&spec).await.unwrap();
        assert!(found.iter().any(|blocker| blocker.code == code));
        assert!(found.iter().all(|blocker| !blocker.remedy.is_empty()));
        let refused = subject
            .provisioner
            .create(&spec, subject.vault.as_ref())
            .await;
        let blockers = match refused {
            Err(Error::Blocked { blockers }) => Ok(blockers),
            other => Err(other),
        }
        .unwrap();
        assert!(blockers.iter().any(|blocker| blocker.code == code));
    }
    assert_eq!(subject.provisioner.list().await.unwrap(), []);
    assert_eq!(subject.vault.names(), []);
}

/// Scaled to zero a resource cannot be used, and woken it can; an offer that cannot sleep says so.
pub async fn a_resource_sleeps_and_wakes(subject: ProvisionerSubject) {
    let spec = subject.spec("notes").await;
    let names = subject.create(&spec).await;
    subject.note(&names, "kept").await;
    let slept = subject.provisioner.alter(&spec, false).await;
    if !subject.offer().await.can_sleep {
        assert_eq!(slept.unwrap_err().kind(), ErrorKind::Unsupported);
        assert!(subject.is_usable(&names).await);
        return;
    }
    slept.unwrap();
    subject.provisioner.alter(&spec, false).await.unwrap();
    let found = subject.provisioner.inspect(&spec.name).await.unwrap();
    assert!(!found.unwrap().is_awake);
    assert!(!subject.is_usable(&names).await);
    let listed = subject.provisioner.list().await.unwrap();
    assert_eq!(listed, [resource("notes")]);
    for _ in 0..2 {
        subject.provisioner.alter(&spec, true).await.unwrap();
    }
    assert!(subject.is_usable(&names).await);
    subject.assert_note(&names, Some("kept")).await;
    let found = subject.provisioner.inspect(&spec.name).await.unwrap();
    assert!(found.unwrap().is_awake);
}

/// What sleeps can be destroyed, and wakes by no other's creation.
pub async fn what_sleeps_can_be_destroyed(subject: ProvisionerSubject) {
    let spec = subject.spec("notes").await;
    let names = subject.create(&spec).await;
    subject.note(&names, "former").await;
    if subject.offer().await.can_sleep {
        subject.provisioner.alter(&spec, false).await.unwrap();
    }
    subject.destroy(&spec.name).await;
    assert_eq!(subject.provisioner.list().await.unwrap(), []);
    assert_eq!(subject.provisioner.inspect(&spec.name).await.unwrap(), None);
    assert_eq!(subject.vault.names(), []);
    let names = subject.create(&spec).await;
    assert!(subject.is_usable(&names).await);
    subject.assert_note(&names, None).await;
}

/// A plan can be changed up and down while the resource stays what it is.
pub async fn plans_change_both_ways(subject: ProvisionerSubject) {
    let offer = subject.offer().await;
    let spec = subject.spec("notes").await;
    let names = subject.create(&spec).await;
    subject.note(&names, "kept").await;
    for plan in offer.plans.iter().chain(offer.plans.iter().rev()) {
        let spec = Spec::new(spec.name.clone(), offer.id.clone(), plan.clone());
        subject.provisioner.alter(&spec, true).await.unwrap();
        assert!(subject.is_usable(&names).await, "{}", plan.id);
        subject.assert_note(&names, Some("kept")).await;
    }
}

/// What is not there cannot be altered.
pub async fn what_is_absent_is_not_altered(subject: ProvisionerSubject) {
    let spec = subject.spec("nothing").await;
    let error = subject.provisioner.alter(&spec, true).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let found = subject.provisioner.inspect(&spec.name).await.unwrap();
    assert_eq!(found, None);
}

/// No value of a credential shows in what is printed.
pub async fn values_show_nowhere(subject: ProvisionerSubject) {
    let names = subject.create(&subject.spec("notes").await).await;
    assert!(!names.is_empty());
    let provisioner = &subject.provisioner;
    let found = provisioner.inspect(&resource("notes")).await.unwrap();
    let listed = provisioner.list().await.unwrap();
    let shown = format!(
        "{provisioner:?} {provisioner:#?} {:?} {names:?} {found:?} {listed:?}",
        subject.vault
    );
    for name in &names {
        let value = subject.vault.get(name).unwrap();
        assert!(!shown.contains(value.expose_secret()), "{name}");
    }
}

/// Runs every law of a provisioner against what `$make` makes, a test each.
///
/// `$make` is an `async fn() -> ProvisionerSubject`, or one that returns an `Option` of it, where
/// the laws are skipped for `None`; `tokio` must be a dependency of the test.
#[macro_export]
macro_rules! provisioner_conformance {
    ($make:path) => {
        $crate::provisioner_conformance! { @laws $make;
            what_is_listed_can_be_ordered
            credentials_open_what_was_created
            creating_again_makes_no_second
            destroying_leaves_nothing
            a_name_can_be_used_again
            resources_are_apart
            what_is_not_listed_is_blocked
            a_resource_sleeps_and_wakes
            what_sleeps_can_be_destroyed
            plans_change_both_ways
            what_is_absent_is_not_altered
            values_show_nowhere
        }
    };
    (@laws $make:path; $($law:ident)+) => {
        $(
            #[tokio::test]
            async fn $law() {
                let subject: Option<$crate::conformance::ProvisionerSubject> = $make().await.into();
                if let Some(subject) = subject {
                    $crate::conformance::$law(subject).await;
                }
            }
        )+
    };
}
