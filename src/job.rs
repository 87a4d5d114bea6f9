//! The life of a job: claimed by a fetch, settled by its consumer, or taken back.

pub mod arrival;
pub mod binding;
pub mod claim;
pub mod direct;
pub mod enqueue;
pub mod extend;
pub mod floor;
pub mod floor_store;
pub mod lease;
pub mod outcomes;
pub mod pending;
pub mod reap;
pub mod retention;
pub mod retry;
pub mod settle;
pub mod shape;
pub mod state;
pub mod statement;
pub mod sweep;
pub mod table;
pub mod upkeep;
pub mod waiting;
