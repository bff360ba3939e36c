//! Modules that a checkpoint numbers: `layers.0`, `layers.1`, ….

use crate::graph::Scope;

/// How many of the names `name(0)`, `name(1)`, … are there, up to the first that is not.
pub(super) fn count(has: impl Fn(&str) -> bool, name: impl Fn(usize) -> String) -> usize {
    let mut found = 0;
    while has(&name(found)) {
        found += 1;
    }
    found
}

/// How many tensors `name(0)`, `name(1)`, … a scope has.
pub(super) fn count_in(g: &Scope<'_, '_>, name: impl Fn(usize) -> String) -> usize {
    count(|name| g.param_shape(name).is_some(), name)
}
