//! Queues and workflows: what is registered, and what a session remembers of it.

pub mod adopt;
pub mod cache;
pub mod catalog;
pub mod check;
pub mod create;
pub mod definition;
pub mod effective;
pub mod gaps;
pub mod name;
pub mod path;
pub mod readiness;
pub mod registry;
pub mod rights;
pub mod service;
pub mod settings;
pub mod survey;
pub mod verify;
pub mod workflow;
