//! Every verb and every flag, as data: the parser, the help text and the completions are made from these tables.
//!
//! The words are runc's; the sentences are ours. A row is one flag. Pure data: depends on nothing.

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Nothing: it is there or not. `--flag=false` is accepted.
    Nothing,
    /// A text.
    Text,
    /// A text, any number of times.
    Texts,
    /// A whole number.
    Number,
    /// A whole number, any number of times.
    Numbers,
    /// A time with its unit: `5s`, `1m30s`, `250ms`.
    Duration,
}

/// One flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flag {
    /// The long name, without dashes.
    pub(crate) long: &'static str,
    /// The short name, without its dash.
    pub(crate) short: Option<char>,
    /// What it takes.
    pub(crate) takes: Takes,
    /// What help calls its value.
    pub(crate) value: &'static str,
    /// One line of help; a hidden flag has none.
    pub(crate) help: &'static str,
}

/// How many words a verb takes beside its flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arity {
    /// So many.
    Exactly(usize),
    /// So many or more.
    AtLeast(usize),
    /// Between the two.
    Between(usize, usize),
}

/// One verb.
#[derive(Debug, PartialEq, Eq)]
pub struct Verb {
    /// Its name.
    pub(crate) name: &'static str,
    /// One line of help.
    pub(crate) about: &'static str,
    /// The words beside the flags, as help shows them.
    pub(crate) words: &'static str,
    /// How many of these there are.
    pub(crate) arity: Arity,
    /// Whether everything behind the first word belongs to the payload (`exec`, `ps`).
    pub(crate) stops: bool,
    /// Its flags.
    pub(crate) flags: &'static [&'static [Flag]],
    /// What more there is to say.
    pub(crate) notes: &'static str,
}

const fn switch(long: &'static str, short: Option<char>, help: &'static str) -> Flag {
    Flag { long, short, takes: Takes::Nothing, value: "", help }
}

const fn text(long: &'static str, short: Option<char>, value: &'static str, help: &'static str) -> Flag {
    Flag { long, short, takes: Takes::Text, value, help }
}

const fn texts(long: &'static str, short: Option<char>, value: &'static str, help: &'static str) -> Flag {
    Flag { long, short, takes: Takes::Texts, value, help }
}

const fn number(long: &'static str, help: &'static str) -> Flag {
    Flag { long, short: None, takes: Takes::Number, value: "N", help }
}

/// Asks for help, with every verb and without one.
pub(crate) const HELP: Flag = switch("help", Some('h'), "show this text");

/// The flags before the verb.
pub(crate) const GLOBAL: &[Flag] = &[
    switch("debug", None, "log what is being done"),
    text("log", None, "FILE", "write the log to FILE (default: standard error)"),
    text("log-format", None, "FORMAT", "format of the log: text or json (default: text)"),
    text("root", None, "DIR", "directory of the containers' records (default: /run/onggi, or below $XDG_RUNTIME_DIR)"),
    text("trace", None, "FILE", "write where the time went to FILE, as Chrome trace events (also: $ONGGI_TRACE)"),
    switch("systemd-cgroup", None, "make cgroups through systemd; cgroupsPath is then slice:prefix:name"),
    text("cgroup-manager", None, "DRIVER", "who makes cgroups: cgroupfs, systemd or disabled (default: cgroupfs)"),
    text("rootless", None, "BOOL", "go on where cgroups may not be written: true, false or auto (default: auto)"),
    HELP,
    switch("version", Some('v'), "show the version"),
];

const BUNDLE: Flag =
    text("bundle", Some('b'), "DIR", "directory with config.json and the root file system (default: the current one)");
const CONSOLE: Flag = text("console-socket", None, "PATH", "Unix socket that is sent the terminal's master end");
const PIDFD: Flag = text("pidfd-socket", None, "PATH", "Unix socket that is sent a pidfd of the process");
const PID_FILE: Flag = text("pid-file", None, "FILE", "write the process id to FILE");
const DETACH: Flag = switch("detach", Some('d'), "do not wait for the process");
const NO_PIVOT: Flag =
    switch("no-pivot", None, "change the root by moving the mount, not by pivot_root (for a ramdisk)");
const NO_SUBREAPER: Flag = switch("no-subreaper", None, "do not reap what the container leaves behind");
const PRESERVE: Flag =
    number("preserve-fds", "pass N more descriptors, from 3 on, beside those of LISTEN_FDS (default: 0)");

