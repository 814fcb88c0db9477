//! Every verb and every flag, as data: the parser, help, completions and manual pages are made from these tables.
//!
//! The names are runc's; the sentences are ours. A row is one flag. Pure data: depends on nothing.

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Nothing: a switch. `--flag=false` is accepted.
    Nothing,
    /// A text.
    Text,
    /// A text, any number of times.
    Texts,
    /// A whole number.
    Number,
    /// A whole number, any number of times.
    Numbers,
    /// A duration with units: `5s`, `1m30s`, `250ms`.
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

/// How many words a verb takes, not counting flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arity {
    /// Exactly this number.
    Exactly(usize),
    /// This number or more.
    AtLeast(usize),
    /// Between these, inclusive.
    Between(usize, usize),
}

/// The part of a container's life that a verb belongs to: help lists verbs by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    /// It begins and ends.
    Life,
    /// What is in it.
    Inside,
    /// Its limits.
    Limits,
    /// Saved and restored.
    Criu,
    /// Nothing that runs.
    Tools,
}

impl Group {
    /// All groups with their headings, in the order of the help.
    pub(crate) const ALL: [(Self, &str); 5] = [
        (Self::Life, "Life of a container"),
        (Self::Inside, "Inside a container"),
        (Self::Limits, "Limits"),
        (Self::Criu, "Checkpoint and restore"),
        (Self::Tools, "Tools"),
    ];
}

/// One verb.
#[derive(Debug, PartialEq, Eq)]
pub struct Verb {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its group in the help.
    pub(crate) group: Group,
    /// One line of help.
    pub(crate) about: &'static str,
    /// The words that are not flags, as the usage line shows them.
    pub(crate) words: &'static str,
    /// How many of these there may be.
    pub(crate) arity: Arity,
    /// Whether everything after the first word is passed on (`exec`, `ps`).
    pub(crate) stops: bool,
    /// Its flags.
    pub(crate) flags: &'static [&'static [Flag]],
    /// More sections of the help.
    pub(crate) notes: &'static [(&'static str, &'static str)],
    /// What an example does, and its words behind the program's name.
    pub(crate) examples: &'static [(&'static str, &'static str)],
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

/// The flag of every verb, and of the program.
pub(crate) const HELP: Flag = switch("help", Some('h'), "show this text");

/// The flags before the verb.
pub(crate) const GLOBAL: &[Flag] = &[
    switch("debug", None, "log what is being done"),
    text("log", None, "FILE", "write the log to FILE (default: standard error)"),
    text("log-format", None, "FORMAT", "format of the log: text or json (default: text)"),
    text(
        "root",
        None,
        "DIR",
        "directory of the container states (default: /run/onggi; $XDG_RUNTIME_DIR/onggi for users)",
    ),
    text("trace", None, "FILE", "write the times of the call to FILE, as Chrome trace events (also: $ONGGI_TRACE)"),
    switch("systemd-cgroup", None, "let systemd create cgroups; cgroupsPath is then slice:prefix:name"),
    text("cgroup-manager", None, "DRIVER", "who creates cgroups: cgroupfs, systemd or disabled (default: cgroupfs)"),
    text("rootless", None, "BOOL", "ignore cgroup permission errors: true, false or auto (default: auto)"),
    HELP,
    switch("version", Some('v'), "show the version"),
];

const BUNDLE: Flag = text("bundle", Some('b'), "DIR", "directory with config.json (default: the current directory)");
const CONSOLE: Flag = text("console-socket", None, "PATH", "Unix socket that receives the terminal's master");
const PIDFD: Flag = text("pidfd-socket", None, "PATH", "Unix socket that receives a pidfd of the process");
const PID_FILE: Flag = text("pid-file", None, "FILE", "write the process id to FILE");
const DETACH: Flag = switch("detach", Some('d'), "do not wait for the process");
const NO_PIVOT: Flag =
    switch("no-pivot", None, "change the root with MS_MOVE instead of pivot_root, which an initramfs needs");
const NO_SUBREAPER: Flag = switch("no-subreaper", None, "do not adopt processes that the container leaves behind");
const PRESERVE: Flag = number("preserve-fds", "pass N more descriptors, after those of LISTEN_FDS (default: 0)");

