//! The memory that the kernel's control groups leave to this process: a container's limit, or one that systemd sets on a
//! unit.
//!
//! A group is bounded by its own limit and by the limit of each group above it. Both versions are read at every mount
//! point, because machines with either version, and with both, are in use. Source: cgroups(7), proc_pid_mountinfo(5).

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Files with a limit in bytes, in version 2. Above `memory.high` the kernel slows the process down.
const VERSION_2: [&str; 2] = ["memory.max", "memory.high"];
/// The same in version 1.
const VERSION_1: [&str; 1] = ["memory.limit_in_bytes"];

/// The smallest limit of this process's groups, bytes. `None` if there is none.
pub(super) fn memory_bytes_max() -> Option<u64> {
    let read = |path: &Path| fs::read_to_string(path).ok();
    let groups = read(Path::new("/proc/self/cgroup"))?;
    let mounts = read(Path::new("/proc/self/mountinfo"))?;
    // Version 2 says "max" for no limit, which does not parse as a number.
    let limits = files(&groups, &mounts).into_iter();
    limits
        .filter_map(|file| read(&file)?.trim().parse().ok())
        .min()
}

/// Every file that may hold a limit, by the contents of `/proc/self/cgroup` and `/proc/self/mountinfo`.
fn files(groups: &str, mounts: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for mount in mounts.lines().filter_map(Mount::read) {
        let names: &[&str] = if mount.is_version_2 {
            &VERSION_2
        } else {
            &VERSION_1
        };
        let group = groups.lines().find_map(|line| mount.group(line));
        let group = group.unwrap_or_default();
        // A namespace may show a path that leads out of the mount. Such a path means the mount's root.
        let inside = Path::new(group).strip_prefix(mount.root).ok();
        let inside = inside.filter(|_| !group.contains("/.."));
        for above in inside.unwrap_or(Path::new("")).ancestors() {
            let folder = Path::new(mount.point).join(above);
            files.extend(names.iter().map(|name| folder.join(name)));
        }
    }
    files
}

/// A mount point of groups with a limit on memory.
struct Mount<'a> {
    /// The group that is visible there.
    root: &'a str,
    point: &'a str,
    is_version_2: bool,
}

impl<'a> Mount<'a> {
    /// Parses a line of `/proc/self/mountinfo`.
    fn read(line: &'a str) -> Option<Self> {
        let (mount, kind) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, point) = (mount.next()?, mount.next()?);
        let mut kind = kind.split(' ');
        let (kind, options) = (kind.next()?, kind.nth(1)?);
        let is_version_2 = kind == "cgroup2";
        let is_of_memory = kind == "cgroup" && options.split(',').any(|option| option == "memory");
        (is_version_2 || is_of_memory).then_some(Self {
            root,
            point,
            is_version_2,
        })
    }

    /// This process's group in this hierarchy, if a line of `/proc/self/cgroup` is about it.
    fn group(&self, line: &'a str) -> Option<&'a str> {
        let (_, line) = line.split_once(':')?;
        let (controllers, group) = line.split_once(':')?;
        let is_its = if self.is_version_2 {
            controllers.is_empty()
        } else {
            controllers.split(',').any(|name| name == "memory")
        };
        is_its.then_some(group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: &str =
        "25 30 0:23 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    const V1: &str = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      36 31 0:33 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n";

    fn shown(groups: &str, mounts: &str) -> Vec<String> {
        let files = files(groups, mounts).into_iter();
        files.map(|file| file.display().to_string()).collect()
    }

    #[test]
    fn a_group_and_all_above_it_are_looked_at() {
        assert_eq!(
            shown("0::/oa.slice/towncrier.service\n", V2),
            [
                "/sys/fs/cgroup/oa.slice/towncrier.service/memory.max",
                "/sys/fs/cgroup/oa.slice/towncrier.service/memory.high",
                "/sys/fs/cgroup/oa.slice/memory.max",
                "/sys/fs/cgroup/oa.slice/memory.high",
                "/sys/fs/cgroup/memory.max",
                "/sys/fs/cgroup/memory.high",
            ]
        );
        assert_eq!(
            shown(
                "9:name=systemd:/x\n4:memory:/oa\n1:cpu,cpuacct:/y\n0::/\n",
                V1
            ),
            [
                "/sys/fs/cgroup/memory/oa/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            ]
        );
    }

    #[test]
    fn on_a_machine_with_both_versions_both_are_looked_at() {
        let both = format!("{V1}41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
        let files = shown("4:memory:/oa\n0::/b\n", &both);
        for file in [
            "/sys/fs/cgroup/memory/oa/memory.limit_in_bytes",
            "/sys/fs/cgroup/unified/b/memory.max",
        ] {
            assert!(files.contains(&file.to_owned()), "{files:?}");
        }
    }

    #[test]
    fn a_container_sees_its_own_group_as_the_root() {
        let bound = V1.replacen(" / ", " /docker/4711 ", 1);
        let own = ["/sys/fs/cgroup/memory/memory.limit_in_bytes"];
        assert_eq!(shown("4:memory:/docker/4711\n", &bound), own);
        assert_eq!(shown("4:memory:/\n", V1), own);
        assert_eq!(shown("4:memory:/../../elsewhere\n", V1), own);
        assert_eq!(shown("4:memory:/elsewhere\n", &bound), own);
        assert_eq!(shown("", V1), own);
    }

    #[test]
    fn what_is_no_mount_of_groups_is_passed_over() {
        let other = "24 30 0:22 / /proc rw shared:5 - proc proc rw\nnonsense\n\n";
        assert_eq!(shown("0::/a\n", other), Vec::<String>::new());
    }
}
