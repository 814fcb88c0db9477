//! Help, completions and manual pages: clap's, made from the tables.
//!
//! Built only when it is printed: clap needs 0.1 ms for the whole command tree, which no start of a container should pay.

use super::table::{self, Flag, Group, Takes, Verb, flags_of};
use clap::{Arg, ArgAction, Command};
use clap_complete::Shell;
use std::fmt::Write;

/// The layout of a help text, below the name: runc's, because scripts look for its lines.
const LAYOUT: &str = "USAGE:\n   {usage}\n\n{before-help}{all-args}{after-help}";
/// The same with the verbs in groups, which clap does not know.
const LAYOUT_OF_ALL: &str = "USAGE:\n   {usage}\n\nCOMMANDS:\n{before-help}OPTIONS:\n{options}{after-help}";
/// The maximum width of a help text; less on a narrow terminal.
const COLUMNS: usize = 80;

/// Notes for every verb.
const NOTES: &[(&str, &str)] = &[
    (
        "EXIT STATUS",
        "0    success
1    failure
3    no such command
255  exec failed, or `run` could not start the container's program
Otherwise, in the foreground, that of the container's program, or 128 plus the
number of the signal that ended it.",
    ),
    (
        "ENVIRONMENT",
        "ONGGI_TRACE             as --trace
XDG_RUNTIME_DIR         the state directory of a caller without privileges
LISTEN_FDS, LISTEN_PID  create, run: sockets that are passed on to the container
NOTIFY_SOCKET           create, run, start: receives READY=1 from the container",
    ),
    (
        "FILES",
        "/run/onggi/ID           the state of a container (see --root)
config.json             the configuration, in the bundle",
    ),
];

/// The help text of a verb, or the general one.
#[must_use]
pub(crate) fn text(name: &str, topic: Option<&'static Verb>) -> String {
    let base = base(name);
    let (mut command, title) = match topic {
        Some(verb) => {
            let title = format!("{base} {}", verb.name);
            (verb_command(base, verb).bin_name(title.clone()), title)
        }
        None => (command(base), base.to_owned()),
    };
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    format!("NAME:\n   {title} - {about}\n\n{}", command.render_help())
}

/// The completions for a shell; `None` for one that is not known.
#[must_use]
pub(crate) fn completions(name: &str, shell: &str) -> Option<Vec<u8>> {
    let shell = match shell {
        "bash" => Shell::Bash,
        "zsh" => Shell::Zsh,
        "fish" => Shell::Fish,
        _ => return None,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(base(name)), base(name), &mut script);
    Some(script)
}

/// The program's name without its directory.
pub(super) fn base(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// The whole command line as clap sees it.
#[must_use]
pub fn command(name: &str) -> Command {
    Command::new("onggi")
        .bin_name(name.to_owned())
        .version(env!("CARGO_PKG_VERSION"))
        .disable_version_flag(true)
        .about("Open Container Initiative runtime: runs bundles")
        .help_template(LAYOUT_OF_ALL)
        .max_term_width(COLUMNS)
        .override_usage(format!("{name} [OPTIONS] COMMAND [ARGUMENT...]"))
        .disable_help_flag(true)
        .disable_help_subcommand(true)
        .before_help(groups())
        .after_help(format!("{}\n\nMore about a command: {name} COMMAND --help", sections(NOTES)))
        .args(shown(None).map(arg))
        .subcommands(table::VERBS.iter().map(|verb| verb_command(name, verb)))
}

/// The verbs, by group.
fn groups() -> String {
    let mut text = String::new();
    for (group, heading) in Group::ALL {
        let _infallible = writeln!(text, "  {heading}");
        for verb in table::VERBS.iter().filter(|verb| verb.group == group) {
            let _infallible = writeln!(text, "    {:11} {}", verb.name, verb.about);
        }
    }
    text
}

/// Sections with a heading, their lines indented.
fn sections(sections: &[(&str, &str)]) -> String {
    let one = |(heading, text): &(&str, &str)| format!("{heading}:\n   {}", text.replace('\n', "\n   "));
    sections.iter().map(one).collect::<Vec<_>>().join("\n\n")
}

fn verb_command(name: &str, verb: &'static Verb) -> Command {
    let examples = verb.examples.iter().map(|(what, words)| format!("   # {what}\n   {name} {words}\n"));
    let examples = examples.collect::<String>();
    let notes = sections(verb.notes);
    Command::new(verb.name)
        .about(verb.about)
        .help_template(LAYOUT)
        .max_term_width(COLUMNS)
        .disable_help_flag(true)
        .args(verb.words.split_whitespace().enumerate().map(|(at, word)| {
            let bare = word.trim_matches(|letter| matches!(letter, '[' | ']' | '.'));
            let help = table::WORDS.iter().find(|(known, _)| *known == bare).map_or("", |(_, help)| help);
            let arg = Arg::new(bare).index(at + 1).value_name(bare).help(help).help_heading("ARGUMENTS");
            let arg = arg.display_order(at).required(!word.starts_with('['));
            let arg = if bare == "SHELL" {
                arg.value_parser(["bash", "zsh", "fish"]).hide_possible_values(true)
            } else {
                arg
            };
            if word.contains("...") { arg.action(ArgAction::Append).num_args(0..) } else { arg }
        }))
        .next_help_heading("OPTIONS")
        .args(shown(Some(verb)).map(arg))
        .after_help(format!("EXAMPLES:\n{examples}\n{notes}\n\nOptions for every command: {name} --help"))
}

/// The flags that are not hidden.
fn shown(verb: Option<&'static Verb>) -> impl Iterator<Item = &'static Flag> {
    flags_of(verb).filter(|flag| !flag.help.is_empty())
}

fn arg(flag: &'static Flag) -> Arg {
    let arg = Arg::new(flag.long).long(flag.long).help(flag.help);
    let arg = match flag.short {
        Some(short) => arg.short(short),
        None => arg,
    };
    // what a shell can complete
    let arg = match flag.value {
        "DIR" => arg.value_hint(clap::ValueHint::DirPath),
        "FILE" | "PATH" => arg.value_hint(clap::ValueHint::FilePath),
        _ => arg,
    };
    match flag.takes {
        Takes::Nothing => arg.action(ArgAction::SetTrue),
        Takes::Text | Takes::Number | Takes::Duration => arg.action(ArgAction::Set).value_name(flag.value),
        Takes::Texts | Takes::Numbers => arg.action(ArgAction::Append).value_name(flag.value),
    }
}
