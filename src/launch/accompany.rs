//! The host half beside a running init: answers what init asks until the payload runs, or until init waits for `start`.
//! The same for `run`, `create` and `exec`.

use super::patience::{self, Told};
use super::spawn::{Child, InitSocket, reap};
use super::{Mode, Record, debug_log, document, fds, hooks, init_error, inner_pid, send_listener};
use crate::error::{Context, Error, Result};
use crate::log::Log;
use crate::plan::Plan;
use crate::plan::step::{Slot, Step, Sync};
use crate::state::{Awaited, Dir};
use crate::sync_socket::{self, Message};
use crate::sys::exe::ExeProtection;
use crate::sys::signal::End;
use crate::sys::{Errno, proc, task, wait};
use nix::unistd::Pid;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What the host half needs while init runs.
pub(super) struct Accompany<'a> {
    pub(super) mode: Mode,
    pub(super) plan: &'a Plan,
    pub(super) child: &'a Child,
    pub(super) socket: &'a InitSocket,
    pub(super) slots: &'a [Option<OwnedFd>],
    /// Our caller waits for the payload's end, and then learns how it ended.
    pub(super) foreground: bool,
    /// The directory of a container that is being created.
    pub(super) dir: Option<&'a Dir>,
    pub(super) log: &'a Log,
}