const MAKE: &[Flag] = &[
    BUNDLE,
    text("config", Some('f'), "FILE", "the configuration, where it is not config.json of the bundle"),
    CONSOLE,
    PIDFD,
    PID_FILE,
    NO_PIVOT,
    switch("no-new-keyring", None, "keep the caller's session keyring"),
    PRESERVE,
];

const RUN: &[Flag] = &[DETACH, switch("keep", None, "keep the container after its end"), NO_SUBREAPER];

const EXEC: &[Flag] = &[
    CONSOLE,
    PIDFD,
    text("cwd", None, "DIR", "working directory in the container"),
    texts("env", Some('e'), "NAME=VALUE", "set an environment variable; repeatable"),
    switch("tty", Some('t'), "give the process a terminal"),
    text("user", Some('u'), "UID[:GID]", "run as this user, in numbers"),
    Flag {
        long: "additional-gids",
        short: Some('g'),
        takes: Takes::Numbers,
        value: "GID",
        help: "add a group; repeatable",
    },
    text("process", Some('p'), "FILE", "the process as JSON; replaces command and flags"),
    DETACH,
    PID_FILE,
    text("process-label", None, "LABEL", "SELinux label of the process"),
    text("apparmor", None, "PROFILE", "AppArmor profile of the process"),
    switch("no-new-privs", None, "set no_new_privs"),
    texts("cap", Some('c'), "CAP", "add a capability; repeatable"),
    PRESERVE,
    texts("cgroup", None, "[CONTROLLERS:]PATH", "run in this cgroup below the container's; repeatable"),
    switch("ignore-paused", None, "also when the container is paused"),
];

const FORMAT: Flag = text("format", Some('f'), "FORMAT", "table or json (default: table)");

const UPDATE: &[Flag] = &[
    text("resources", Some('r'), "FILE", "linux.resources as JSON, - for standard input; replaces the other flags"),
    number("blkio-weight", "weight of block I/O, 10 to 1000"),
    text("cpu-period", None, "USECS", "period of the CPU limit"),
    text("cpu-quota", None, "USECS", "CPU time in a period; -1 for no limit"),
    text("cpu-burst", None, "USECS", "CPU time that may be saved up for one period"),
    text("cpu-share", None, "N", "CPU shares, 2 to 262144"),
    text("cpu-rt-period", None, "USECS", "period of the realtime limit (cgroup v1)"),
    text("cpu-rt-runtime", None, "USECS", "realtime CPU time in a period (cgroup v1)"),
    text("cpuset-cpus", None, "LIST", "CPUs to run on: 0-2,4"),
    text("cpuset-mems", None, "LIST", "memory nodes to use: 0-1"),
    text("memory", None, "BYTES", "memory limit; k, m, g; -1 for no limit"),
    text("memory-reservation", None, "BYTES", "memory that is protected under pressure"),
    text("memory-swap", None, "BYTES", "memory and swap together; -1 for no limit"),
    text("kernel-memory", None, "BYTES", ""),
    text("kernel-memory-tcp", None, "BYTES", ""),
    number("pids-limit", "number of processes; -1 for no limit"),
    text("l3-cache-schema", None, "SCHEMA", "Intel RDT: share of the L3 cache"),
    text("mem-bw-schema", None, "SCHEMA", "Intel RDT: share of the memory bandwidth"),
    text("cpu-idle", None, "N", "1: run only on idle CPUs; 0: as usual"),
];

/// Flags that checkpoint and restore share.
const CRIU: &[Flag] = &[
    text("image-path", None, "DIR", "directory of the images (default: ./checkpoint)"),
    text("work-path", None, "DIR", "directory of CRIU's logs"),
    switch("tcp-established", None, "allow open TCP connections"),
    switch("ext-unix-sk", None, "allow Unix sockets to the outside"),
    switch("shell-job", None, "allow jobs of a shell"),
    switch("lazy-pages", None, "restore memory on demand"),
    switch("file-locks", None, "allow file locks"),
    text("manage-cgroups-mode", None, "MODE", "cgroups: soft, full, strict or ignore (default: soft)"),
    texts("empty-ns", None, "NAMESPACE", "make the namespace, without its contents; repeatable"),
    switch("auto-dedup", None, "remove memory images that are no longer needed"),
];

