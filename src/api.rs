//! The SQL-visible functions: they check arguments, call inward, and shape rows. `sql/functions.sql` declares them.

mod enqueue;
mod fetch;
mod maintain;
mod queue;
mod resource;
mod rights;
mod settle;
mod triggers;
mod views;
mod wait;
mod workflow;
