//! `checkpoint ID` and `restore ID`: checks the flags and translates them into CRIU's options; the rest is in `crate::criu`.

use super::prepare::{self, Purpose};
use super::run;
use crate::cli::{self, Checkpoint, Global, Restore};
use crate::criu::rpc::{Options, PageServer, cgroup_mode};
use crate::criu::{self, CriuRequest, DumpOptions};
use crate::error::{Context, Error, Result};
use crate::launch::{PlanInput, notify};
use crate::log::Log;
use crate::plan::cgroup::Rootless;
use crate::plan::request::StartOptions;
use crate::spec;
use crate::state::{Root, Status, check_id};
use crate::sys::{Errno, cred};
use std::path::{Path, PathBuf};

/// Saves a container, and deletes it unless it is left running.
pub(super) fn checkpoint(global: &Global, checkpoint: &Checkpoint, log: &Log) -> Result<u8> {
    let root = Root::find(global.root.as_deref())?;
    let container: super::Container = root.open(&checkpoint.criu.id)?;
    let status = super::status(&container)?;
    if matches!(status, Status::Creating | Status::Created | Status::Stopped) {
        return Err(Error::msg(format!("Container cannot be checkpointed in {status} state")));
    }
    untested(log);
    let mut asked = asked(&checkpoint.criu)?;
    fill(&mut asked.options, checkpoint)?;
    if let Some(parent) = &checkpoint.parent_path {
        asked.options.parent_img = Some(parent_images(&asked.images, parent)?);
        asked.options.track_mem = Some(true);
    } else if checkpoint.pre_dump {
        asked.options.track_mem = Some(true);
    }
    let (record, notify) = (&container.record, notify::directory(container.dir.path()));
    let config = spec::check(super::configuration(&container)?, &record.bundle, false)?;
    let options = StartOptions { no_new_keyring: record.no_new_keyring, ..StartOptions::default() };
    let input = PlanInput {
        id: &record.id,
        config: &config,
        driver: record.cgroup.driver(),
        rootless: if record.rootless { Rootless::Yes } else { Rootless::No },
        options: &options,
        notify: Some(notify).filter(|path| path.exists()),
    };
    let saving = DumpOptions { memory_only: checkpoint.pre_dump, status_fd: checkpoint.status_fd };
    criu::dump(&container, &input, &asked, &saving)?;
    if !(checkpoint.leave_running || checkpoint.pre_dump) {
        super::delete::saved(&root, &container, log)?;
    }
    Ok(0)
}

/// Restores a container. Returns its exit status, or 0 when detached.
pub(super) fn restore(global: &Global, restore: &Restore, log: &Log) -> Result<u8> {
    check_id(&restore.criu.id)?;
    untested(log);
    let mut asked = asked(&restore.criu)?;
    asked.options.lsm_profile.clone_from(&restore.lsm_profile);
    asked.options.lsm_mount_context.clone_from(&restore.lsm_mount_context);
    let start = restore.start.clone();
    // no init of ours is cloned: nothing is begun for one
    let prepared = prepare::bundle(global, restore.bundle.as_deref(), None, start, Purpose::Look, log)?;
    if !asked.images.is_dir() {
        let errno = if asked.images.exists() { Errno::ENOTDIR } else { Errno::ENOENT };
        return Err(Error::from(errno).context(format!("open {}", asked.images.display())));
    }
    let foreground = restore.start.foreground();
    if foreground && !restore.no_subreaper {
        cred::become_subreaper().context(|| "become a subreaper")?;
    }
    let launched = criu::restore(&prepared.job(&restore.criu.id, global), &asked, log)?;
    if foreground { run::attend(&launched, false, log) } else { Ok(0) }
}

/// runc's warning.
fn untested(log: &Log) {
    if cred::euid() != 0 {
        log.warn("checkpoint and restore are untested with rootless containers");
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).context(|| "find the current directory")
}

/// What both verbs take.
fn asked(criu: &cli::Criu) -> Result<CriuRequest> {
    let images = absolute(criu.image_path.as_deref().unwrap_or_else(|| Path::new("checkpoint")))?;
    let work = criu.work_path.as_deref().map(absolute).transpose()?;
    Ok(CriuRequest { options: options(criu)?, images, work })
}

fn flag(on: bool) -> Option<bool> {
    on.then_some(true)
}

