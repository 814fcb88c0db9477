//! Turns the command line into a `Call`, or into an error in the words that runc's callers look for. Pure.

use super::help;
use super::table::{self, Arity, Verb};
use super::words::{self, Mistake, Until, Words};
use super::{Call, Change, Checkpoint, Command, Create, Criu, Exec, Format, Global, Misuse, Restore, Run, Update};
use crate::error::{Error, Kind};
use crate::log::Form;
use crate::plan::cgroup::Driver;
use crate::plan::request::{Mode, StartOptions};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

/// Parses a command line, `argv[0]` included.
///
/// # Errors
/// The mistake, and the global flags, which say where it is to be logged.
pub fn parse(argv: impl IntoIterator<Item = OsString>) -> Result<Call, Box<Misuse>> {
    let mut argv = argv.into_iter();
    let name = argv.next().map_or_else(|| "onggi".to_owned(), |name| name.to_string_lossy().into_owned());
    let misuse = |global: &Global, error| Box::new(Misuse { name: name.clone(), global: global.clone(), error });
    let usage = |verb, mistake| usage(&name, verb, Kind::Usage, mistake);
    let none = Global::default();

    let words = words::split(argv, &[table::GLOBAL], Until::FirstWord)
        .map_err(|mistake| misuse(&none, usage(None, mistake)))?;
    let call = |global, command| Ok(Call { name: name.clone(), global, command });
    if words.on("help") {
        return call(none, Command::Help(None));
    }
    if words.on("version") {
        return call(none, Command::Version);
    }
    let global = read_global(&words).map_err(|error| misuse(&none, error))?;

    let mut rest = words.rest.into_iter();
    let asked = rest.next().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    let named = |topic: &str| table::verb_named(topic).ok_or_else(|| misuse(&global, unknown(&name, topic)));
    if matches!(asked.as_str(), "" | "help" | "h") {
        let topic = rest.next().map(|word| word.to_string_lossy().into_owned());
        let verb = topic.map(|topic| named(&topic)).transpose()?;
        return call(global, Command::Help(verb));
    }
    let verb = named(&asked)?;
    let until = if verb.stops { Until::FirstWord } else { Until::End };
    let words = words::split(rest, verb.flags, until).map_err(|mistake| misuse(&global, usage(Some(verb), mistake)))?;
    if words.on("help") {
        return call(global, Command::Help(Some(verb)));
    }
    if let Some(expected) = unmet(verb.arity, words.rest.len()) {
        let sentence = format!("{name}: \"{}\" requires {expected} argument(s)", verb.name);
        return Err(misuse(&global, usage(Some(verb), sentence.into())));
    }
    match read_verb(verb, &words) {
        Ok(command) => call(global, command),
        Err(error) => Err(misuse(&global, error)),
    }
}

/// The error for a mistake of form: what may have been meant, and where the help is.
fn usage(name: &str, verb: Option<&Verb>, kind: Kind, mistake: Mistake) -> Error {
    let meant = mistake.meant.map(|meant| format!("did you mean {meant}? ")).unwrap_or_default();
    let verb = verb.map(|verb| format!("{} ", verb.name)).unwrap_or_default();
    Error::new(kind, mistake.sentence).with_hint(format!("{meant}see {} {verb}--help", help::base(name)))
}

/// The error for a verb that does not exist.
fn unknown(name: &str, topic: &str) -> Error {
    let sentence = format!("No help topic for '{topic}'");
    let meant = super::nearest(topic, table::VERBS.iter().map(|verb| verb.name)).map(str::to_owned);
    usage(name, None, Kind::UnknownVerb, Mistake { sentence, meant })
}

/// The expected number of words, if `count` is not one that the arity allows.
fn unmet(arity: Arity, count: usize) -> Option<String> {
    match arity {
        Arity::Exactly(wanted) if count != wanted => Some(format!("exactly {wanted}")),
        Arity::AtLeast(least) | Arity::Between(least, _) if count < least => Some(format!("a minimum of {least}")),
        Arity::Between(_, most) if count > most => Some(format!("a maximum of {most}")),
        Arity::Exactly(_) | Arity::AtLeast(_) | Arity::Between(..) => None,
    }
}

