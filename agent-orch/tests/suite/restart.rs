//! The decisions of a supervision tree against a small model of what they mean.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use agent_orch::supervise::{Action, Event, NodeId, Tree};
use agent_orch::{OnMeltdown, Restart, RestartDelay, Strategy, Supervision};
use proptest::prelude::{Just, ProptestConfig, any, prop, prop_assert, prop_assert_eq, prop_oneof};
use proptest::proptest;
use proptest::strategy::Strategy as Drawn;

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The shape of a tree, and the model of one: stops take no time and restarts do not wait.
#[derive(Clone, Debug)]
struct Model {
    is_up: bool,
    is_quarantined: bool,
    restarts: Vec<Duration>,
    group: Option<(Supervision, bool, Vec<Self>)>,
}

impl Model {
    fn worker() -> Self {
        Self {
            is_up: false,
            is_quarantined: false,
            restarts: Vec::new(),
            group: None,
        }
    }

    fn start(&mut self) {
        if self.is_quarantined {
            return;
        }
        self.is_up = true;
        self.restarts.clear();
        for child in self.group.iter_mut().flat_map(|(_, _, children)| children) {
            child.start();
        }
    }

    fn stop(&mut self) {
        self.is_up = false;
        for child in self.group.iter_mut().flat_map(|(_, _, children)| children) {
            child.stop();
        }
    }

    /// Ends the worker at a path and returns whether this node failed because of it.
    fn end(
        &mut self,
        path: &[usize],
        failed: bool,
        now: Duration,
        above: Option<Restart>,
    ) -> Option<bool> {
        let (Some((supervision, _, children)), [at, rest @ ..]) = (&mut self.group, path) else {
            self.is_up = false;
            return Some(failed);
        };
        let failed = children[*at].end(rest, failed, now, Some(supervision.restart))?;
        let wanted = match supervision.restart {
            Restart::Permanent => true,
            Restart::Transient => failed,
            _ => false,
        };
        if !wanted {
            return None;
        }
        let period = supervision.intensity.period;
        self.restarts.retain(|past| now - *past <= period);
        self.restarts.push(now);
        if self.restarts.len() > usize::try_from(supervision.intensity.restarts).unwrap() {
            let escalates = supervision.on_meltdown == OnMeltdown::Escalate;
            self.stop();
            let is_told = escalates && above.is_some_and(|above| above != Restart::Temporary);
            self.is_quarantined = !is_told;
            return is_told.then_some(true);
        }
        let range = match supervision.strategy {
            Strategy::OneForAll => 0..children.len(),
            Strategy::RestForOne => *at..children.len(),
            _ => *at..at + 1,
        };
        for child in children[range.clone()].iter_mut().rev() {
            child.stop();
        }
        for child in &mut children[range] {
            child.start();
        }
        None
    }

    fn release(&mut self, is_above_up: bool) {
        let was = std::mem::take(&mut self.is_quarantined);
        let is_up = self.is_up;
        for child in self.group.iter_mut().flat_map(|(_, _, children)| children) {
            child.release(is_up);
        }
        if was && is_above_up {
            self.start();
        }
    }

    /// Collects the paths of what runs and of what is quarantined.
    fn state(&self, path: &mut Vec<usize>, into: &mut State) {
        match &self.group {
            None if self.is_up => {
                into.0.insert(path.clone());
            }
            None => {}
            Some((_, _, children)) => {
                if self.is_quarantined {
                    into.1.insert(path.clone());
                }
                for (n, child) in children.iter().enumerate() {
                    path.push(n);
                    child.state(path, into);
                    path.pop();
                }
            }
        }
    }
}

type State = (BTreeSet<Vec<usize>>, BTreeSet<Vec<usize>>);

/// The real tree with workers that stop when told, in an order drawn from a seed.
struct Driver {
    tree: Tree,
    nodes: BTreeMap<Vec<usize>, NodeId>,
    running: BTreeSet<NodeId>,
    seed: usize,
}