impl Accompany<'_> {
    /// Lets init go on behind its `Await(sync)`, if the plan has one.
    pub(super) fn go(&self, sync: Sync) -> Result<()> {
        if self.waits_for(sync) { self.socket.go(sync) } else { Ok(()) }
    }

    /// Whether init waits for us there.
    pub(super) fn waits_for(&self, sync: Sync) -> bool {
        self.plan.steps.iter().any(|step| matches!(step, Step::Await(known) if *known == sync))
    }

    /// Sets the limits that init may not set itself, because raising one takes a right on the host.
    pub(super) fn set_limits(&self) -> Result<()> {
        for limit in &self.plan.limits {
            task::set_limit(self.child.pid, limit.resource, limit.soft, limit.hard)
                .context(|| format!("prlimit({}, {}, {})", limit.name, limit.soft, limit.hard))?;
        }
        Ok(())
    }

    /// If something fails beside init, prefers init's own failure if it reports one within 50 ms: runc mounts before it sets
    /// limits, and callers expect that error.
    pub(super) fn prefer_inits(&self, error: Error) -> Error {
        const PATIENCE: i32 = 50;
        let ready = wait::events([(Some(self.socket.as_fd()), libc::POLLIN)], PATIENCE);
        match ready.is_ok_and(|[ready]| ready != 0).then(|| self.socket.receive()) {
            Some(Ok(Some((Message::Failed(failure), _)))) => init_error::of(self.mode, self.plan, failure, self.slots),
            Some(_) | None => error,
        }
    }

    /// Answers init until it has become the payload, or waits for `start`. Returns the terminal's master if init sends one.
    ///
    /// Init's questions come in the order of the plan's steps. When the last one is answered, init may go on to the payload.
    /// `protection` is dropped here: closing the detached mount waits for a grace period of the kernel, and we wait anyway.
    pub(super) fn answer_init(&self, record: &Record, protection: ExeProtection) -> Result<Option<OwnedFd>> {
        let mut questions = self.plan.steps.iter().filter(|step| asks_host(step)).peekable();
        let mut terminal = None;
        if questions.peek().is_none() {
            self.go(Sync::Ready)?;
        }
        drop(protection);
        loop {
            self.wait(record)?;
            let message = match self.socket.receive()? {
                Some(message) => message,
                None => return self.at_end_of_stream(record).map(|()| terminal),
            };
            match (message, questions.peek()) {
                ((Message::Failed(failure), _), _) => {
                    return Err(init_error::of(self.mode, self.plan, failure, self.slots));
                }
                ((Message::LoopbackDown(errno), _), _) => {
                    debug_log::loopback_down(Errno::from_raw(errno), self.log);
                    continue;
                }
                ((Message::Fd(Slot::PTY), fd), _) => {
                    terminal = fd;
                    continue;
                }
                ((Message::Fd(Slot::LISTENER), Some(fd)), _) => {
                    self.send_listener(&fd, record)?;
                    continue;
                }
                ((Message::Reached(Sync::Ready), _), None) if self.mode == Mode::Create => return Ok(terminal),
                ((Message::Fd(Slot::TREE), Some(tree)), Some(step)) => self.map_ids(tree.as_fd(), step)?,
                ((Message::Reached(sync), _), Some(Step::Tell(expected))) if sync == *expected => {
                    self.answer(sync, record)?;
                }
                ((message, _), _) => {
                    return Err(Error::msg(format!("protocol error: unexpected message {message:?} from init")));
                }
            }
            questions.next();
            if questions.peek().is_none() {
                self.go(Sync::Ready)?;
            }
        }
    }

    /// Waits until init says something, or ends.
    fn wait(&self, record: &Record) -> Result<()> {
        let said = [(Some(self.socket.as_fd()), libc::POLLIN), (None, 0)];
        patience::until(said, None, self.told(record), &|| (self.awaited(), self.child.pid)).map(drop)
    }

    fn told<'b>(&'b self, record: &'b Record) -> Told<'b> {
        Told { log: self.log, dir: self.dir, record }
    }

    /// The step that init is at.
    fn awaited(&self) -> Awaited {
        let index = self.child.progress.and_then(|progress| progress.of(self.child.pid).ok());
        let step = index.and_then(|index| Some((index, self.plan.steps.get(index)?)));
        let step = step.map_or("a step that cannot be read".to_owned(), |(index, step)| {
            format!("step {}/{}: {step}", index + 1, self.plan.steps.len())
        });
        Awaited { phase: "init".to_owned(), step }
    }

    /// The end of the stream: the payload runs, or init is gone.
    ///
    /// In the foreground the caller learns later how the payload ended. Else we ask the kernel.
    fn at_end_of_stream(&self, record: &Record) -> Result<()> {
        let runs = match self.mode {
            Mode::Create => false,
            Mode::Run | Mode::Exec if self.foreground => true,
            // there is no payload
            Mode::Mounts => false,
            // execve changes the kernel's flag before it closes the stream
            Mode::Run | Mode::Exec => became_payload(self.child.pid)?,
        };
        if runs {
            return Ok(());
        }
        match reap(self.child)? {
            // execve refused the program: init has written why to the payload's standard error
            Some(End::Exited(sync_socket::REFUSED)) if self.mode == Mode::Run => Ok(()),
            end => Err(init_error::vanished(self.mode, end, &record.cgroup)),
        }
    }

    fn answer(&self, sync: Sync, record: &Record) -> Result<()> {
        match sync {
            Sync::RootMounted => {
                // runtime.md, Lifecycle, steps 2 and 3: the environment is there
                let document = document(record, "created", record.init_process_pid);
                hooks::run(&self.plan.hooks.runtime, &document, self.told(record))?;
                self.fill_hooks(record)?;
            }
            Sync::Limited => self.set_limits()?,
            Sync::Delegated => {
                self.plan.delegate.as_ref().map_or(Ok(()), |inner| record.cgroup.move_below(self.child.pid, inner))?;
            }
            Sync::Mapped | Sync::IdMapped | Sync::Ready => {}
        }
        self.socket.go(sync)
    }

    /// Maps the ids of a mount that init has cloned: that takes rights over the file system that init does not have.
    fn map_ids(&self, tree: BorrowedFd<'_>, step: &Step) -> Result<()> {
        let Step::IdMap { mapped, source, .. } = step else {
            return Err(Error::msg("protocol error: init sent an fd for id-mapping that the plan does not ask for"));
        };
        fds::map_ids(tree, source, *mapped, self.slots)?;
        self.socket.go(Sync::IdMapped)
    }

    /// Fills the standard input of the hooks in the container, for which pids are those of the container.
    fn fill_hooks(&self, record: &Record) -> Result<()> {
        for slot in [Slot::HOOK[0], Slot::HOOK_START] {
            if let Some(stdin) = self.slots.get(slot.index()).and_then(Option::as_ref) {
                let pid = inner_pid(record.init_process_pid)?;
                hooks::fill(stdin.as_fd(), &document(record, "created", pid))?;
            }
        }
        Ok(())
    }

    /// Sends the seccomp listener to the agent that the profile names (config-linux.md, Container Process State). Each
    /// process has a filter of its own.
    fn send_listener(&self, fd: &OwnedFd, record: &Record) -> Result<()> {
        let Some((path, metadata)) = &self.plan.listener else { return Err(Error::msg("a listener without a path")) };
        let status = if self.mode == Mode::Exec { "running" } else { "creating" };
        send_listener(path, metadata, fd, record, self.child.pid, status)
    }
}

/// Whether init asks the host half in this step, and waits for the answer.
fn asks_host(step: &Step) -> bool {
    matches!(step, Step::Tell(Sync::RootMounted | Sync::Limited | Sync::Delegated) | Step::IdMap { by_host: true, .. })
}