/// The flags of both verbs as CRIU's options.
fn options(criu: &cli::Criu) -> Result<Options> {
    let mode = match criu.manage_cgroups_mode.as_deref() {
        None | Some("") => None,
        Some("soft") => Some(cgroup_mode::SOFT),
        Some("full") => Some(cgroup_mode::FULL),
        Some("strict") => Some(cgroup_mode::STRICT),
        Some("ignore") => Some(cgroup_mode::IGNORE),
        Some(_) => {
            return Err(Error::msg("invalid manage-cgroups-mode value").with_hint("one of soft, full, strict, ignore"));
        }
    };
    let mut empty = 0;
    for name in &criu.empty_ns {
        if name != "network" {
            return Err(Error::msg(format!("namespace {name:?} is not supported")));
        }
        empty |= libc::CLONE_NEWNET.cast_unsigned();
    }
    Ok(Options {
        ext_unix_sk: flag(criu.ext_unix_sk),
        tcp_established: flag(criu.tcp_established),
        shell_job: flag(criu.shell_job),
        file_locks: flag(criu.file_locks),
        auto_dedup: flag(criu.auto_dedup),
        lazy_pages: flag(criu.lazy_pages),
        // debug: the log is all that there is to find out why CRIU failed
        log_level: Some(4),
        notify_scripts: Some(true),
        orphan_pts_master: Some(true),
        // soft, unless a mode is named
        manage_cgroups: Some(true),
        manage_cgroups_mode: mode,
        empty_ns: (empty != 0).then_some(empty),
        ..Options::default()
    })
}

/// The flags of `checkpoint` alone.
fn fill(options: &mut Options, checkpoint: &Checkpoint) -> Result<()> {
    options.leave_running = flag(checkpoint.leave_running);
    options.tcp_skip_in_flight = flag(checkpoint.tcp_skip_in_flight);
    options.link_remap = flag(checkpoint.link_remap);
    let wrong = || Error::msg("Use --page-server ADDRESS:PORT to specify page server");
    options.page_server = match checkpoint.page_server.as_deref().filter(|server| !server.is_empty()) {
        None => None,
        Some(server) => {
            let (address, port) = server.rsplit_once(':').ok_or_else(wrong)?;
            let port: u16 = port.parse().map_err(|_| wrong())?;
            Some(PageServer { address: Some(address.to_owned()), port: Some(port.into()) })
        }
    };
    Ok(())
}

/// The path of the earlier images, relative to the new ones as CRIU wants it.
fn parent_images(images: &Path, parent: &Path) -> Result<String> {
    if parent.is_absolute() {
        return Err(Error::msg("--parent-path must be relative"));
    }
    let real = images.join(parent);
    // the kernel cannot follow `..` of a directory that does not exist yet
    let clean = spec::clean(&real);
    let meta = std::fs::metadata(&clean).context(|| format!("invalid --parent-path: stat {}", clean.display()))?;
    if !meta.is_dir() {
        let error = Error::from(Errno::ENOTDIR).context(clean.display().to_string());
        return Err(error.context("invalid --parent-path"));
    }
    parent.to_str().map(str::to_owned).ok_or_else(|| Error::msg("--parent-path is not valid UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said<T>(result: Result<T>) -> String {
        result.err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn modes_and_namespaces() {
        let mode = |text: &str| {
            let criu = cli::Criu { manage_cgroups_mode: Some(text.to_owned()), ..cli::Criu::default() };
            options(&criu).map(|options| options.manage_cgroups_mode)
        };
        let rows = [("soft", 3), ("full", 4), ("strict", 5), ("ignore", 0)];
        for (text, number) in rows {
            assert_eq!(mode(text).ok(), Some(Some(number)), "{text}");
        }
        assert_eq!(options(&cli::Criu::default()).ok().map(|options| options.manage_cgroups_mode), Some(None));
        assert_eq!(said(mode("hard")), "invalid manage-cgroups-mode value");
        let empty = |names: &[&str]| {
            let empty_ns = names.iter().map(|name| (*name).to_owned()).collect();
            options(&cli::Criu { empty_ns, ..cli::Criu::default() }).map(|options| options.empty_ns)
        };
        assert_eq!(empty(&["network"]).ok(), Some(Some(0x4000_0000)));
        assert_eq!(said(empty(&["network", "mount"])), "namespace \"mount\" is not supported");
    }

    #[test]
    fn page_servers() {
        let server = |text: &str| {
            let mut options = Options::default();
            let checkpoint = Checkpoint { page_server: Some(text.to_owned()), ..Checkpoint::default() };
            fill(&mut options, &checkpoint).map(|()| options.page_server)
        };
        let expected = PageServer { address: Some("192.0.2.1".to_owned()), port: Some(99) };
        assert_eq!(server("192.0.2.1:99").ok(), Some(Some(expected)));
        for wrong in ["192.0.2.1", "192.0.2.1:", ":x", "192.0.2.1:70000"] {
            assert_eq!(said(server(wrong)), "Use --page-server ADDRESS:PORT to specify page server", "{wrong}");
        }
    }
}
