//! bitloupe
fn main() {}
