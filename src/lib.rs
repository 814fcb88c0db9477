//! onggi: a low-level OCI container runtime. Smart plan, dumb init.
//!
//! The modules stand in the order in which a container comes to be: what was typed, what the bundle says, what the
//! machine can do, the plan made of these, the host half that carries it out, the child half that walks its steps.

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
