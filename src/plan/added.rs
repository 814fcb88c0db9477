//! `mounts add` and `mounts remove`: what a process does that joins a container's user and mount namespaces, and ends.
//!
//! It stays in the pid namespace of the host, so that nobody in the container sees it, and is undumpable. What is mounted from the
//! host is cloned by the host half first; paths of the container are resolved in the root of its first process, by descriptor.

use super::container::{Mode, Request, StartOptions, planner};
use super::image::{Image, c_string};
use super::mounts::{self, CgroupTree};
use super::network::Network;
use super::opens::Opens;
use super::request::placeholder;
use super::step::{Slot, Step};
use super::{CloneSpec, Plan};
use crate::abi::mount::{ATTR_RDONLY, MountAttr};
use crate::abi::ns::{Namespace, Namespaces};
use crate::error::{Error, Result};
use crate::facts::Facts;
use crate::plan::hooks::Hooks;
use crate::spec::{Checked, Config, MountEntry, MountKind};
use oci_spec::runtime::Linux;

/// Plans mounts for a container that runs.
///
/// # Errors
/// One that can't be added: its file system shows namespaces of whoever mounts it, or it changes another mount.
pub fn add(config: &Checked<Config>, id: &str, mounts: &[MountEntry], facts: &Facts) -> Result<Plan> {
    mounts.iter().try_for_each(check)?;
    let process = placeholder();
    let empty = Linux::default();
    let linux = config.spec.linux().as_ref().unwrap_or(&empty);
    let options = StartOptions { mode: Mode::Run, ..StartOptions::default() };
    let tree = CgroupTree::Unified(None);
    let request = Request { id, options: &options, notify: None, cgroups: &tree, delegate: None, placed_late: false };
    let mut planner = planner(config, (&process, linux, mounts), &request, facts)?;
    // nothing is joined by path, and the host's paths mean nothing where the process is
    planner.opens = Opens::new();
    (planner.by_host, planner.hidden, planner.root_alone) = (true, true, None);
    (planner.dev.mount, planner.kept) = (None, Some(Vec::new()));
    planner.dev.new_dirs.clear();
    let mut steps = Vec::new();
    for number in 0..mounts.len() {
        mounts::steps(&mut planner, number, &mut steps)?;
    }
    let attr = MountAttr { set: ATTR_RDONLY, ..MountAttr::default() };
    steps.extend(planner.readonly.iter().map(|slot| Step::Attr { slot: *slot, attr, recursive: false }));
    let (opens, added) = (std::mem::replace(&mut planner.opens, Opens::new()), planner.kept.take());
    let plan = whole(config, opens, steps)?;
    Ok(Plan { added: added.unwrap_or_default(), ..plan })
}

/// Plans that mounts of a container that runs are removed. All of them must be there.
///
/// # Errors
/// A zero byte in a path; the container has no mount namespace of its own.
pub fn remove(config: &Checked<Config>, mounts: &[MountEntry]) -> Result<Plan> {
    let mut opens = Opens::new();
    let (mut steps, mut last) = (Vec::new(), Vec::new());
    for mount in mounts {
        let target = c_string(&format!("{}.destination", mount.at), mount.target.as_str())?;
        let slot = opens.slot();
        steps.push(Step::OpenMount { slot, target: target.clone() });
        last.push(Step::Unmount { slot, target });
    }
    // what lies in another mount goes first
    steps.extend(last.into_iter().rev());
    whole(config, opens, steps)
}

/// What can be mounted by a process that is in no other namespace of the container.
fn check(mount: &MountEntry) -> Result<()> {
    if mount.options.links.copy {
        return Err(Error::spec(format!("{}.options", mount.at), "copy-symlink makes no mount"));
    }
    match mount.kind() {
        MountKind::Bind => Ok(()),
        MountKind::New if mount.typ == "tmpfs" => Ok(()),
        MountKind::New | MountKind::Cgroup => {
            let text = format!("{:?} can't be added to a container that runs", mount.typ);
            Err(Error::spec(format!("{}.type", mount.at), text).with_hint("bind mounts and tmpfs can"))
        }
        MountKind::Remount | MountKind::RemountBind => {
            Err(Error::spec(format!("{}.options", mount.at), "remount adds no mount"))
        }
    }
}

/// The way into the container and what is done there.
fn whole(config: &Config, mut opens: Opens, steps: Vec<Step>) -> Result<Plan> {
    if !config.namespaces.all.has(Namespace::Mount) {
        let text = "the container has no mount namespace of its own: its mounts would be the host's";
        return Err(Error::spec("linux.namespaces", text));
    }
    let mut join = Namespaces::default();
    join.insert(Namespace::Mount);
    let user = config.namespaces.all.has(Namespace::User);
    if user {
        join.insert(Namespace::User);
    }
    // a procfs of the host's pid namespace, which names our own descriptors
    let mut all = vec![Step::CloseInherited { preserve: 0 }, Step::OpenProc, Step::Join(Slot::INIT, join)];
    if user {
        all.extend([Step::BecomeRoot { alone: true }, Step::Undumpable]);
    }
    all.push(Step::Umask(0));
    all.extend(steps);
    all.push(Step::End);
    // one more, so that a plan without mounts has a slot for each that has a fixed number
    opens.slot();
    let (opens, slots) = opens.into_parts();
    Ok(Plan {
        root: None,
        network: Network::default(),
        opens,
        slots,
        clone_spec: CloneSpec { undumpable: true, ..CloneSpec::default() },
        limits: Vec::new(),
        oom_score_adj: None,
        keyring: None,
        hooks: Hooks::default(),
        steps: all,
        image: Image::fixed("mounts", "/", &[], &[])?,
        listener: None,
        delegate: None,
        added: Vec::new(),
        notes: Vec::new(),
        details: Vec::new(),
    })
}
