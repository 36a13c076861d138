//! The tests of this crate, one module a subject, in one program: a program for each would be
//! linked as often as there are subjects, with everything the crate depends on.

mod cached_embedder;
mod child;
mod concurrency;
mod conformance;
mod context;
mod curation;
mod durability;
mod embedder;
mod extraction;
mod foreign;
mod forgetting;
mod in_memory;
mod index_file;
mod indexes;
mod killed_curation;
mod model;
mod model_extraction;
mod portable;
mod recall;
mod safety;
mod scale;
mod timelines;
mod two_curators;