impl Driver {
    fn new(model: &Model, seed: usize) -> Self {
        let (supervision, ..) = model.group.as_ref().unwrap();
        let mut driver = Self {
            tree: Tree::new(*supervision),
            nodes: BTreeMap::from([(Vec::new(), NodeId::ROOT)]),
            running: BTreeSet::new(),
            seed,
        };
        driver.grow(model, &mut Vec::new());
        driver.apply(Event::Start(NodeId::ROOT), Duration::ZERO);
        driver
    }

    fn grow(&mut self, model: &Model, path: &mut Vec<usize>) {
        let parent = self.nodes[path];
        let (_, _, children) = model.group.as_ref().unwrap();
        for (n, child) in children.iter().enumerate() {
            path.push(n);
            let node = match &child.group {
                None => self.tree.add_worker(parent),
                Some((supervision, is_pool, _)) => {
                    self.tree.add_group(parent, *supervision, *is_pool)
                }
            };
            self.nodes.insert(path.clone(), node);
            if child.group.is_some() {
                self.grow(child, path);
            }
            path.pop();
        }
    }

    fn apply(&mut self, event: Event, now: Duration) {
        let mut stopping: Vec<NodeId> = Vec::new();
        let mut event = Some(event);
        while let Some(next) = event.take() {
            for action in self.tree.apply(next, now, 0) {
                match action {
                    Action::Start(node) => assert!(self.running.insert(node), "started twice"),
                    Action::Stop(node) => stopping.push(node),
                    other => assert!(
                        !matches!(other, Action::Wait { .. }),
                        "no delay was asked for"
                    ),
                }
            }
            if !stopping.is_empty() {
                let node = stopping.remove(self.seed % stopping.len());
                assert!(self.running.remove(&node), "stopped what does not run");
                event = Some(Event::Exited {
                    node,
                    failed: false,
                });
            }
        }
    }

    fn state(&self) -> State {
        let paths = |is_wanted: &dyn Fn(NodeId) -> bool| {
            let wanted = self.nodes.iter().filter(|(_, node)| is_wanted(**node));
            wanted.map(|(path, _)| path.clone()).collect()
        };
        (
            paths(&|node| self.running.contains(&node)),
            paths(&|node| self.tree.is_quarantined(node)),
        )
    }
}

fn supervision() -> impl Drawn<Value = Supervision> {
    let strategies = [
        Strategy::OneForOne,
        Strategy::OneForAll,
        Strategy::RestForOne,
    ];
    let restarts = [Restart::Permanent, Restart::Transient, Restart::Transient];
    let kinds = (
        prop::sample::select(strategies.to_vec()),
        prop::sample::select([restarts.to_vec(), vec![Restart::Temporary]].concat()),
        any::<bool>(),
    );
    (kinds, 0_u32..4, 1_u64..8).prop_map(|((strategy, restart, escalates), n, period)| {
        let on_meltdown = if escalates {
            OnMeltdown::Escalate
        } else {
            OnMeltdown::Quarantine
        };
        Supervision::new()
            .with_strategy(strategy)
            .with_restart(restart)
            .with_intensity(n, secs(period))
            .with_on_meltdown(on_meltdown)
    })
}

fn group(child: impl Drawn<Value = Model>) -> impl Drawn<Value = Model> {
    let children = prop::collection::vec(child, 1..4);
    (supervision(), any::<bool>(), children).prop_map(|(supervision, is_pool, children)| Model {
        group: Some((supervision, is_pool, children)),
        ..Model::worker()
    })
}

