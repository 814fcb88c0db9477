//! The command line by table. Every sentence and status was compared with runc 1.3.6 on the same words.

use super::super::{Call, Command, Create, Exec, Format, Misuse, Run, completions, help_text};
use crate::error::Kind;
use crate::log::Form;
use crate::plan::cgroup::Driver;
use crate::plan::request::{Mode, StartOptions};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

fn parse(line: &str) -> Result<Call, Box<Misuse>> {
    super::parse(std::iter::once("runc").chain(line.split_whitespace()).map(OsString::from))
}

fn command(line: &str) -> Command {
    parse(line).unwrap_or_else(|misuse| panic!("{line}: {}", misuse.error)).command
}

#[test]
fn mistakes_read_as_runc_writes_them() {
    let usage = |sentence: &str| (Kind::Usage, sentence.to_owned());
    let unknown = |topic: &str| (Kind::UnknownVerb, format!("No help topic for '{topic}'"));
    let value = |sentence: &str| (Kind::Other, sentence.to_owned());
    let rows = [
        ("bogus", unknown("bogus")),
        ("help bogus", unknown("bogus")),
        ("version", unknown("version")),
        ("-", unknown("-")),
        ("-debug false", unknown("false")),
        ("--bogus", usage("flag provided but not defined: -bogus")),
        ("-bogus state", usage("flag provided but not defined: -bogus")),
        ("---foo", usage("bad flag syntax: ---foo")),
        ("-=x", usage("bad flag syntax: -=x")),
        ("--log", usage("flag needs an argument: -log")),
        ("-log", usage("flag needs an argument: -log")),
        ("--root", usage("flag needs an argument: -root")),
        ("--systemd-cgroup=x list", usage("invalid boolean value \"x\" for -systemd-cgroup: parse error")),
        ("--log-format xml state x", value("invalid log-format: xml")),
        ("--root / list", value("Option --root argument should not be set to /")),
        ("state", usage("runc: \"state\" requires exactly 1 argument(s)")),
        ("state a b", usage("runc: \"state\" requires exactly 1 argument(s)")),
        ("state x --bogus", usage("runc: \"state\" requires exactly 1 argument(s)")),
        ("run x y", usage("runc: \"run\" requires exactly 1 argument(s)")),
        ("list x", usage("runc: \"list\" requires exactly 0 argument(s)")),
        ("spec x", usage("runc: \"spec\" requires exactly 0 argument(s)")),
        ("exec", usage("runc: \"exec\" requires a minimum of 1 argument(s)")),
        ("kill", usage("runc: \"kill\" requires a minimum of 1 argument(s)")),
        ("kill x 9 8", usage("runc: \"kill\" requires a maximum of 2 argument(s)")),
        ("state --bogus x", usage("flag provided but not defined: -bogus")),
        ("state --version", usage("flag provided but not defined: -version")),
        ("state --=x", usage("bad flag syntax: --=x")),
        ("run -db x", usage("flag provided but not defined: -db")),
        ("run -d=true -x y", usage("flag provided but not defined: -x")),
        ("run -b", usage("flag needs an argument: -b")),
        ("run --bundle", usage("flag needs an argument: -bundle")),
        ("exec -p", usage("flag needs an argument: -p")),
        ("ps -ef x", usage("flag provided but not defined: -ef")),
        ("restore --lsm-mount-context", usage("flag needs an argument: -lsm-mount-context")),
        ("delete --force=bogus x", usage("invalid boolean value \"bogus\" for -force: parse error")),
        ("run --preserve-fds x y", usage("invalid value \"x\" for flag -preserve-fds: parse error")),
        ("events --interval=abc x", usage("invalid value \"abc\" for flag -interval: parse error")),
        (
            "exec -g 1,2 x ls",
            usage("invalid value \"1,2\" for flag -g: strconv.ParseInt: parsing \"1,2\": invalid syntax"),
        ),
    ];
    for (line, (kind, sentence)) in rows {
        let misuse = parse(line).err().unwrap_or_else(|| panic!("{line}: accepted"));
        assert_eq!((misuse.error.kind(), misuse.error.to_string()), (kind, sentence), "{line}");
    }
}