fn read_global(words: &Words) -> Result<Global, Error> {
    let log_format = match words.last("log-format").map(OsStr::as_bytes) {
        None | Some(b"" | b"text") => Form::Text,
        Some(b"json") => Form::Json,
        Some(other) => return Err(Error::msg(format!("invalid log-format: {}", String::from_utf8_lossy(other)))),
    };
    let cgroup = match words.last("cgroup-manager").map(OsStr::as_bytes) {
        None if words.on("systemd-cgroup") => Driver::Systemd,
        None | Some(b"cgroupfs") => Driver::Cgroupfs,
        Some(b"systemd") => Driver::Systemd,
        Some(b"disabled") => Driver::Disabled,
        Some(other) => {
            return Err(Error::msg(format!("unknown cgroup manager \"{}\"", String::from_utf8_lossy(other)))
                .with_hint("one of cgroupfs, systemd, disabled"));
        }
    };
    let rootless = match words.last("rootless").map(OsStr::as_bytes) {
        None | Some(b"" | b"auto") => None,
        Some(value) => Some(words::truth(value).ok_or_else(|| {
            Error::msg(format!("invalid value \"{}\" for flag -rootless", String::from_utf8_lossy(value)))
                .with_hint("one of true, false, auto")
        })?),
    };
    let root = path(words, "root").filter(|root| !root.as_os_str().is_empty());
    if root.as_ref().is_some_and(|root| root.has_root() && root.components().count() == 1) {
        return Err(Error::msg("Option --root argument should not be set to /"));
    }
    let log = path(words, "log").filter(|log| !log.as_os_str().is_empty());
    let trace = path(words, "trace").filter(|trace| !trace.as_os_str().is_empty());
    Ok(Global { root, log, log_format, trace, debug: words.on("debug"), cgroup, rootless })
}

fn read_verb(verb: &'static Verb, words: &Words) -> Result<Command, Error> {
    let mut rest = words.rest.iter().map(|word| utf8(word));
    let id = rest.next().transpose()?.unwrap_or_default();
    Ok(match verb.name {
        "create" => Command::Create(read_create(id, Mode::Create, words)?),
        "start" => Command::Start { id },
        "run" => Command::Run(Run {
            create: read_create(id, Mode::Run, words)?,
            keep: words.on("keep"),
            no_subreaper: words.on("no-subreaper"),
        }),
        "exec" => Command::Exec(read_exec(id, rest.collect::<Result<_, _>>()?, words)?),
        "state" => Command::State { id },
        "kill" => {
            Command::Kill { id, signal: rest.next().transpose()?, all: words.on("all"), regex: words.on("regex") }
        }
        "delete" => Command::Delete { id, force: words.on("force"), regex: words.on("regex") },
        "mounts" => {
            let change = match id.as_str() {
                "add" => Change::Add,
                "remove" => Change::Remove,
                other => {
                    let text = format!("mounts: unknown command \"{other}\"");
                    return Err(Error::new(Kind::Usage, text).with_hint("one of add, remove"));
                }
            };
            let container = rest.next().transpose()?.unwrap_or_default();
            Command::Mounts { change, id: container, file: words.rest.get(2).map(PathBuf::from).unwrap_or_default() }
        }
        "list" => Command::List { format: read_format(words), quiet: words.on("quiet") },
        "ps" => Command::Ps { id, format: read_format(words), args: rest.collect::<Result<_, _>>()? },
        "pause" => Command::Pause { id },
        "resume" => Command::Resume { id },
        "events" => Command::Events {
            id,
            interval: words
                .last("interval")
                .and_then(|value| super::time::duration(&value.to_string_lossy()))
                .unwrap_or(Duration::from_secs(5)),
            stats: words.on("stats"),
        },
        "update" => Command::Update(Box::new(read_update(id, words)?)),
        "spec" => Command::Spec { bundle: path(words, "bundle"), rootless: words.on("rootless") },
        "features" => Command::Features,
        "checkpoint" => Command::Checkpoint(Box::new(read_checkpoint(id, words)?)),
        "restore" => Command::Restore(Box::new(read_restore(id, words)?)),
        "plan" => Command::Plan { bundle: PathBuf::from(id), id: text(words, "id")? },
        "completion" => Command::Completion { shell: id },
        other => return Err(Error::new(Kind::UnknownVerb, format!("No help topic for '{other}'"))),
    })
}

/// The default of `fs.nr_open`: no process has more descriptors, unless the administrator raises it.
pub const MOST_DESCRIPTORS: u32 = 1 << 20;

