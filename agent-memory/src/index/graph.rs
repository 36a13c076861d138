//! Relations in main memory: walks, and the one step of spreading that search takes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use petgraph::stable_graph::{EdgeIndex, NodeIndex, StableDiGraph};
use petgraph::visit::{EdgeRef, IntoEdgeReferences};

use agent_core::Timestamp;

use crate::as_of::View;
use crate::memory::MemoryId;
use crate::relation::{Direction, Node, Path, Relation, RelationVersion, Walk};
use crate::terms::for_each_term;

/// A version of a relation.
struct Edge {
    /// Its number in the order they were added.
    n: i64,
    label: String,
    weight: f32,
    valid_from: Timestamp,
    valid_to: Option<Timestamp>,
    known_from: Timestamp,
    known_to: Option<Timestamp>,
}

impl Edge {
    fn is_seen(&self, view: View) -> bool {
        view.is_version(self.known_from, self.known_to)
            && view.holds(self.valid_from, self.valid_to)
    }
}

#[derive(Default)]
pub(super) struct Graph {
    graph: StableDiGraph<Node, Edge>,
    nodes: HashMap<Node, NodeIndex>,
    /// Entities by the first word of their name, for finding them in questions.
    entities: HashMap<String, BTreeSet<Node>>,
    n_inserted: i64,
}

impl Graph {
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// How many relations are known at present, replaced versions left out.
    pub(super) fn n_relations(&self) -> usize {
        let edges = self.graph.edge_weights();
        edges.filter(|edge| edge.known_to.is_none()).count()
    }

    /// Adds a version; the one of the same relation that is known until now ends where it begins.
    pub(super) fn insert(&mut self, version: &RelationVersion) {
        let relation = &version.relation;
        let valid_from = relation.valid_from.unwrap_or(version.known_from);
        let from = self.node(&relation.from);
        let to = self.node(&relation.to);
        let replaced = self
            .graph
            .edges_connecting(from, to)
            .find(|edge| {
                let edge = edge.weight();
                edge.known_to.is_none()
                    && edge.known_from <= version.known_from
                    && edge.label == relation.label
                    && edge.valid_from == valid_from
            })
            .map(|edge| edge.id());
        if let Some(edge) = replaced {
            match self.graph.edge_weight_mut(edge) {
                // Replaced in the moment it was added, it was never known.
                Some(old) if old.known_from == version.known_from => {
                    self.graph.remove_edge(edge);
                }
                Some(old) => old.known_to = Some(version.known_from),
                None => {}
            }
        }
        self.n_inserted += 1;
        let edge = Edge {
            n: self.n_inserted,
            label: relation.label.clone(),
            weight: relation.weight,
            valid_from,
            valid_to: relation.valid_to,
            known_from: version.known_from,
            known_to: version.known_to,
        };
        self.graph.add_edge(from, to, edge);
    }

    /// Versions in the order they were added, from behind number `after`.
    pub(super) fn versions(&self, after: i64, n_max: usize) -> Vec<(i64, RelationVersion)> {
        let mut found: Vec<(i64, EdgeIndex)> = self
            .graph
            .edge_references()
            .map(|edge| (edge.weight().n, edge.id()))
            .filter(|(n, _)| *n > after)
            .collect();
        found.sort_unstable();
        found.truncate(n_max);
        found
            .into_iter()
            .filter_map(|(n, edge)| Some((n, self.version(edge)?)))
            .collect()
    }

    fn version(&self, edge: EdgeIndex) -> Option<RelationVersion> {
        let weight = self.graph.edge_weight(edge)?;
        Some(RelationVersion {
            relation: self.relation(edge)?,
            known_from: weight.known_from,
            known_to: weight.known_to,
        })
    }

