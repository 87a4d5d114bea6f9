//! Resources that consumers must not share beyond their capacity. So far: the reading of hints.

pub mod hints;
