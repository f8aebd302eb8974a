//! A machine in memory that behaves like the real one.