    /// Whether a version is here, or another that is known at present in its place.
    pub(super) fn has_version(&self, version: &RelationVersion) -> bool {
        let relation = &version.relation;
        let ends = self
            .nodes
            .get(&relation.from)
            .zip(self.nodes.get(&relation.to));
        let Some((from, to)) = ends else {
            return false;
        };
        self.graph.edges_connecting(*from, *to).any(|edge| {
            let weight = edge.weight();
            let is_in_place = weight.known_to.is_none()
                && version.known_to.is_none()
                && weight.label == relation.label
                && Some(weight.valid_from) == relation.valid_from;
            is_in_place || self.version(edge.id()).as_ref() == Some(version)
        })
    }

    /// The versions known at present of the relation with these ends and this label.
    pub(super) fn known(&self, relation: &Relation) -> Vec<Relation> {
        let ends = self
            .nodes
            .get(&relation.from)
            .zip(self.nodes.get(&relation.to));
        let Some((from, to)) = ends else {
            return Vec::new();
        };
        self.graph
            .edges_connecting(*from, *to)
            .filter(|edge| {
                edge.weight().known_to.is_none() && edge.weight().label == relation.label
            })
            .filter_map(|edge| self.relation(edge.id()))
            .collect()
    }

    fn node(&mut self, node: &Node) -> NodeIndex {
        if let Some(index) = self.nodes.get(node) {
            return *index;
        }
        if let Some(word) = entity_words(node).into_iter().next() {
            self.entities.entry(word).or_default().insert(node.clone());
        }
        let index = self.graph.add_node(node.clone());
        self.nodes.insert(node.clone(), index);
        index
    }

    /// Removes a node with all versions of its relations, and entities that are left without any;
    /// returns how many relations went.
    pub(super) fn remove(&mut self, node: &Node) -> usize {
        let Some(index) = self.nodes.get(node).copied() else {
            return 0;
        };
        let around: BTreeSet<NodeIndex> = self.graph.neighbors_undirected(index).collect();
        let n_known = |direction| {
            let edges = self.graph.edges_directed(index, direction);
            edges
                .filter(|edge| edge.weight().known_to.is_none())
                .count()
        };
        let n_relations = n_known(petgraph::Outgoing) + n_known(petgraph::Incoming);
        self.forget_node(node, index);
        for other in &around {
            let is_alone = self.graph.neighbors_undirected(*other).next().is_none();
            if let Some(node) = self.graph.node_weight(*other).cloned()
                && is_alone
            {
                self.forget_node(&node, *other);
            }
        }
        n_relations
    }

    fn forget_node(&mut self, node: &Node, index: NodeIndex) {
        self.graph.remove_node(index);
        self.nodes.remove(node);
        for word in entity_words(node).into_iter().take(1) {
            if let Some(named) = self.entities.get_mut(&word) {
                named.remove(node);
                if named.is_empty() {
                    self.entities.remove(&word);
                }
            }
        }
    }

    /// Finds a shortest path to each node by breadth-first search over sorted neighbours.
    pub(super) fn paths(&self, walk: &Walk, view: View) -> Vec<Path> {
        let Some(start) = self.nodes.get(&walk.from).copied() else {
            return Vec::new();
        };
        let mut came_by: HashMap<NodeIndex, (NodeIndex, EdgeIndex)> = HashMap::new();
        let mut seen = HashSet::from([start]);
        let mut paths = Vec::new();
        let mut frontier = vec![start];
        for _ in 0..walk.depth {
            let mut next = Vec::new();
            for from in &frontier {
                for (edge, to) in self.steps(*from, walk, view) {
                    if !seen.insert(to) {
                        continue;
                    }
                    came_by.insert(to, (*from, edge));
                    next.push(to);
                    let is_wanted = |wanted: &Node| self.graph.node_weight(to) == Some(wanted);
                    if walk.to.as_ref().is_none_or(is_wanted) {
                        paths.extend(self.path(to, &came_by));
                    }
                    if paths.len() >= walk.limit || (walk.to.is_some() && !paths.is_empty()) {
                        return paths;
                    }
                }
            }
            frontier = next;
        }
        paths
    }

