//! The load rig's parts that other packages use as well.
//!
//! - `ledger.rs`: every message accepted or refused, held against what landed

pub mod ledger;