/// Whether a child that is not reaped yet has executed a program (`PF_FORKNOEXEC`, field 9 of `/proc/PID/stat`, proc(5)).
/// The kernel says so before execve closes the socket to us, so the end of that stream alone is no proof: an init that is
/// being killed closes it as well, and may not be a zombie yet.
///
/// # Errors
/// The kernel does not say.
pub(super) fn became_payload(pid: i32) -> Result<bool> {
    let stat = proc::stat(Pid::from_raw(pid)).context(|| format!("read /proc/{pid}/stat"))?;
    // without a process there was somebody else who reaped it, and nothing to ask
    Ok(stat.is_none_or(|stat| stat.executed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::hooks::Hooks;
    use crate::plan::image::Image;
    use crate::plan::network::Network;
    use crate::plan::{CloneSpec, Plan};
    use crate::sync_socket::{Cause, Failure};
    use crate::sys::{proc, socket};
    use nix::unistd::Pid;

    fn plan(steps: Vec<Step>) -> Plan {
        Plan {
            root: None,
            network: Network::default(),
            opens: Vec::new(),
            slots: Slot::FREE,
            clone_spec: CloneSpec::default(),
            limits: Vec::new(),
            oom_score_adj: None,
            keyring: None,
            hooks: Hooks::default(),
            steps,
            image: Image::new("process", &["x".to_owned()], &[], false).unwrap(),
            listener: None,
            delegate: None,
            added: Vec::new(),
            notes: Vec::new(),
            details: Vec::new(),
        }
    }

    /// What the host half makes of the messages of an init with these steps that waits for `start`, and what it answers.
    fn answered(mode: Mode, steps: Vec<Step>, messages: &[Message]) -> (std::result::Result<(), String>, Vec<Message>) {
        let (host, init) = socket::pair().unwrap();
        messages.iter().for_each(|message| sync_socket::send_from_init(init.as_fd(), *message).unwrap());
        let record = serde_json::json!({
            "config": "this is a container of onggi", "ociVersion": "1.2.0", "id": "web", "init_process_pid": 1, "init_process_start": 1, "created": "",
            "bundle": "/b", "rootfs": "/b/r", "cgroup_paths": {},
        });
        let record: Record = serde_json::from_value(record).unwrap();
        let (plan, pid, log) = (plan(steps), Pid::this(), Log::stderr());
        let pidfd = proc::pidfd_open(pid).unwrap();
        let child = Child { pid: pid.as_raw(), pidfd, start: None, restored: false, progress: None };
        let socket = InitSocket::new(host);
        let accompany = Accompany {
            mode,
            plan: &plan,
            child: &child,
            socket: &socket,
            slots: &[],
            foreground: true,
            dir: None,
            log: &log,
        };
        let answer = accompany.answer_init(&record, ExeProtection::Applied { _tree: None });
        drop(socket);
        let mut answers = Vec::new();
        while let Some((message, _)) = sync_socket::receive(init.as_fd()).unwrap() {
            answers.push(message);
        }
        (answer.map(drop).map_err(|error| error.to_string()), answers)
    }

    fn limited() -> Vec<Step> {
        vec![Step::Tell(Sync::Limited), Step::Await(Sync::Limited), Step::Await(Sync::Ready), Step::Tell(Sync::Ready)]
    }

    const READY: Message = Message::Reached(Sync::Ready);

    #[test]
    fn init_goes_on_when_its_last_question_is_answered() {
        let go = |sync| Message::Go(sync);
        let (answer, answers) = answered(Mode::Create, limited(), &[Message::Reached(Sync::Limited), READY]);
        assert_eq!((answer, answers), (Ok(()), vec![go(Sync::Limited), go(Sync::Ready)]));
        let silent = vec![Step::Await(Sync::Ready), Step::Tell(Sync::Ready)];
        assert_eq!(answered(Mode::Create, silent, &[READY]), (Ok(()), vec![go(Sync::Ready)]));
        let nothing_to_wait_for = vec![Step::Tell(Sync::Ready)];
        assert_eq!(answered(Mode::Create, nothing_to_wait_for, &[READY]), (Ok(()), vec![]));
    }

    #[test]
    fn what_the_plan_does_not_ask_is_a_protocol_error() {
        let rooted = Message::Reached(Sync::RootMounted);
        for (mode, steps, message) in [
            (Mode::Create, limited(), rooted),
            (Mode::Create, limited(), READY),
            (Mode::Run, vec![], READY),
            (Mode::Exec, vec![], rooted),
            (Mode::Exec, vec![], Message::Fd(Slot::TREE)),
            (Mode::Run, vec![], Message::Go(Sync::Ready)),
        ] {
            let (answer, answers) = answered(mode, steps, &[message]);
            let error = format!("protocol error: unexpected message {message:?} from init");
            assert_eq!((answer, answers), (Err(error), vec![]), "{mode:?}");
        }
    }

    #[test]
    fn a_failure_has_the_words_of_its_verb() {
        let failure = Failure { step: 0, cause: Cause::Kernel, errno: libc::EPERM, detail: 0 };
        let init = "unable to start container process: error during container init: step 1/1: setsid()";
        for (mode, expected) in
            [(Mode::Run, init), (Mode::Exec, "unable to start container process: step 1/1: setsid()")]
        {
            let (answer, _) = answered(mode, vec![Step::Session], &[Message::Failed(failure)]);
            let error = answer.unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
