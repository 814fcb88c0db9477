//! Which slots hold an open descriptor after each step of a plan. Tests use it to check that nothing of the host is open when a
//! path of the image is resolved, in any plan.

use super::Plan;
use super::step::{Slot, Step};
use std::collections::BTreeSet;

/// The slots that are filled after each step, in the order of the steps.
#[must_use]
pub fn after_each(plan: &Plan, gate: bool) -> Vec<BTreeSet<u16>> {
    let mut open: BTreeSet<u16> = at_clone(plan, gate).map(|slot| slot.0).collect();
    let after = |step: &Step| {
        change(step, &mut open);
        open.clone()
    };
    plan.steps.iter().map(after).collect()
}

/// The slots that the host half fills before the clone.
fn at_clone(plan: &Plan, gate: bool) -> impl Iterator<Item = Slot> {
    let hooks = plan.opens.iter().any(|(slot, _)| *slot == Slot::HOOK[0]);
    let hooks = [Slot::HOOK[1], Slot::HOOK[2], Slot::HOOK_START].into_iter().filter(move |_| hooks);
    let gate = [Slot::EXEC_FIFO, Slot::STATUS_LOCK].into_iter().filter(move |_| gate);
    let network = plan.clone_spec.network_ahead.then_some(Slot::NETWORK);
    let root = plan.root.as_ref().map(|_| Slot::ROOT);
    let init = (!plan.clone_spec.join_in_intermediate.is_empty()).then_some(Slot::INIT);
    plan.opens.iter().map(|(slot, _)| *slot).chain(hooks).chain(gate).chain(network).chain(root).chain(init)
}

