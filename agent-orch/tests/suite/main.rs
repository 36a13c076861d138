//! The tests of this crate, one module a subject, in one program: a program for each would be
//! linked as often as there are subjects, with everything the crate depends on.

mod audit;
mod clock;
mod common;
mod conformance;
mod cron;
mod decide;
mod door;
mod drift;
mod durability;
mod failpoint_pairs;
mod failpoints;
mod fault_layer;
mod fleet;
mod golden;
mod journal_common;
mod kill;
mod lifecycle;
mod memory_tools;
#[cfg(feature = "git")]
mod merge_common;
mod merge_durability;
mod merge_git;
mod merge_plan;
mod merge_queue;
mod merge_three_way;
mod queue;
mod recovery;
mod restart;
mod schedules;
mod scheduling;
mod simulation;
mod supervise;
mod supervision;
mod trees;
mod trees_store;
mod waits;
mod walks;