    /// The relations that lead away from a node, by label, the node they lead to and their start.
    fn steps(&self, from: NodeIndex, walk: &Walk, view: View) -> Vec<(EdgeIndex, NodeIndex)> {
        let out = self
            .graph
            .edges_directed(from, petgraph::Outgoing)
            .filter(|_| walk.direction != Direction::In)
            .map(|edge| (edge.id(), edge.target(), edge.weight()));
        let into = self
            .graph
            .edges_directed(from, petgraph::Incoming)
            .filter(|_| walk.direction != Direction::Out)
            .map(|edge| (edge.id(), edge.source(), edge.weight()));
        let mut steps: Vec<_> = out
            .chain(into)
            .filter(|(_, _, edge)| walk.labels.is_empty() || walk.labels.contains(&edge.label))
            .filter(|(_, _, edge)| edge.is_seen(view))
            .collect();
        steps.sort_by_key(|(_, to, edge)| {
            (&edge.label, self.graph.node_weight(*to), edge.valid_from)
        });
        steps.into_iter().map(|(edge, to, _)| (edge, to)).collect()
    }

    fn path(
        &self,
        to: NodeIndex,
        came_by: &HashMap<NodeIndex, (NodeIndex, EdgeIndex)>,
    ) -> Option<Path> {
        let mut steps = Vec::new();
        let mut at = to;
        while let Some((from, edge)) = came_by.get(&at) {
            steps.push(self.relation(*edge)?);
            at = *from;
        }
        steps.reverse();
        Some(Path {
            to: self.graph.node_weight(to)?.clone(),
            steps,
        })
    }

    fn relation(&self, edge: EdgeIndex) -> Option<Relation> {
        let (from, to) = self.graph.edge_endpoints(edge)?;
        let weight = self.graph.edge_weight(edge)?;
        let from = self.graph.node_weight(from)?.clone();
        let to = self.graph.node_weight(to)?.clone();
        let relation = Relation::new(from, weight.label.clone(), to)
            .with_weight(weight.weight)
            .valid(weight.valid_from, weight.valid_to);
        Some(relation)
    }

    /// The memories around a node with the weight of the strongest relation to each.
    pub(super) fn around(&self, node: &Node, view: View) -> BTreeMap<MemoryId, f32> {
        let mut found = BTreeMap::new();
        let Some(index) = self.nodes.get(node).copied() else {
            return found;
        };
        let out = self.graph.edges_directed(index, petgraph::Outgoing);
        let into = self.graph.edges_directed(index, petgraph::Incoming);
        let ends = out
            .map(|edge| (edge.target(), edge.weight()))
            .chain(into.map(|edge| (edge.source(), edge.weight())));
        for (end, edge) in ends.filter(|(_, edge)| edge.is_seen(view)) {
            let weight = edge.weight;
            if let Some(Node::Memory(id)) = self.graph.node_weight(end) {
                let strongest = found.entry(*id).or_insert(weight);
                *strongest = strongest.max(weight);
            }
        }
        found
    }

    /// The memories that any version of a relation connects to a node.
    pub(super) fn ever_around(&self, node: &Node) -> BTreeSet<MemoryId> {
        let index = self.nodes.get(node).copied();
        let ends = index.map(|index| self.graph.neighbors_undirected(index));
        ends.into_iter()
            .flatten()
            .filter_map(|end| match self.graph.node_weight(end)? {
                Node::Memory(id) => Some(*id),
                Node::Entity(_) => None,
            })
            .collect()
    }

    /// The entities whose whole name stands in the question, given as all its words in order.
    pub(super) fn named_in(&self, words: &[String]) -> Vec<Node> {
        let mut named = BTreeSet::new();
        for (n, word) in words.iter().enumerate() {
            for node in self.entities.get(word).into_iter().flatten() {
                let rest = words.get(n..).unwrap_or_default();
                if rest.starts_with(&entity_words(node)) {
                    named.insert(node.clone());
                }
            }
        }
        named.into_iter().collect()
    }
}

fn entity_words(node: &Node) -> Vec<String> {
    let mut words = Vec::new();
    if let Node::Entity(name) = node {
        for_each_term(name, |word| words.push(word.to_owned()));
    }
    words
}
