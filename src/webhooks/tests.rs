//! The room's promises, on a log in memory and a clock that a test moves. No receiver: a batch is taken as a test says.
//!
//! - `fixture.rs`: a log, and the gatherer on it
//! - `gathering.rs`: which events come, in which order, and again after a crash
//! - `dispatching.rs`: what an answer means, and when a batch is tried again
//! - `forgetting.rs`: users who were erased are in no event
//! - `letters.rs`: the list of dead letters

mod dispatching;
mod fixture;
mod forgetting;
mod gathering;
mod letters;
