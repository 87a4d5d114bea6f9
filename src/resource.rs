//! Resources that consumers must not share beyond their capacity: GPUs as numbered slots, memory as units.
//!
//! - `hints`: what a fetch or a workflow asks for, as written. `want`: the same held against what there is.
//! - `catalog`: which resources there are. `holder`: who holds what; the rows are the truth.
//! - `claim`: taking all that a fetch wants, or nothing. `line`: whose turn it is. `release`: giving back.
//!   `expired`: taking back what is over on the way. `breaking`: ending a lease by hand. `status`: what the view shows.
//! - `at_end`: what a transaction took and gave back, and what its end means for the locks of the session.

pub mod at_end;
pub mod breaking;
pub mod catalog;
pub mod claim;
pub mod expired;
pub mod hints;
pub mod holder;
pub mod line;
pub mod release;
pub mod status;
pub mod want;
