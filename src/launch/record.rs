//! The record of a container, and the state document that hooks and callers get.

use super::{Mode, PlanInput, Record, init_error};
use crate::abi::ns::Namespace;
use crate::cgroup::Cgroup;
use crate::error::{Context, Error, Result};
use crate::launch::hooks::StateDocument;
use crate::plan::Plan;
use crate::plan::cgroup::Rootless;
use crate::state::Maker;
use crate::sys::{clock, proc};
use nix::unistd::Pid;
use oci_spec::runtime::Spec;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The record of a container that has no process yet.
#[must_use]
pub fn record(input: &PlanInput<'_>, cgroup: Cgroup) -> Record {
    let spec = &input.config.spec;
    let hooks = spec.hooks().as_ref();
    Record {
        maker: Maker::Onggi,
        oci_version: spec.version().clone(),
        id: input.id.to_owned(),
        init_process_pid: 0,
        init_process_start: 0,
        created: clock::now().nanos(),
        bundle: input.config.bundle.clone(),
        rootfs: input.config.rootfs.clone(),
        annotations: annotations(spec),
        rootless: input.rootless == Rootless::Yes,
        namespace_paths: BTreeMap::new(),
        external_descriptors: Vec::new(),
        // until a process is recorded, nothing may be killed because of this record
        private_pid: true,
        root_mount: None,
        no_new_keyring: input.options.no_new_keyring,
        cgroup,
        poststart: hooks.and_then(|h| h.poststart().clone()).unwrap_or_default(),
        poststop: hooks.and_then(|h| h.poststop().clone()).unwrap_or_default(),
    }
}

/// Puts the first process into a record; `start` is when it was started, if that was read already.
///
/// # Errors
/// It has ended.
pub fn record_process(record: &mut Record, pid: i32, start: Option<u64>, plan: &Plan) -> Result<()> {
    let start = match start {
        Some(start) => start,
        None => {
            let stat = proc::stat(Pid::from_raw(pid)).context(|| format!("read /proc/{pid}/stat"))?;
            stat.ok_or_else(|| init_error::vanished(Mode::Run, None, &record.cgroup))?.start
        }
    };
    let namespace =
        |kind: Namespace| (kind.runc_key().to_owned(), PathBuf::from(format!("/proc/{pid}/ns/{}", kind.file())));
    record.init_process_pid = pid;
    record.init_process_start = start;
    record.namespace_paths = Namespace::ALL.map(namespace).into();
    record.private_pid = plan.clone_spec.new.has(Namespace::Pid);
    Ok(())
}

fn annotations(spec: &Spec) -> BTreeMap<String, String> {
    spec.annotations().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The state document of a record.
#[must_use]
pub fn document<'a>(record: &'a Record, status: &'a str, pid: i32) -> StateDocument<'a> {
    StateDocument {
        oci_version: &record.oci_version,
        id: &record.id,
        status,
        pid,
        bundle: &record.bundle,
        annotations: &record.annotations,
    }
}

/// The pid of a process in its own pid namespace (`NSpid` of `/proc/PID/status`, proc(5)).
pub(super) fn inner_pid(pid: i32) -> Result<i32> {
    let failed = |error: procfs::ProcError| Error::msg(error.to_string()).context(format!("read /proc/{pid}/status"));
    let status = procfs::process::Process::new(pid).and_then(|process| process.status()).map_err(failed)?;
    let inner = status.nspid.and_then(|numbers| numbers.last().copied());
    inner.ok_or_else(|| Error::msg(format!("/proc/{pid}/status has no NSpid")))
}
