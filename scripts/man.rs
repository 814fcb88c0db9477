//! Writes the manual pages, one for the program and one for each command, into the directory that is named.
#![allow(clippy::print_stderr, clippy::exit, reason = "a program for those who build packages")]

use std::io::Result;
use std::path::{Path, PathBuf};

fn main() -> Result<()> {
    let Some(directory) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: man DIRECTORY");
        std::process::exit(1);
    };
    std::fs::create_dir_all(&directory)?;
    let command = onggi::program::cli::clap_command("onggi");
    for verb in command.get_subcommands() {
        let name = format!("onggi-{}", verb.get_name());
        // the page is named onggi-run, the command is `onggi run`
        let page = verb.clone().display_name(name.clone()).bin_name(format!("onggi {}", verb.get_name()));
        write(&directory, &name, page)?;
    }
    write(&directory, "onggi", command)
}

fn write(directory: &Path, name: &str, page: clap::Command) -> Result<()> {
    let mut text = Vec::new();
    clap_mangen::Man::new(page).section("8").render(&mut text)?;
    std::fs::write(directory.join(format!("{name}.8")), text)
}
