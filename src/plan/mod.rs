//! What will be done, as data: decided before anything is touched.

pub mod seccomp;
