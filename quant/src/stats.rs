//! Distributions gathered in one pass, and what they mean.
