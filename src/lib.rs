//! onggi: a low-level OCI container runtime. Smart plan, dumb init.
//!
//! The modules are in the order of a start: the command line, the bundle, what the machine offers, the plan made from these,
//! the host half that carries it out, and the child half that executes the steps.

pub mod cli;

pub mod spec;

pub mod facts;

pub mod plan;

pub mod launch;

pub mod cgroup;

pub mod wire;

pub mod init;

pub mod state;

pub mod criu;

pub mod cmd;

pub mod abi;
pub mod error;
pub mod log;
pub mod sys;
pub mod trace;