const MAKE: &[Flag] = &[
    BUNDLE,
    text("config", Some('f'), "FILE", "read this file instead of config.json in the bundle"),
    CONSOLE,
    PIDFD,
    PID_FILE,
    NO_PIVOT,
    switch("no-new-keyring", None, "stay in the caller's session keyring"),
    PRESERVE,
];

const RUN: &[Flag] = &[DETACH, switch("keep", None, "keep the state of the container when it ends"), NO_SUBREAPER];

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
    texts("cgroup", None, "[CONTROLLERS:]PATH", "run in this sub-cgroup of the container; repeatable"),
    switch("ignore-paused", None, "allow exec in a paused container"),
];

const REGEX: Flag = switch("regex", Some('r'), "ID is a regular expression (POSIX, extended) for many");

const FORMAT: Flag = text("format", Some('f'), "FORMAT", "table or json (default: table)");

const UPDATE: &[Flag] = &[
    text("resources", Some('r'), "FILE", "linux.resources as JSON, - for standard input; replaces the other flags"),
    number("blkio-weight", "weight of block I/O, 10 to 1000"),
    text("cpu-period", None, "USECS", "period of the CPU limit"),
    text("cpu-quota", None, "USECS", "CPU time in a period; -1 for no limit"),
    text("cpu-burst", None, "USECS", "CPU time that may be accumulated for one period"),
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
    texts("empty-ns", None, "NAMESPACE", "restore this namespace empty; repeatable"),
    switch("auto-dedup", None, "remove memory images that are no longer needed"),
];

