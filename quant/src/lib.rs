//! The engine of bitloupe.