#[test]
fn a_mistake_says_what_was_meant_and_where_help_is() {
    let hint = |line: &str| parse(line).err().and_then(|misuse| misuse.error.hint().map(str::to_owned));
    let rows = [
        ("kill", "see runc kill --help"),
        ("restore --lsm-mount-context", "see runc restore --help"),
        ("--bogus state", "see runc --help"),
        ("xyzzy", "see runc --help"),
        ("crate -b /b x", "did you mean create? see runc --help"),
        ("help chekpoint", "did you mean checkpoint? see runc --help"),
        ("--systemd-cgroups list", "did you mean --systemd-cgroup? see runc --help"),
        ("run --budnle /b x", "did you mean --bundle? see runc run --help"),
        ("exec --users 0 x y", "did you mean --user? see runc exec --help"),
        // a short flag is like nothing
        ("run -x y", "see runc run --help"),
    ];
    for (line, expected) in rows {
        assert_eq!(hint(line).as_deref(), Some(expected), "{line}");
    }
    let called = |name: &str| super::parse([name, "kill"].map(OsString::from));
    let hint = called("/usr/bin/onggi").err().and_then(|misuse| misuse.error.hint().map(str::to_owned));
    assert_eq!(hint.as_deref(), Some("see onggi kill --help"));
}

#[test]
fn a_record_goes_where_the_flags_before_the_verb_say() {
    let misuse = parse("--log /a --log-format json state").err().map(|misuse| misuse.global);
    let global = misuse.unwrap_or_default();
    assert_eq!((global.log, global.log_format), (Some(PathBuf::from("/a")), Form::Json));
}

#[test]
fn help_and_version() {
    for line in ["", "--", "help", "h", "-h", "--help", "-help", "--help bogus"] {
        assert_eq!(command(line), Command::Help(None), "{line}");
    }
    for line in ["state -h", "state --help x", "state x -h", "help state", "h state", "help state extra"] {
        let Command::Help(Some(verb)) = command(line) else { panic!("{line}") };
        assert_eq!(verb.name, "state", "{line}");
    }
    for line in ["-v", "--version", "-version", "--version state x"] {
        assert_eq!(command(line), Command::Version, "{line}");
    }
    let Command::Exec(exec) = command("exec x -h") else { panic!("a payload's -h is its own") };
    assert_eq!(exec.args, ["-h"]);
}

#[test]
fn containerds_calls() {
    let line = "--root /run/r --log /l/log.json --log-format json --systemd-cgroup create --bundle /b --pid-file \
                /b/init.pid --console-socket /s --no-pivot --no-new-keyring --preserve-fds 3 web";
    let call = parse(line).unwrap_or_else(|misuse| panic!("{}", misuse.error));
    assert_eq!(call.global.root, Some("/run/r".into()));
    assert_eq!(call.global.log, Some("/l/log.json".into()));
    assert_eq!(call.global.log_format, Form::Json);
    assert_eq!(call.global.cgroup, Driver::Systemd);
    assert_eq!(call.global.rootless, None);
    let create = Create {
        id: "web".into(),
        bundle: Some("/b".into()),
        start: StartOptions {
            mode: Mode::Create,
            pid_file: Some("/b/init.pid".into()),
            console_socket: Some("/s".into()),
            no_pivot: true,
            no_new_keyring: true,
            preserve_fds: 3,
            ..StartOptions::default()
        },
        ..Create::default()
    };
    assert_eq!(call.command, Command::Create(create));

    let exec = Exec {
        id: "web".into(),
        process: Some("/p".into()),
        start: StartOptions { detach: true, pid_file: Some("/f".into()), ..StartOptions::default() },
        ..Exec::default()
    };
    assert_eq!(command("exec --process /p --detach --pid-file /f web"), Command::Exec(exec));
    let kill = Command::Kill { id: "web".into(), signal: Some("9".into()), all: true, regex: false };
    assert_eq!(command("kill --all web 9"), kill);
    let Command::Restore(restore) =
        command("restore --image-path /i --work-path /w --detach -no-subreaper --bundle /b web")
    else {
        panic!("restore")
    };
    assert!(restore.no_subreaper && restore.start.detach);
    let Command::Update(update) = command("update --resources=- web") else { panic!("update") };
    assert_eq!(update.resources, Some("-".into()));
}

#[test]
fn flags_stand_before_and_behind_the_id_but_never_in_a_payload() {
    let run = Run {
        create: Create {
            id: "x".into(),
            bundle: Some("/b".into()),
            start: StartOptions { detach: true, ..StartOptions::default() },
            ..Create::default()
        },
        ..Run::default()
    };
    for line in ["run -d -b /b x", "run -detach --bundle=/b x", "run x -d -b /b", "run -d=1 x -bundle /b"] {
        assert_eq!(command(line), Command::Run(run.clone()), "{line}");
    }
    assert_eq!(command("delete x --force"), Command::Delete { id: "x".into(), force: true, regex: false });
    let exec = Exec {
        id: "x".into(),
        args: vec!["ls".into(), "-e".into(), "--".into(), "-t".into()],
        tty: true,
        ..Exec::default()
    };
    assert_eq!(command("exec -t x ls -e -- -t"), Command::Exec(exec.clone()));
    assert_eq!(command("exec -t -- x ls -e -- -t"), Command::Exec(exec));
    let ps = Command::Ps { id: "x".into(), format: Ok(Format::Json), args: vec!["-f".into(), "pid".into()] };
    assert_eq!(command("ps -f json x -f pid"), ps);
    assert_eq!(
        command("kill x -9"),
        Command::Kill { id: "x".into(), signal: Some("-9".into()), all: false, regex: false }
    );
}

