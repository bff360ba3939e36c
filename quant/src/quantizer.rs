//! Families of grids and the searches for their ranges.
