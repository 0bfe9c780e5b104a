//! The data directory belongs to one process and to its owner alone.

use super::*;

#[test]
fn a_directory_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let first = open_directory(dir.path()).unwrap();
    let second = open_directory(dir.path());
    assert!(matches!(second, Err(OpenError::InUse(_))));
    drop(first);
    open_directory(dir.path()).unwrap();
}

#[test]
fn a_new_directory_is_its_owners_alone_and_one_that_is_there_stays_as_it_is() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let mode = |dir: &Path| std::fs::metadata(dir).unwrap().permissions().mode() & 0o777;
    let new = parent.path().join("new");
    drop(open_directory(&new).unwrap());
    assert_eq!(mode(&new), 0o700);
    let shared = std::fs::Permissions::from_mode(0o750);
    std::fs::set_permissions(&new, shared).unwrap();
    drop(open_directory(&new).unwrap());
    assert_eq!(mode(&new), 0o750);
}
