//! Help and completions: clap's, made from the tables.
//!
//! Only built when somebody reads it: the whole command tree costs clap 0.1 ms, which no container start should pay.

use super::parse::flags_of;
use super::table::{self, Flag, Takes, Verb};
use clap::{Arg, ArgAction, Command};

/// Below the name, runc's layout of a help text: scripts find what they look for by its line.
const LAYOUT: &str = "USAGE:\n   {usage}\n\n{all-args}{after-help}";

/// The help text of a verb, or of the whole.
#[must_use]
pub fn text(name: &str, topic: Option<&'static Verb>) -> String {
    let base = name.rsplit('/').next().unwrap_or(name);
    let (mut command, shown) = match topic {
        Some(verb) => {
            let shown = format!("{base} {}", verb.name);
            (verb_command(verb).bin_name(shown.clone()), shown)
        }
        None => (command(base), base.to_owned()),
    };
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    format!("NAME:\n   {shown} - {about}\n\n{}", command.render_long_help())
}

/// The whole command line as clap sees it, for help, completions and man pages.
#[must_use]
pub fn command(name: &str) -> Command {
    Command::new("onggi")
        .bin_name(name.to_owned())
        .about("Open Container Initiative runtime: runs a bundle, a directory with config.json and a root file system")
        .help_template(LAYOUT)
        .override_usage(format!("{name} [OPTIONS] COMMAND [ARGUMENT...]"))
        .disable_help_flag(true)
        .disable_help_subcommand(true)
        .args(flags_of(None).map(arg))
        .subcommands(table::VERBS.iter().map(verb_command))
}

fn verb_command(verb: &'static Verb) -> Command {
    let mut command = Command::new(verb.name)
        .about(verb.about)
        .help_template(LAYOUT)
        .disable_help_flag(true)
        .args(flags_of(Some(verb)).map(arg))
        .args(verb.words.split_whitespace().enumerate().map(|(at, word)| {
            let bare = word.trim_matches(|letter| matches!(letter, '[' | ']' | '.'));
            let arg = Arg::new(bare).index(at + 1).value_name(bare).required(!word.starts_with('['));
            if word.contains("...") { arg.action(ArgAction::Append).num_args(0..) } else { arg }
        }));
    if !verb.notes.is_empty() {
        command = command.after_help(verb.notes);
    }
    command
}

fn arg(flag: &'static Flag) -> Arg {
    let arg = Arg::new(flag.long).long(flag.long).help(flag.help).hide(flag.help.is_empty());
    let arg = match flag.short {
        Some(short) => arg.short(short),
        None => arg,
    };
    match flag.takes {
        Takes::Nothing => arg.action(ArgAction::SetTrue),
        Takes::Text | Takes::Number | Takes::Duration => arg.action(ArgAction::Set).value_name(flag.value),
        Takes::Texts | Takes::Numbers => arg.action(ArgAction::Append).value_name(flag.value),
    }
}