const CHECKPOINT: &[Flag] = &[
    text("parent-path", None, "DIR", "images of the previous pre-dump, relative to the image path"),
    switch("leave-running", None, "leave the container running"),
    switch("tcp-skip-in-flight", None, "skip TCP connections that are not yet established"),
    switch("link-remap", None, "save files that were deleted while open"),
    number("status-fd", "CRIU writes a zero byte to N when lazy pages can be fetched"),
    text("page-server", None, "ADDRESS:PORT", "send memory to this page server"),
    switch("pre-dump", None, "save only the memory and leave the container running"),
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

/// The exit status of verbs that run nothing.
const STATUS: (&str, &str) = ("EXIT STATUS", "0 on success, 1 on failure.");
/// The caller's environment at the start of a container.
const ENVIRONMENT: (&str, &str) = (
    "ENVIRONMENT",
    "LISTEN_FDS, LISTEN_PID  pass activated sockets on to the container's process
NOTIFY_SOCKET           receives READY=1 from the container's process
XDG_RUNTIME_DIR         the state directory of a caller without privileges",
);
/// The files of a start.
const FILES: (&str, &str) = (
    "FILES",
    "config.json             the configuration, in the bundle
/run/onggi/ID           the state of the container (see --root)",
);

const fn verb(group: Group, name: &'static str, words: &'static str, arity: Arity, about: &'static str) -> Verb {
    Verb { name, group, about, words, arity, stops: false, flags: &[&[HELP]], notes: &[STATUS], examples: &[] }
}

/// A verb about one container, without flags.
const fn plain(group: Group, name: &'static str, about: &'static str) -> Verb {
    verb(group, name, "ID", Arity::Exactly(1), about)
}

/// What help says of the words in usage lines.
pub(crate) const WORDS: &[(&str, &str)] = &[
    ("ID", "the container: letters, digits and _ + - ."),
    ("BUNDLE", "directory with config.json"),
    ("SIGNAL", "name, with or without SIG, or number (default: SIGTERM)"),
    ("COMMAND", "program to run; left out with --process"),
    ("ARGUMENT", "its arguments"),
    ("add|remove", "what is done"),
    ("FILE", "mounts as JSON"),
    ("PS-OPTION", "options for the host's ps (default: -ef)"),
    ("SHELL", "bash, zsh or fish"),
];

// check: table: the verbs, one row each
/// The verbs, in the order in which help lists them.
pub(crate) static VERBS: &[Verb] = &[
    Verb {
        flags: &[MAKE, &[HELP]],
        notes: &[STATUS, ENVIRONMENT, FILES],
        examples: &[
            ("create a container whose program waits for `start`", "create --bundle /srv/web web"),
            ("the same, with a terminal", "create -b /srv/web --console-socket /run/tty.sock web"),
        ],
        ..plain(Group::Life, "create", "create a container from a bundle; it waits for `start`")
    },
    Verb {
        examples: &[
            ("start the program of a created container", "start web"),
            ("start one of another state directory", "--root /run/other start web"),
        ],
        ..plain(Group::Life, "start", "start the program of a created container")
    },
    Verb {
        flags: &[MAKE, RUN, &[HELP]],
        notes: &[
            (
                "EXIT STATUS",
                "Without --detach that of the container's program, or 128 plus the number of the
signal that ended it; 255 when the program could not be started. 1 when the
container could not be created. With --detach 0 or 1.",
            ),
            ENVIRONMENT,
            FILES,
        ],
        examples: &[
            ("run a bundle and wait for its end", "run --bundle /srv/web web"),
            ("run it in the background", "run --detach --bundle /srv/web --pid-file /run/web.pid web"),
        ],
        ..plain(Group::Life, "run", "create a container from a bundle and start it")
    },
    Verb {
        examples: &[("show the state as JSON", "state web"), ("take one value from it", "state web | jq -r .status")],
        ..plain(Group::Life, "state", "show the state of a container as JSON")
    },
    Verb {
        flags: &[&[switch("all", Some('a'), ""), REGEX, HELP]],
        examples: &[
            ("ask the container to end", "kill web TERM"),
            ("end all whose ids begin with web-", "kill --regex ^web- KILL"),
        ],
        ..verb(
            Group::Life,
            "kill",
            "ID [SIGNAL]",
            Arity::Between(1, 2),
            "send a signal to the first process of a container",
        )
    },
    Verb {
        flags: &[&[switch("force", Some('f'), "kill it first; no error if it does not exist"), REGEX, HELP]],
        examples: &[
            ("remove a container that has stopped", "delete web"),
            ("kill and remove it, whatever its state", "delete --force web"),
        ],
        ..plain(Group::Life, "delete", "remove a stopped container")
    },
    Verb {
        notes: &[
            STATUS,
            (
                "FILE",
                "A list of mounts as in config.json, or an object with such a list as
\"mounts\". All are added or removed, or none. Bind mounts and tmpfs can be
added; to remove one, only its destination is needed, without links in it.",
            ),
        ],
        examples: &[
            ("mount more in a container that runs", "mounts add web more.json"),
            ("and take it off again", "mounts remove web more.json"),
        ],
        ..verb(
            Group::Inside,
            "mounts",
            "add|remove ID FILE",
            Arity::Exactly(3),
            "add or remove mounts of a running container",
        )
    },
    Verb {
        stops: true,
        flags: &[EXEC, &[HELP]],
        notes: &[(
            "EXIT STATUS",
            "Without --detach that of the program, or 128 plus the number of the signal that
ended it. 255 when exec itself fails.",
        )],
        examples: &[
            ("a shell in a container; flags stand before the ID", "exec -t web sh"),
            ("a command as another user, with a variable", "exec -u 1000:1000 -e LANG=C web ls -l /srv"),
        ],
        ..verb(
            Group::Inside,
            "exec",
            "ID COMMAND [ARGUMENT...]",
            Arity::AtLeast(1),
            "run one more process in a container",
        )
    },
    Verb {
        flags: &[&[FORMAT, switch("quiet", Some('q'), "show only the ids"), HELP]],
        examples: &[("all containers", "list"), ("their ids, for a script", "list --quiet")],
        ..verb(Group::Life, "list", "", Arity::Exactly(0), "list containers")
    },
    Verb {
        stops: true,
        flags: &[&[FORMAT, HELP]],
        examples: &[
            ("the processes of a container", "ps web"),
            ("with options for the host's ps", "ps web -o pid,comm,rss"),
        ],
        ..verb(Group::Inside, "ps", "ID [PS-OPTION...]", Arity::AtLeast(1), "show the processes of a container")
    },
    Verb {
        examples: &[("freeze every process", "pause web"), ("see that they are", "state web | jq -r .status")],
        ..plain(Group::Limits, "pause", "freeze all processes of a container")
    },
    Verb {
        examples: &[("let them continue", "resume web"), ("see that they do", "ps web")],
        ..plain(Group::Limits, "resume", "resume a paused container")
    },
    Verb {
        flags: &[&[
            Flag {
                long: "interval",
                short: None,
                takes: Takes::Duration,
                value: "TIME",
                help: "time between statistics, such as 500ms (default: 5s)",
            },
            switch("stats", None, "show the statistics once and end"),
            HELP,
        ]],
        examples: &[
            ("statistics once", "events --stats web"),
            ("statistics each second, until the container ends", "events --interval 1s web"),
        ],
        ..plain(Group::Inside, "events", "show statistics and out-of-memory events of a container")
    },
    Verb {
        flags: &[UPDATE, &[HELP]],
        examples: &[
            ("a new memory limit", "update --memory 512m web"),
            ("limits from a file", "update --resources limits.json web"),
        ],
        ..plain(Group::Limits, "update", "change the limits of a container")
    },
    Verb {
        flags: &[&[BUNDLE, switch("rootless", None, "write it for a caller without privileges"), HELP]],
        examples: &[
            ("config.json in the current directory", "spec"),
            ("for a caller without privileges", "spec --rootless --bundle /srv/web"),
        ],
        ..verb(Group::Tools, "spec", "", Arity::Exactly(0), "write a config.json to start from")
    },
    Verb {
        examples: &[
            ("what this build supports, as JSON", "features"),
            ("one list from it", "features | jq .mountOptions"),
        ],
        ..verb(Group::Tools, "features", "", Arity::Exactly(0), "show what this runtime supports as JSON")
    },
    Verb {
        flags: &[CRIU, CHECKPOINT, &[HELP]],
        examples: &[
            ("save a container, and end it", "checkpoint --image-path /var/tmp/web web"),
            ("save it and leave it running", "checkpoint --leave-running --image-path /var/tmp/web web"),
        ],
        ..plain(Group::Criu, "checkpoint", "save a running container with CRIU")
    },
    Verb {
        flags: &[CRIU, RESTORE, &[HELP]],
        notes: &[
            (
                "EXIT STATUS",
                "Without --detach that of the container's program, or 128 plus the number of the
signal that ended it. 1 when it could not be restored.",
            ),
            FILES,
        ],
        examples: &[
            ("restore a container and wait for its end", "restore --image-path /var/tmp/web -b /srv/web web"),
            ("restore it in the background", "restore --detach --image-path /var/tmp/web -b /srv/web web"),
        ],
        ..plain(Group::Criu, "restore", "restore a saved container with CRIU")
    },
    Verb {
        flags: &[&[text("id", None, "ID", "container id to plan for (default: ID)"), HELP]],
        examples: &[("the steps for a bundle", "plan /srv/web"), ("for a certain id", "plan --id web /srv/web")],
        ..verb(
            Group::Tools,
            "plan",
            "BUNDLE",
            Arity::Exactly(1),
            "show what `create` would do, step by step, without doing it",
        )
    },
    Verb {
        examples: &[
            ("for this shell", "completion bash > /usr/share/bash-completion/completions/onggi"),
            ("for fish", "completion fish > /etc/fish/completions/onggi.fish"),
        ],
        ..verb(Group::Tools, "completion", "SHELL", Arity::Exactly(1), "write the completions for a shell")
    },
];

/// The verb of that name.
pub(crate) fn verb_named(name: &str) -> Option<&'static Verb> {
    VERBS.iter().find(|verb| verb.name == name)
}

/// The flags of a verb, or those before it.
pub(crate) fn flags_of(verb: Option<&'static Verb>) -> impl Iterator<Item = &'static Flag> {
    let groups: &'static [&'static [Flag]] = verb.map_or(&[GLOBAL], |verb| verb.flags);
    groups.iter().copied().flatten()
}