#[test]
fn exec_flags() {
    let line = "exec --cwd /w -e A=1 --env B=2=3 -u 7:8 -g 1 -g 2 --cap CAP_KILL -c CAP_CHOWN --no-new-privs --cgroup a \
                --cgroup cpu:b --apparmor p --process-label l --ignore-paused --pidfd-socket /s x true";
    let expected = Exec {
        id: "x".into(),
        args: vec!["true".into()],
        cwd: Some("/w".into()),
        env: vec!["A=1".into(), "B=2=3".into()],
        user: Some((7, Some(8))),
        additional_gids: vec![1, 2],
        caps: vec!["CAP_KILL".into(), "CAP_CHOWN".into()],
        no_new_privs: Some(true),
        cgroups: vec!["a".into(), "cpu:b".into()],
        apparmor: Some("p".into()),
        process_label: Some("l".into()),
        ignore_paused: true,
        start: StartOptions { pidfd_socket: Some("/s".into()), ..StartOptions::default() },
        ..Exec::default()
    };
    assert_eq!(command(line), Command::Exec(expected));
    assert_eq!(command("exec -u 7 x y"), Command::Exec(Exec { user: Some((7, None)), ..exec_xy() }));
    assert_eq!(command("exec -no-new-privs=false x y"), Command::Exec(Exec { no_new_privs: Some(false), ..exec_xy() }));
    // half a number, an empty one, a name: none of them is a user
    for user in ["1:x", "x", ":1", "1:", "-1", "1x", "4294967296", "1:2:3"] {
        let misuse = parse(&format!("exec -u {user} x y")).err();
        assert_eq!(misuse.map(|misuse| misuse.error.kind()), Some(Kind::Launch), "{user}");
    }
}

fn exec_xy() -> Exec {
    Exec { id: "x".into(), args: vec!["y".into()], ..Exec::default() }
}

#[test]
fn the_last_of_repeated_flags_counts() {
    let root = |line: &str| parse(line).map(|call| call.global.root).ok().flatten();
    assert_eq!(root("--root a --root b list"), Some("b".into()));
    assert_eq!(root("--root= list"), None);
    let driver = |line: &str| parse(line).map(|call| call.global.cgroup).ok();
    assert_eq!(driver("--cgroup-manager disabled list"), Some(Driver::Disabled));
    assert_eq!(driver("--cgroup-manager=systemd list"), Some(Driver::Systemd));
    assert_eq!(driver("--cgroup-manager bogus list"), None);
    let rootless = |line: &str| parse(line).map(|call| call.global.rootless).ok();
    assert_eq!(rootless("--rootless=true list"), Some(Some(true)));
    assert_eq!(rootless("--rootless auto list"), Some(None));
    assert_eq!(rootless("--rootless x list"), None);
    let debug = |line: &str| parse(line).map(|call| call.global.debug).ok();
    assert_eq!(debug("--debug=t list"), Some(true));
    assert_eq!(debug("--debug=false list"), Some(false));
}

#[test]
fn limits_in_docker_units() {
    let memory = |value: &str| match parse(&format!("update --memory={value} x")).map(|call| call.command) {
        Ok(Command::Update(update)) => Ok(update.memory),
        Ok(other) => panic!("{other:?}"),
        Err(misuse) => Err(misuse.error.to_string()),
    };
    let rows: &[(&str, Result<Option<i64>, &str>)] = &[
        ("-1", Ok(Some(-1))),
        ("100", Ok(Some(100))),
        ("100b", Ok(Some(100))),
        ("32m", Ok(Some(33_554_432))),
        ("32MB", Ok(Some(33_554_432))),
        ("1.5g", Ok(Some(1_610_612_736))),
        ("2GiB", Ok(Some(2_147_483_648))),
        ("", Ok(None)),
        ("zz", Err("invalid value for memory: \"zz\"")),
        ("-5", Err("invalid value for memory: \"-5\"")),
        ("99999999999g", Err("invalid value for memory: \"99999999999g\"")),
    ];
    for (value, expected) in rows {
        assert_eq!(memory(value), expected.map_err(str::to_owned), "{value:?}");
    }
    let Command::Update(update) = command("update --pids-limit -1 --cpu-quota -1 --blkio-weight 500 --cpu-idle 1 x")
    else {
        panic!("update")
    };
    assert_eq!((update.pids_limit, update.cpu_quota, update.blkio_weight), (Some(-1), Some(-1), Some(500)));
    assert_eq!(update.cpu_idle, Some(1));
    assert!(parse("update --cpu-period=-1 x").is_err());
    assert!(parse("update --blkio-weight=70000 x").is_err());
}

