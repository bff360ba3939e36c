//! The bundled data.
