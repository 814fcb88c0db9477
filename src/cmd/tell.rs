//! `--help`, `help [VERB]`, `--version` and `completion SHELL`.

use crate::cli::{Verb, completions, help_text};
use crate::error::{Error, Result};
use crate::spec;
use std::path::Path;

/// Prints the help of a verb, or the general one.
pub(super) fn help(name: &str, topic: Option<&'static Verb>) -> Result<u8> {
    super::print(&help_text(name, topic))?;
    Ok(0)
}

/// Writes the completions for a shell.
pub(super) fn completion(name: &str, shell: &str) -> Result<u8> {
    let script = completions(name, shell)
        .ok_or_else(|| Error::msg(format!("no completions for shell {shell:?}")).with_hint("one of bash, zsh, fish"))?;
    super::print(&script)?;
    Ok(0)
}

/// Shows the version: three lines in runc's form.
pub(super) fn version(name: &str) -> Result<u8> {
    super::print(&version_text(name))?;
    Ok(0)
}

/// containerd reads the rest of a first line that begins with `runc version `, and accepts any other first line with an empty
/// version; dockerd reads the words around `version`, and what follows `commit:`. So the first word is `runc` if that is what
/// we were called, and our own name otherwise.
fn version_text(name: &str) -> String {
    let shown = shown_name(name);
    let version = env!("CARGO_PKG_VERSION");
    // a build without a known commit names its release
    let commit = option_env!("ONGGI_COMMIT").unwrap_or(concat!("v", env!("CARGO_PKG_VERSION")));
    format!("{shown} version {version}\ncommit: {commit}\nspec: {}\n", spec::VERSION)
}

/// The name that we show in messages of this call.
pub(super) fn own_name() -> &'static str {
    let called_as = crate::sys::entry::arguments().into_iter().next().unwrap_or_default();
    shown_name(&called_as.to_string_lossy())
}

/// The name that we show.
pub(super) fn shown_name(called_as: &str) -> &'static str {
    let base = Path::new(called_as).file_name().and_then(|base| base.to_str());
    if base == Some("runc") { "runc" } else { "onggi" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_is_what_callers_look_for() {
        let rows = [
            ("runc", "runc version "),
            ("/usr/sbin/runc", "runc version "),
            ("onggi", "onggi version "),
            ("/usr/bin/crun", "onggi version "),
            ("", "onggi version "),
        ];
        for (name, first) in rows {
            let text = version_text(name);
            let lines: Vec<_> = text.lines().collect();
            assert!(lines[0].starts_with(first) && lines[0].split(' ').count() == 3, "{name}: {text}");
            assert!(lines[1].starts_with("commit: ") && !lines[1].contains("version"), "{text}");
            assert_eq!(lines[2], "spec: 1.3.0");
        }
    }
}