// check: table: one arm a step: the slots that it fills and empties
fn change(step: &Step, open: &mut BTreeSet<u16>) {
    let mut fill = |slots: &[Slot]| open.extend(slots.iter().map(|slot| slot.0));
    match step {
        Step::CloseFds { keep, .. } => open.retain(|slot| keep.iter().any(|kept| kept.0 == *slot)),
        Step::OpenRoot { tree, .. } => {
            fill(&[Slot::ROOT]);
            open.retain(|slot| tree.is_none_or(|tree| tree.0 != *slot));
        }
        Step::Chroot(_) | Step::TakeRoot => fill(&[Slot::ROOT]),
        Step::NewTree { .. } => fill(&[Slot::MOUNTS]),
        Step::CloneAhead { slot, .. } => fill(&[*slot]),
        Step::Mount { detached, .. } => fill(&detached.iter().filter_map(|new| new.keep).collect::<Vec<_>>()),
        Step::Clone { .. } | Step::CloneInside { .. } => fill(&[Slot::TREE]),
        Step::Take { slot, .. } => {
            fill(&[Slot::TREE]);
            open.remove(&slot.0);
        }
        Step::Attach { .. } => open.retain(|slot| *slot != Slot::TREE.0),
        Step::OpenMount { slot, .. } => fill(&[*slot]),
        Step::OpenDev => fill(&[Slot::DEV]),
        Step::OpenProc => fill(&[Slot::PROC]),
        Step::Mask { .. } => fill(&[Slot::NULL, Slot::COVER]),
        Step::OpenTerminal { .. } => fill(&[Slot::PTY, Slot::TTY]),
        Step::SendTerminal { .. } => open.retain(|slot| ![Slot::PTY.0, Slot::CONSOLE.0].contains(slot)),
        Step::TakeTerminal(_) => open.retain(|slot| *slot != Slot::TTY.0),
        Step::Tell(_)
        | Step::Await(_)
        | Step::Setns(..)
        | Step::Join(..)
        | Step::JoinNetwork
        | Step::Unshare(_)
        | Step::BecomeRoot { .. }
        | Step::Session
        | Step::Keyring(_)
        | Step::Hostname(_)
        | Step::Domainname(_)
        | Step::Loopback
        | Step::Propagate(_)
        | Step::PropagateParent(..)
        | Step::EnterRoot
        | Step::MountCgroup { .. }
        | Step::Remount { .. }
        | Step::IdMap { .. }
        | Step::Attr { .. }
        | Step::AttrKeepLocked { .. }
        | Step::AttrAt { .. }
        | Step::Link { .. }
        | Step::LinkTo { .. }
        | Step::CopyLink { .. }
        | Step::Node { .. }
        | Step::Unlink { .. }
        | Step::Pivot { .. }
        | Step::UnmountOrCover { .. }
        | Step::MoveRoot
        | Step::WriteProc { .. }
        | Step::ReadonlyRoot
        | Step::ReadonlyPath { .. }
        | Step::BindConsole
        | Step::OwnStdio(_)
        | Step::Limit { .. }
        | Step::Scheduler(..)
        | Step::IoPriority(..)
        | Step::Affinity(_)
        | Step::MemoryPolicy(..)
        | Step::Personality(_)
        | Step::Undumpable
        | Step::NoNewPrivs
        | Step::Bound(_)
        | Step::KeepCaps(_)
        | Step::Groups(_)
        | Step::Gid(_)
        | Step::Uid(_)
        | Step::Caps(_)
        | Step::Ambient(_)
        | Step::Umask(_)
        | Step::Seccomp { .. }
        | Step::MakeCwd(_)
        | Step::Chdir { .. }
        | Step::Home(_)
        | Step::Find
        | Step::Hook(_)
        | Step::CloseInherited { .. }
        | Step::Gate
        | Step::Signals
        | Step::End
        | Step::Unmount { .. }
        | Step::Exec => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::wildcard_enum_match_arm, reason = "only the steps that look something up are judged")]

    use super::*;
    use crate::facts::Facts;
    use crate::plan::goldens::requested;
    use crate::plan::request::{Mode, StartOptions};
    use crate::plan::{container, exec};
    use crate::spec;
    use oci_spec::runtime::{Process, Spec};
    use std::path::{Path, PathBuf};

    /// Pipes and files that lead nowhere.
    const HARMLESS: [Slot; 6] =
        [Slot::EXEC_FIFO, Slot::STATUS_LOCK, Slot::HOOK[0], Slot::HOOK[1], Slot::HOOK[2], Slot::HOOK_START];
    /// The container's own, behind the pivot.
    const OWN: [Slot; 8] =
        [Slot::ROOT, Slot::DEV, Slot::PROC, Slot::NULL, Slot::COVER, Slot::PTY, Slot::TTY, Slot::CONSOLE];

    fn judge(plan: &Plan, gate: bool, what: &str) {
        let open = after_each(plan, gate);
        let late = |slot: u16| {
            plan.steps.iter().any(|step| matches!(step, Step::Attr { slot: Slot(late), .. } if *late == slot))
        };
        assert!(matches!(plan.steps[0], Step::CloseInherited { .. }), "{what}: first the host half's descriptors go");
        let entered = plan.steps.iter().rposition(|step| {
            matches!(
                step,
                Step::Pivot { .. }
                    | Step::MoveRoot
                    | Step::EnterRoot
                    | Step::Chroot(_)
                    | Step::TakeRoot
                    | Step::Join(..)
            )
        });
        let inside = entered.map_or(0, |at| at + 1);
        let closed = plan.steps.iter().skip(inside).position(|step| matches!(step, Step::CloseFds { .. }));
        let closed = inside + closed.unwrap_or_else(|| panic!("{what}: nothing is closed inside"));
        let payload = plan.steps.iter().rposition(|step| matches!(step, Step::CloseFds { .. })).unwrap();
        for (at, step) in plan.steps.iter().enumerate() {
            let found = |slot: &u16| Slot(*slot);
            let beyond = |allowed: &[Slot]| {
                let odd: Vec<_> = open[at].iter().map(found).filter(|slot| !allowed.contains(slot)).collect();
                assert!(odd.is_empty(), "{what}: step {} ({step}) beside open slots {odd:?}", at + 1);
            };
            let late: Vec<Slot> = open[at].iter().copied().filter(|slot| late(*slot)).map(Slot).collect();
            match step {
                // the image decides where these lead, and init still has the host's rights
                Step::MakeCwd(_)
                | Step::Mask { .. }
                | Step::ReadonlyPath { .. }
                | Step::OpenTerminal { .. }
                | Step::ReadonlyRoot => {
                    assert!(at > closed, "{what}: {step} before anything was closed");
                    beyond(&[&OWN[..], &HARMLESS, &late].concat());
                }
                // exec writes its labels before it joins
                Step::OpenProc | Step::WriteProc { .. } if at > closed => {
                    beyond(&[&OWN[..], &HARMLESS, &late].concat());
                }
                Step::Chdir { path, .. } if path.as_c_str() == c"/" && at < payload => {
                    beyond(&[&OWN[..], &HARMLESS, &late].concat());
                }
                Step::Find | Step::Home(_) | Step::Chdir { .. } | Step::Gate | Step::Exec => {
                    assert!(at > payload, "{what}: {step} before anything was closed");
                    beyond(&HARMLESS);
                }
                Step::Hook(hook) if hook.late => beyond(&HARMLESS),
                _ => {}
            }
        }
    }

    /// The sample bundles, the profiles of the engines among the tests' fixtures, and what `ONGGI_SPECS` names.
    fn documents(end: &str) -> Vec<PathBuf> {
        let tree = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut folders = vec![tree.join("tests/fixtures/specs")];
        folders.extend(std::fs::read_dir(tree.join("bundles")).unwrap().map(|entry| entry.unwrap().path()));
        folders.extend(std::env::var_os("ONGGI_SPECS").map(PathBuf::from));
        let files =
            folders.iter().filter(|folder| folder.is_dir()).flat_map(|folder| std::fs::read_dir(folder).unwrap());
        files.map(|file| file.unwrap().path()).filter(|path| path.to_string_lossy().ends_with(end)).collect()
    }

    #[test]
    fn nothing_of_the_host_is_open_when_the_image_s_paths_are_looked_up() {
        let documents = documents("config.json");
        assert!(documents.len() > 10, "{documents:?}");
        for path in documents {
            let loaded = spec::config(spec::read(&path).unwrap(), &path).unwrap();
            let config = spec::check(loaded, Path::new("/bundle"), false).unwrap();
            let root = Facts { root: true, ..Facts::default() };
            let trees = Facts { namespaces_of_trees: true, ..root.clone() };
            let user = Facts { unprivileged: true, foreign_mounts: true, ..Facts::default() };
            for (name, facts) in [("root", &root), ("trees", &trees), ("user", &user)] {
                for (gate, no_pivot) in [(false, false), (true, false), (true, true)] {
                    let what = format!("{} {name} gate={gate} no-pivot={no_pivot}", path.display());
                    let options = StartOptions {
                        mode: if gate { Mode::Create } else { Mode::Run },
                        no_pivot,
                        console_socket: (gate && terminal(&config.spec)).then(|| "/c.sock".into()),
                        ..StartOptions::default()
                    };
                    let plan = requested(&options, |request| container::plan(&config, request, facts));
                    match plan {
                        Ok(plan) => judge(&plan, gate, &what),
                        // a caller without rights may not have all of these, and no security module is on
                        Err(error) => {
                            assert!(name == "user" || error.to_string().contains("apparmor"), "{what}: {error}")
                        }
                    }
                }
            }
        }
    }

    fn terminal(spec: &Spec) -> bool {
        spec.process().as_ref().and_then(Process::terminal).unwrap_or_default()
    }

    #[test]
    fn nor_for_a_process_of_exec() {
        for path in documents("config.json") {
            let loaded = spec::config(spec::read(&path).unwrap(), &path).unwrap();
            let Some(process) = loaded.spec.process().clone() else { continue };
            let process = spec::check_process(process).unwrap();
            for privileged in [true, false] {
                let options = StartOptions {
                    console_socket: terminal(&loaded.spec).then(|| "/c.sock".into()),
                    ..StartOptions::default()
                };
                let request = exec::Request {
                    id: "web",
                    process: &process,
                    linux: loaded.spec.linux().as_ref(),
                    options: &options,
                    privileged,
                    keeps_groups: false,
                    placed_late: false,
                };
                let facts = Facts { root: privileged, ..Facts::default() };
                if let Ok(plan) = exec::plan(&request, &facts) {
                    judge(&plan, false, &format!("exec {}", path.display()));
                }
            }
        }
    }
}
