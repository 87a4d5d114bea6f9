//! What qflow takes from the server that hosts it. All contact with `pg_sys` that the domain needs is wrapped here once,
//! so that the folders beside this one stay free of pointers.

pub mod background;
pub mod call;
pub mod client;
pub mod column_default;
pub mod cost;
pub mod dirty;
pub mod encoding;
pub mod exit;
pub mod expression;
pub mod heap;
pub mod identity;
pub mod latch;
pub mod lock;
pub mod passing;
pub mod portions;
pub mod relation;
pub mod report;
pub mod rows;
pub mod sequence;
pub mod shared;
pub mod snapshot;
pub mod spi;
pub mod subtransaction;
pub mod trigger;
pub mod value;
pub mod xact;