/// The options of a start; a verb that does not have one of the flags leaves its default.
fn read_start(mode: Mode, words: &Words) -> Result<StartOptions, Error> {
    Ok(StartOptions {
        mode,
        detach: words.on("detach"),
        console_socket: path(words, "console-socket"),
        pidfd_socket: path(words, "pidfd-socket"),
        pid_file: path(words, "pid-file"),
        no_pivot: words.on("no-pivot"),
        no_new_keyring: words.on("no-new-keyring"),
        preserve_fds: read_descriptors(words)?,
        ..StartOptions::default()
    })
}

fn read_create(id: String, mode: Mode, words: &Words) -> Result<Create, Error> {
    let (bundle, config) = (path(words, "bundle"), path(words, "config"));
    Ok(Create { id, bundle, config, start: read_start(mode, words)? })
}

fn read_exec(id: String, args: Vec<String>, words: &Words) -> Result<Exec, Error> {
    let user = text(words, "user")?.map(|user| read_user(&user)).transpose()?;
    Ok(Exec {
        id,
        args,
        start: read_start(Mode::Run, words)?,
        cwd: path(words, "cwd"),
        env: texts(words, "env")?,
        tty: words.on("tty"),
        user,
        additional_gids: words
            .all("additional-gids")
            .map(|gid| numeric(&gid.to_string_lossy(), "additional-gids"))
            .collect::<Result<_, _>>()?,
        process: path(words, "process"),
        process_label: text(words, "process-label")?,
        apparmor: text(words, "apparmor")?,
        no_new_privs: words.last("no-new-privs").map(|_| words.on("no-new-privs")),
        caps: texts(words, "cap")?,
        cgroups: texts(words, "cgroup")?,
        ignore_paused: words.on("ignore-paused"),
    })
}

/// `UID[:GID]`. Each part must be a number as a whole: a prefix that parses must never become root (CVE-2026-30892).
fn read_user(user: &str) -> Result<(u32, Option<u32>), Error> {
    let id = |part: &str| {
        // the highest number is not an id: to the kernel it is -1, "leave unchanged"
        part.parse::<u32>().ok().filter(|id| *id != u32::MAX).ok_or_else(|| {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            let wrong = if digits { "is more than 4294967294" } else { "is not a number" };
            Error::new(Kind::Launch, format!("exec failed: parse user \"{user}\": \"{part}\" {wrong}"))
                .with_hint("UID[:GID], in numbers")
        })
    };
    Ok(match user.split_once(':') {
        None => (id(user)?, None),
        Some((uid, gid)) => (id(uid)?, Some(id(gid)?)),
    })
}

/// `--preserve-fds`, up to the highest number that is possible.
fn read_descriptors(words: &Words) -> Result<u32, Error> {
    let count: u32 = number(words, "preserve-fds")?.unwrap_or(0);
    if count > MOST_DESCRIPTORS {
        let text = format!("invalid value for preserve-fds: \"{count}\" is more than {MOST_DESCRIPTORS}");
        return Err(Error::new(Kind::Usage, text).with_hint("how many descriptors from 3 on are kept"));
    }
    Ok(count)
}

fn read_format(words: &Words) -> Result<Format, String> {
    match words.last("format").map(OsStr::as_bytes) {
        None | Some(b"table") => Ok(Format::Table),
        Some(b"json") => Ok(Format::Json),
        Some(other) => Err(String::from_utf8_lossy(other).into_owned()),
    }
}

fn read_update(id: String, words: &Words) -> Result<Update, Error> {
    Ok(Update {
        id,
        resources: path(words, "resources"),
        blkio_weight: number(words, "blkio-weight")?,
        cpu_period: number(words, "cpu-period")?,
        cpu_quota: number(words, "cpu-quota")?,
        cpu_burst: number(words, "cpu-burst")?,
        cpu_shares: number(words, "cpu-share")?,
        cpu_rt_period: number(words, "cpu-rt-period")?,
        cpu_rt_runtime: number(words, "cpu-rt-runtime")?,
        cpu_idle: number(words, "cpu-idle")?,
        cpuset_cpus: text(words, "cpuset-cpus")?,
        cpuset_mems: text(words, "cpuset-mems")?,
        memory: bytes(words, "memory")?,
        memory_reservation: bytes(words, "memory-reservation")?,
        memory_swap: bytes(words, "memory-swap")?,
        kernel_memory: words.last("kernel-memory").or_else(|| words.last("kernel-memory-tcp")).is_some(),
        pids_limit: number(words, "pids-limit")?,
        l3_cache_schema: text(words, "l3-cache-schema")?,
        mem_bw_schema: text(words, "mem-bw-schema")?,
    })
}