const CHECKPOINT: &[Flag] = &[
    text("parent-path", None, "DIR", "images of the pre-dump before, relative to the image path"),
    switch("leave-running", None, "let the container go on"),
    switch("tcp-skip-in-flight", None, "leave out TCP connections that are being made"),
    switch("link-remap", None, "link files that were removed while open"),
    number("status-fd", "CRIU writes a zero byte to N when lazy pages can be fetched"),
    text("page-server", None, "ADDRESS:PORT", "send memory to this page server"),
    switch("pre-dump", None, "dump the memory only and go on"),
];

const RESTORE: &[Flag] = &[
    CONSOLE,
    BUNDLE,
    DETACH,
    PID_FILE,
    NO_SUBREAPER,
    NO_PIVOT,
    text("lsm-profile", None, "TYPE:NAME", "security profile of the restored processes"),
    text("lsm-mount-context", None, "CONTEXT", "SELinux context of the restored mounts"),
];

const fn verb(name: &'static str, words: &'static str, arity: Arity, about: &'static str) -> Verb {
    Verb { name, about, words, arity, stops: false, flags: &[&[HELP]], notes: "" }
}

/// A verb about one container, without flags.
const fn plain(name: &'static str, about: &'static str) -> Verb {
    verb(name, "ID", Arity::Exactly(1), about)
}

/// The verbs, in the order in which help lists them.
pub(crate) static VERBS: &[Verb] = &[
    Verb {
        flags: &[MAKE, &[HELP]],
        notes: "The process is made, with all its limits, and waits: `start` lets it go.",
        ..plain("create", "make a container from a bundle")
    },
    plain("start", "let the process of a created container go"),
    Verb {
        flags: &[MAKE, RUN, &[HELP]],
        notes: "Without --detach the exit status is the process's own, or 128 and the signal that ended it.",
        ..plain("run", "make a container from a bundle and let it go")
    },
    plain("state", "show the state of a container as JSON"),
    Verb {
        flags: &[&[switch("all", Some('a'), ""), HELP]],
        notes: "SIGNAL is a name, with or without SIG, or a number (default: SIGTERM).",
        ..verb("kill", "ID [SIGNAL]", Arity::Between(1, 2), "send a signal to the container's first process")
    },
    Verb {
        flags: &[&[switch("force", Some('f'), "kill it first; no error when there is no such container"), HELP]],
        ..plain("delete", "remove what a stopped container holds")
    },
    Verb {
        stops: true,
        flags: &[EXEC, &[HELP]],
        notes: "COMMAND may be absent with --process. A failure of exec itself exits with 255.",
        ..verb("exec", "ID COMMAND [ARGUMENT...]", Arity::AtLeast(1), "run one more process in a container")
    },
    Verb {
        flags: &[&[FORMAT, switch("quiet", Some('q'), "show the ids only"), HELP]],
        ..verb("list", "", Arity::Exactly(0), "list the containers below the root directory")
    },
    Verb {
        stops: true,
        flags: &[&[FORMAT, HELP]],
        ..verb("ps", "ID [PS-OPTION...]", Arity::AtLeast(1), "show the processes of a container")
    },
    plain("pause", "stop every process of a container"),
    plain("resume", "let the processes of a paused container go on"),
    Verb {
        flags: &[&[
            Flag {
                long: "interval",
                short: None,
                takes: Takes::Duration,
                value: "TIME",
                help: "time between two statistics (default: 5s)",
            },
            switch("stats", None, "show the statistics once"),
            HELP,
        ]],
        ..plain("events", "show statistics and out-of-memory events of a container")
    },
    Verb { flags: &[UPDATE, &[HELP]], ..plain("update", "change the limits of a container") },
    Verb {
        flags: &[&[BUNDLE, switch("rootless", None, "for a user without privileges"), HELP]],
        ..verb("spec", "", Arity::Exactly(0), "write a config.json to start from")
    },
    verb("features", "", Arity::Exactly(0), "show what this runtime can do as JSON"),
    Verb { flags: &[CRIU, CHECKPOINT, &[HELP]], ..plain("checkpoint", "save a running container with CRIU") },
    Verb { flags: &[CRIU, RESTORE, &[HELP]], ..plain("restore", "bring a saved container back with CRIU") },
    Verb {
        flags: &[&[text("id", None, "ID", "id to plan for (default: the bundle's name)"), HELP]],
        ..verb("plan", "BUNDLE", Arity::Exactly(1), "show what `create` would do, step by step, and do nothing")
    },
];

/// The verb of that name.
pub(crate) fn verb_named(name: &str) -> Option<&'static Verb> {
    VERBS.iter().find(|verb| verb.name == name)
}
