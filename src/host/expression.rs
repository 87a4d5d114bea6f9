//! Expressions as the catalog keeps them.

use pgrx::pg_sys;

/// Whether an expression gives the same for the same row, always: nothing in it looks at settings, the clock or other rows.
/// `tree` is a text made of a `pg_node_tree` of the catalog.
pub fn is_immutable(tree: pg_sys::Datum) -> bool {
    // SAFETY: the text is the server's own; both functions only read it.
    unsafe {
        let node = pg_sys::stringToNode(pg_sys::text_to_cstring(tree.cast_mut_ptr()));
        !pg_sys::contain_mutable_functions(node.cast())
    }
}
