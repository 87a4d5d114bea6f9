//! What one sees of qflow at work: the numbers of each queue, whether all is well, and a text for Prometheus.

pub mod depths;
mod exposition;
pub mod health;
pub mod prometheus;
mod resources;
pub mod totals;
pub mod visible;
