//! The tests of this crate, one module a subject, in one program: a program for each would be
//! linked as often as there are subjects, with everything the crate depends on.

mod authority;
#[path = "../common/mod.rs"]
mod common;
mod conformance;
mod crash_points;
mod durability;
mod example;
mod finds;
mod finops;
mod gathered;
mod hostile;
mod intent;
mod keys;
mod model;
mod old_files;
mod payers;
mod planted;
mod planted_rail;
mod provision;
mod race;
mod rail_turns;
mod rails;
mod rate_card;
mod spend;
mod spend_kill;
mod spend_race;
mod statements;
#[path = "../common/stubborn.rs"]
mod stubborn;
mod trade;
mod transaction;
mod transfers;
