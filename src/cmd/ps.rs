//! `ps ID [OPTION...]`: the container's processes, as pids or as the host's `ps` prints them.

use crate::cli::{Format, Global};
use crate::error::{Error, Result};
use std::process::{Command, Stdio};

/// Prints them; it is not an error if there are none.
pub(super) fn run(
    global: &Global,
    id: &str,
    format: std::result::Result<Format, String>,
    args: &[String],
) -> Result<u8> {
    let container = super::open(global, id)?;
    // a rootless container may have no cgroup; then its processes are unknown
    if container.record.cgroup.cgroup_paths.is_empty() {
        return Err(Error::msg("unable to get all container pids: the container has no cgroup"));
    }
    let pids = container.record.cgroup.pids()?;
    let text = match format {
        // as Go prints an empty list
        Ok(Format::Json) if pids.is_empty() => b"null\n".to_vec(),
        Ok(Format::Json) => (super::json(&pids)? + "\n").into_bytes(),
        Ok(Format::Table) => table(&pids, args)?,
        Err(_) => return Err(Error::msg("invalid format option")),
    };
    super::print(&text).map(|()| 0)
}

/// What the host's `ps` prints for these processes.
fn table(pids: &[i32], args: &[String]) -> Result<Vec<u8>> {
    let mut ps = Command::new("ps");
    if args.is_empty() {
        ps.arg("-ef");
    } else {
        ps.args(args);
    }
    // its errors go to the caller
    let output = ps.stderr(Stdio::inherit()).output().map_err(|error| {
        if error.kind() == std::io::ErrorKind::NotFound {
            return Error::msg("exec: \"ps\": executable file not found in $PATH");
        }
        Error::from(error).context("run ps")
    })?;
    if !output.status.success() {
        return Err(Error::msg(format!("ps: {}", output.status)));
    }
    chosen(&output.stdout, pids)
}

/// The heading, and the lines whose `PID` is one of these. What programs are called is any bytes.
fn chosen(text: &[u8], pids: &[i32]) -> Result<Vec<u8>> {
    let fields = |line| <[u8]>::split(line, u8::is_ascii_whitespace).filter(|field| !field.is_empty());
    let mut lines = text.split_inclusive(|byte| *byte == b'\n');
    let heading = lines.next().unwrap_or_default();
    let column = fields(heading)
        .position(|title| title == b"PID")
        .ok_or_else(|| Error::msg("couldn't find PID field in ps output"))?;
    let mut chosen = heading.to_vec();
    for line in lines.filter(|line| line.trim_ascii() != b"") {
        let field = String::from_utf8_lossy(fields(line).nth(column).unwrap_or_default());
        let pid: i32 = field.parse().map_err(|_| Error::msg(format!("unable to parse pid: {field:?}")))?;
        if pids.contains(&pid) {
            chosen.extend_from_slice(line);
        }
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::chosen;

    #[test]
    fn lines_are_chosen_by_their_pid() {
        let text =
            b"UID   PID  PPID CMD\nroot    1     0 init 13\na\xa0\xff   13     1 sleep \xff\nroot  130    13 x\n\n";
        let first = &b"UID   PID  PPID CMD\na\xa0\xff   13     1 sleep \xff\n"[..];
        assert_eq!(chosen(text, &[13]).ok().as_deref(), Some(first));
        // a space for people is a part of a name for the kernel
        let wide = "CMD PID\na\u{a0}b 13\n".as_bytes();
        assert_eq!(chosen(wide, &[13]).ok().as_deref(), Some(wide));
        assert_eq!(chosen(text, &[]).ok().as_deref(), Some(&b"UID   PID  PPID CMD\n"[..]));
        let said = |text: &str| chosen(text.as_bytes(), &[1]).err().map(|error| error.to_string());
        assert_eq!(said("USER CMD\nx y\n").as_deref(), Some("couldn't find PID field in ps output"));
        assert_eq!(said("PID\nx\n").as_deref(), Some("unable to parse pid: \"x\""));
    }
}
