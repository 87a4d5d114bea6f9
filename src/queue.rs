//! Queues and workflows: what is registered, and what a session remembers of it.

pub mod cache;
pub mod create;
pub mod effective;
pub mod name;
pub mod registry;
pub mod settings;
pub mod verify;
pub mod workflow;