fn read_criu(id: String, words: &Words) -> Result<Criu, Error> {
    Ok(Criu {
        id,
        image_path: path(words, "image-path"),
        work_path: path(words, "work-path"),
        tcp_established: words.on("tcp-established"),
        ext_unix_sk: words.on("ext-unix-sk"),
        shell_job: words.on("shell-job"),
        lazy_pages: words.on("lazy-pages"),
        file_locks: words.on("file-locks"),
        manage_cgroups_mode: text(words, "manage-cgroups-mode")?,
        empty_ns: texts(words, "empty-ns")?,
        auto_dedup: words.on("auto-dedup"),
    })
}

fn read_checkpoint(id: String, words: &Words) -> Result<Checkpoint, Error> {
    Ok(Checkpoint {
        criu: read_criu(id, words)?,
        parent_path: path(words, "parent-path"),
        leave_running: words.on("leave-running"),
        tcp_skip_in_flight: words.on("tcp-skip-in-flight"),
        link_remap: words.on("link-remap"),
        // -1, runc's default, means none
        status_fd: number::<i64>(words, "status-fd")?
            .filter(|fd| *fd != -1)
            .map(|fd| numeric(&fd.to_string(), "status-fd"))
            .transpose()?,
        page_server: text(words, "page-server")?,
        pre_dump: words.on("pre-dump"),
    })
}

fn read_restore(id: String, words: &Words) -> Result<Restore, Error> {
    Ok(Restore {
        criu: read_criu(id, words)?,
        bundle: path(words, "bundle"),
        start: read_start(Mode::Run, words)?,
        no_subreaper: words.on("no-subreaper"),
        lsm_profile: text(words, "lsm-profile")?,
        lsm_mount_context: text(words, "lsm-mount-context")?,
    })
}

fn path(words: &Words, long: &str) -> Option<PathBuf> {
    words.last(long).map(PathBuf::from)
}

fn utf8(word: &OsStr) -> Result<String, Error> {
    word.to_str()
        .map(str::to_owned)
        .ok_or_else(|| Error::new(Kind::Usage, format!("argument {word:?} is not valid UTF-8")))
}

fn text(words: &Words, long: &str) -> Result<Option<String>, Error> {
    words.last(long).map(utf8).transpose()
}

fn texts(words: &Words, long: &str) -> Result<Vec<String>, Error> {
    words.all(long).map(utf8).collect()
}

fn numeric<T: std::str::FromStr>(value: &str, long: &str) -> Result<T, Error> {
    value.parse().map_err(|_| Error::new(Kind::Usage, format!("invalid value for {long}: \"{value}\"")))
}

/// A number of the type that the spec has for it; an empty value counts as not given, as in runc.
fn number<T: std::str::FromStr>(words: &Words, long: &str) -> Result<Option<T>, Error> {
    match words.last(long).map(OsStr::to_string_lossy) {
        None => Ok(None),
        Some(value) if value.is_empty() => Ok(None),
        Some(value) => numeric(&value, long).map(Some),
    }
}

/// An amount of memory in Docker's units: a number with an optional `b`, `k`, `m`, `g`, `t` or `p`, in powers of 1024; `-1` is
/// no limit.
fn bytes(words: &Words, long: &str) -> Result<Option<i64>, Error> {
    let Some(value) = text(words, long)?.filter(|value| !value.is_empty()) else { return Ok(None) };
    if value == "-1" {
        return Ok(Some(-1));
    }
    amount(&value).map(Some).ok_or_else(|| {
        Error::new(Kind::Usage, format!("invalid value for {long}: \"{value}\"")).with_hint("a number, with k, m or g")
    })
}

fn amount(value: &str) -> Option<i64> {
    let end = value.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(value.len());
    let (digits, unit) = value.split_at(end);
    let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return None,
    };
    if let Ok(whole) = digits.parse::<i64>() {
        return whole.checked_mul(1 << shift);
    }
    let bytes = digits.parse::<f64>().ok()?
        * f64::from(1_u32 << (shift % 30))
        * if shift >= 30 { 1_073_741_824.0 } else { 1.0 };
    // a fraction of a byte is dropped, as Docker does; a value out of range is refused
    #[allow(clippy::cast_possible_truncation, reason = "checked against the range in this line")]
    (bytes < 9.2e18).then_some(bytes as i64)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