fn tree() -> impl Drawn<Value = Model> {
    let worker = Just(Model::worker());
    let inner = group(worker.clone());
    let middle = group(prop_oneof![worker.clone(), inner]);
    group(prop_oneof![worker, middle])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_tree_does_what_the_model_does(
        model in tree(),
        events in prop::collection::vec((any::<usize>(), 0_u32..20, 0_u64..3), 1..40),
        seed in any::<usize>(),
    ) {
        let mut model = model;
        let mut driver = Driver::new(&model, seed);
        model.start();
        let mut now = Duration::ZERO;
        for (which, kind, wait) in events {
            now += secs(wait);
            let (running, quarantined) = driver.state();
            if kind < 3 && !quarantined.is_empty() {
                let path = quarantined.iter().nth(which % quarantined.len()).unwrap().clone();
                let mut at = &mut model;
                let mut is_above_up = true;
                for n in &path {
                    is_above_up = at.is_up;
                    at = &mut at.group.as_mut().unwrap().2[*n];
                }
                at.release(is_above_up);
                driver.apply(Event::Release(driver.nodes[&path]), now);
            } else if !running.is_empty() {
                let path = running.iter().nth(which % running.len()).unwrap().clone();
                let (node, failed) = (driver.nodes[&path], kind > 5);
                model.end(&path, failed, now, None);
                driver.running.remove(&node);
                driver.apply(Event::Exited { node, failed }, now);
            }
            let mut wanted = State::default();
            model.state(&mut Vec::new(), &mut wanted);
            prop_assert_eq!(driver.state(), wanted);
        }
        driver.apply(Event::Stop(NodeId::ROOT), now);
        prop_assert!(driver.running.is_empty(), "stopping stops everything");
    }

    #[test]
    fn a_delay_grows_up_to_its_cap(n in 1_u32..200, seed in any::<u64>(), factor in 1_u32..5) {
        let mut delay = RestartDelay::new(secs(1), secs(60));
        delay.factor = factor;
        let wait = delay.wait(n, seed);
        delay.jitter = false;
        let whole = delay.wait(n, seed);
        prop_assert!(wait <= whole && wait * 2 >= whole, "{wait:?} of {whole:?}");
        let grown = f64::from(factor).powf(f64::from(n - 1)).min(60.0);
        prop_assert!((whole.as_secs_f64() - grown).abs() < 1e-6);
    }
}

#[test]
fn a_delay_reads_what_it_writes() {
    for text in ["1s..60s x2 jitter", "500ms..1s x3", "1s..1s x1"] {
        let delay: RestartDelay = text.parse().unwrap();
        assert_eq!(delay.to_string(), text);
    }
    assert_eq!(
        "1s..1m jitter".parse::<RestartDelay>().unwrap(),
        RestartDelay::new(secs(1), secs(60))
    );
    for wrong in ["", "1s", "60s..1s", "1s..2s x0", "1s..2s y2", "1s..x"] {
        assert!(wrong.parse::<RestartDelay>().is_err(), "{wrong}");
    }
}

#[test]
fn failures_in_a_row_wait_longer_until_one_ran_well() {
    let delay: RestartDelay = "1s..60s x2".parse().unwrap();
    let supervision = Supervision::new()
        .with_intensity(100, secs(1))
        .with_delay(delay);
    let mut tree = Tree::new(supervision);
    let node = tree.add_worker(NodeId::ROOT);
    tree.apply(Event::Start(NodeId::ROOT), Duration::ZERO, 0);
    let mut now = Duration::ZERO;
    let mut waits = Vec::new();
    for ran in [1, 1, 1, 60, 1] {
        now += secs(ran);
        let actions = tree.apply(Event::Exited { node, failed: true }, now, 0);
        for action in actions {
            if let Action::Wait { node, turn, wait } = action {
                waits.push(wait.as_secs());
                now += wait;
                let early = tree.apply(
                    Event::Due {
                        node,
                        turn: turn + 1,
                    },
                    now,
                    0,
                );
                assert!(early.is_empty(), "another turn's wait starts nothing");
                let started = tree.apply(Event::Due { node, turn }, now, 0);
                assert_eq!(started, [Action::Start(node)]);
            }
        }
    }
    assert_eq!(waits, [1, 2, 4, 1, 2]);
}
