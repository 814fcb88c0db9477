//! How a cgroup file gets its old value back: for most files it is the text that was read, for some not.
//!
//! Pure.

/// The values to write, in order, so that `file` has its contents `old` again after `new` was written. Empty if that is
/// impossible.
#[must_use]
pub fn values(file: &str, old: &str, new: &str) -> Vec<String> {
    let key = new.split(' ').next().unwrap_or_default();
    let is_device = key.split_once(':').is_some_and(|(major, minor)| is_number(major) && is_number(minor));
    let line = old.lines().find(|line| line.split(' ').next() == Some(key));
    match file {
        "memory.oom_control" => {
            old.lines().filter_map(|l| l.strip_prefix("oom_kill_disable ")).map(str::to_owned).collect()
        }
        // a list by device or interface, of which a write changes one line
        "io.max" => vec![line.map_or_else(|| format!("{key} rbps=max wbps=max riops=max wiops=max"), str::to_owned)],
        "rdma.max" | "net_prio.ifpriomap" => line.map(str::to_owned).into_iter().collect(),
        _ if is_device && file.starts_with("blkio.") => {
            vec![line.map_or_else(|| format!("{key} 0"), str::to_owned)]
        }
        _ if is_device => vec![line.map_or_else(|| format!("{key} default"), str::to_owned)],
        // the default comes before the devices
        "io.weight" | "io.bfq.weight" => {
            let default = old.lines().next().unwrap_or_default();
            vec![default.strip_prefix("default ").unwrap_or(default).to_owned()]
        }
        _ => vec![old.trim_end().to_owned()],
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::values;

    #[test]
    fn files_come_back() {
        let table: &[(&str, &str, &str, &[&str])] = &[
            ("memory.max", "max\n", "5", &["max"]),
            ("cpu.max", "max 100000\n", "5 10", &["max 100000"]),
            ("cpuset.cpus", "\n", "0", &[""]),
            ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", "1", &["0"]),
            (
                "io.max",
                "8:0 rbps=1 wbps=max riops=max wiops=max\n",
                "8:0 rbps=7",
                &["8:0 rbps=1 wbps=max riops=max wiops=max"],
            ),
            ("io.max", "8:16 rbps=1\n", "8:1 rbps=7", &["8:1 rbps=max wbps=max riops=max wiops=max"]),
            ("io.weight", "default 100\n8:0 50\n", "7", &["100"]),
            ("io.bfq.weight", "100\n", "7", &["100"]),
            ("io.weight", "default 100\n8:0 50\n", "8:0 7", &["8:0 50"]),
            ("io.weight", "default 100\n", "8:0 7", &["8:0 default"]),
            ("blkio.throttle.read_bps_device", "8:0 5\n", "8:0 7", &["8:0 5"]),
            ("blkio.throttle.read_bps_device", "", "8:0 7", &["8:0 0"]),
            ("rdma.max", "mlx hca_handle=max hca_object=3\n", "mlx hca_handle=1", &["mlx hca_handle=max hca_object=3"]),
            ("net_prio.ifpriomap", "lo 0\neth0 5\n", "eth0 7", &["eth0 5"]),
        ];
        for (file, old, new, want) in table {
            assert_eq!(values(file, old, new), *want, "{file} {new}");
        }
    }
}