#[test]
fn events_lists_and_formats() {
    let events = |interval, stats| Command::Events { id: "x".into(), interval, stats };
    assert_eq!(command("events x"), events(Duration::from_secs(5), false));
    assert_eq!(command("events --interval=250ms --stats x"), events(Duration::from_millis(250), true));
    assert_eq!(command("list -q -f json"), Command::List { format: Ok(Format::Json), quiet: true });
    assert_eq!(command("list --format xml"), Command::List { format: Err("xml".into()), quiet: false });
    assert_eq!(command("spec --rootless -b /b"), Command::Spec { bundle: Some("/b".into()), rootless: true });
    assert_eq!(command("features"), Command::Features);
    assert_eq!(command("plan /b --id x"), Command::Plan { bundle: "/b".into(), id: Some("x".into()) });
}

#[test]
fn words_that_are_not_utf8() {
    use std::os::unix::ffi::OsStringExt;
    let bad = OsString::from_vec(vec![b'/', 0xff]);
    let line = |words: &[&str]| words.iter().map(OsString::from).chain([bad.clone(), "x".into()]).collect::<Vec<_>>();
    let call = super::parse(line(&["runc", "run", "-b"])).map(|call| call.command);
    let bundle = match call {
        Ok(Command::Run(run)) => run.create.bundle,
        other => panic!("{other:?}"),
    };
    assert_eq!(bundle, Some(PathBuf::from(bad.clone())));
    assert!(super::parse(line(&["runc", "exec", "-e"])).is_err());
}

#[test]
fn help_names_every_flag_that_is_not_hidden() {
    let whole = help_text("onggi", None);
    for verb in super::table::VERBS {
        assert!(whole.contains(verb.name), "{}", verb.name);
        let text = help_text("onggi", Some(verb));
        for flag in super::table::flags_of(Some(verb)) {
            assert_eq!(
                text.contains(&format!("--{}", flag.long)),
                !flag.help.is_empty(),
                "{} {}",
                verb.name,
                flag.long
            );
        }
    }
    // clap checks the tree: no two flags of one name
    crate::cli::help::command("onggi").debug_assert();
}

#[test]
fn help_is_short_and_has_its_sections() {
    for verb in super::table::VERBS {
        let text = help_text("/usr/bin/onggi", Some(verb));
        assert!(text.starts_with(&format!("NAME:\n   onggi {} - {}\n\nUSAGE:\n", verb.name, verb.about)), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        for heading in ["EXAMPLES:", "EXIT STATUS:"] {
            assert!(text.lines().any(|line| line == heading), "{heading} {text}");
        }
        assert!(verb.examples.len() == 2, "{}", verb.name);
        // what stands in an example is accepted
        for (_, words) in verb.examples {
            let words = words.split(['|', '>']).next().unwrap_or_default();
            assert!(parse(words).is_ok(), "{words}");
        }
        for word in verb.words.split_whitespace() {
            let bare = word.trim_matches(['[', ']', '.']);
            assert!(super::table::WORDS.iter().any(|(known, _)| *known == bare), "{word}");
        }
    }
    let whole = help_text("onggi", None);
    for heading in ["COMMANDS:", "OPTIONS:", "EXIT STATUS:", "ENVIRONMENT:", "FILES:"] {
        assert!(whole.lines().any(|line| line == heading), "{heading} {whole}");
    }
    assert!(whole.lines().all(|line| line.chars().count() <= 80) && whole.lines().count() < 80, "{whole}");
}

#[test]
fn completions_name_verbs_and_flags() {
    let script = |shell| completions("/usr/bin/onggi", shell).map(|script| String::from_utf8(script).unwrap());
    for shell in ["bash", "zsh", "fish"] {
        let script = script(shell).unwrap_or_else(|| panic!("{shell}"));
        for word in ["onggi", "checkpoint", "manage-cgroups-mode", "completion"] {
            assert!(script.contains(word), "{shell} {word}");
        }
        // hidden, since it does nothing
        assert!(!script.contains("kernel-memory-tcp"), "{shell}");
    }
    assert_eq!(script("tcsh"), None);
}
