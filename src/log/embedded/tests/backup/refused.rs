//! A directory that is no place for a backup is refused, and a damaged backup is refused by the name of its file.

use std::{fs, os::unix::fs::PermissionsExt as _};

use super::*;
use crate::log::embedded::backup::{
    RestoreError,
    destination::Destination,
    fault::BackupFault,
    restore_and_erase,
    take::{BACKUP_FREE_BYTES_MIN, take},
};

fn refusal(bench: &Bench, dir: &Path) -> String {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let id = CALLS.fetch_add(1, Relaxed).to_string();
    match bench.back_up(&id, dir) {
        BackupState::Refused(text) => text.to_string(),
        state => panic!("{}: {state:?}", dir.display()),
    }
}

#[test]
fn a_directory_that_is_no_place_for_a_backup_is_refused_and_left_alone() {
    let bench = Bench::new();
    bench.send(&["u1"], "one");
    let shelf = Shelf::new();
    let data = bench.dir.path();
    let at = |name: &str| shelf.temp.path().join(name);
    assert!(refusal(&bench, Path::new("backups")).contains("not an absolute path"));
    for within in [
        data.join("backups"),
        data.into(),
        data.parent().unwrap().into(),
    ] {
        assert!(
            refusal(&bench, &within).contains("within each other"),
            "{}",
            within.display()
        );
    }
    fs::write(at("file"), "").unwrap();
    assert!(refusal(&bench, &at("file")).contains("is not a directory"));
    let make = |name: &str, mode| {
        fs::create_dir(at(name)).unwrap();
        fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    make("open", 0o750);
    assert!(refusal(&bench, &at("open")).contains("has mode 750"));
    make("used", 0o700);
    fs::write(at("used").join("diary.txt"), "").unwrap();
    assert!(refusal(&bench, &at("used")).contains("\"diary.txt\""));
    assert_eq!(fs::read_dir(at("used")).unwrap().count(), 1);
    // A link to a place that is refused is one as well.
    std::os::unix::fs::symlink(data, at("link")).unwrap();
    assert!(refusal(&bench, &at("link")).contains("within each other"));
    match bench.back_up("no parent", &at("missing").join("backup")) {
        BackupState::Failed(text) => assert!(text.contains("missing"), "{text}"),
        state => panic!("{state:?}"),
    }
}

#[test]
fn a_backup_of_another_log_or_epoch_is_never_mixed_with_this_one() {
    let bench = Bench::new();
    let shelf = Shelf::new();
    bench.backed_up("one", &shelf.backup());
    let before = fs::read(shelf.backup().join("manifest")).unwrap();
    let other = Bench::new();
    other.send(&["u1"], "one");
    assert!(refusal(&other, &shelf.backup()).contains("a backup of another log"));
    assert_eq!(fs::read(shelf.backup().join("manifest")).unwrap(), before);
    fs::write(shelf.backup().join("manifest"), "towncrier backup 2\n").unwrap();
    assert!(refusal(&bench, &shelf.backup()).contains("a later version"));
    fs::write(shelf.backup().join("manifest"), "no manifest").unwrap();
    assert!(refusal(&bench, &shelf.backup()).contains("\"manifest\""));
}

#[test]
fn a_log_that_went_back_to_an_earlier_state_is_refused() {
    let bench = Bench::new();
    let shelf = Shelf::new();
    let earlier = bench.disk.after_power_cut();
    bench.send(&["u1"], "one");
    bench.backed_up("one", &shelf.backup());
    let bench = bench.reopen(|_| earlier, false);
    assert!(refusal(&bench, &shelf.backup()).contains("an older copy"));
}

#[test]
fn a_damaged_log_makes_no_backup_and_the_one_before_stays() {
    let bench = Bench::with(|limits| limits.segment_bytes = 4096);
    let mut shelf = Shelf::new();
    bench.send(&["u1"], "one");
    bench.backed_up("one", &shelf.backup());
    for _ in 0..20 {
        bench.send(&["u1"], &"x".repeat(300));
    }
    let sealed = bench.disk.segments().remove(1);
    bench.disk.files.lock().unwrap()[&sealed]
        .live
        .lock()
        .unwrap()[1000] ^= 1;
    match bench.back_up("two", &shelf.backup()) {
        BackupState::Failed(text) => assert!(text.contains(&sealed), "{text}"),
        state => panic!("{state:?}"),
    }
    assert_eq!(bodies_of(&shelf.open()).len(), 1);
}

#[test]
fn a_disk_without_room_takes_no_backup() {
    let bench = Bench::new();
    bench.send(&["u1"], "one");
    let full = Arc::new(TestDisk::default());
    full.faults.is_nearly_full.store(true, Relaxed);
    let destination = Destination {
        root: full.clone(),
        segments: full.clone(),
    };
    let cut = bench.log.core.cut().unwrap();
    let taken = take(&cut, &destination, &mut |_| Ok(()));
    let Err(BackupFault::NoSpace { free: 1, kept, .. }) = taken else {
        panic!("{taken:?}");
    };
    assert_eq!(kept, BACKUP_FREE_BYTES_MIN);
    assert!(full.list().unwrap().is_empty());
}

/// A backup of several segments, and the names of its files.
fn backup(shelf: &Shelf) -> (Bench, Vec<PathBuf>) {
    let bench = Bench::with(|limits| limits.segment_bytes = 4096);
    for number in 0..40 {
        bench.send(&["u1"], &format!("{number}{}", "x".repeat(300)));
    }
    bench.backed_up("whole", &shelf.backup());
    let segments = shelf.segments().into_iter();
    let files = segments.map(|name| shelf.backup().join("segments").join(name));
    let files = files.chain([shelf.backup().join("manifest")]).collect();
    (bench, files)
}

#[test]
fn a_damaged_backup_is_refused_by_the_name_of_its_file() {
    let mut shelf = Shelf::new();
    let (_bench, files) = backup(&shelf);
    let mut random = fastrand::Rng::with_seed(16);
    for file in &files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let whole = fs::read(file).unwrap();
        let mut flipped = whole.clone();
        flipped[random.usize(..whole.len())] ^= 1 << random.u8(..8);
        let cut = whole[..random.usize(..whole.len())].to_vec();
        for bytes in [Some(flipped), Some(cut), None] {
            match bytes {
                Some(bytes) => fs::write(file, bytes).unwrap(),
                None => fs::remove_file(file).unwrap(),
            }
            let place = shelf.place();
            let refused = restore(&shelf.backup(), &place, START_MS).unwrap_err();
            assert!(refused.to_string().contains(name), "{refused}");
            assert!(!place.join("log").exists(), "{refused}");
            fs::write(file, &whole).unwrap();
        }
    }
    assert_eq!(bodies_of(&shelf.open()).len(), 40);
}

#[test]
fn a_file_of_the_backup_that_was_damaged_is_copied_again_by_the_next_one() {
    let mut shelf = Shelf::new();
    let (bench, files) = backup(&shelf);
    for (number, file) in files[..3].iter().enumerate() {
        let whole = fs::read(file).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        match number {
            0 => fs::write(file, flipped).unwrap(),
            1 => fs::write(file, &whole[..whole.len() / 2]).unwrap(),
            _ => fs::remove_file(file).unwrap(),
        }
        let report = bench.backed_up(&number.to_string(), &shelf.backup());
        assert_eq!(report.copied_bytes, whole.len() as u64);
        assert_eq!(fs::read(file).unwrap(), whole);
    }
    assert_eq!(bodies_of(&shelf.open()).len(), 40);
}

#[test]
fn a_backup_goes_only_to_an_empty_place_and_keys_may_be_there() {
    let mut shelf = Shelf::new();
    let (_bench, _) = backup(&shelf);
    let place = shelf.place();
    fs::create_dir(&place).unwrap();
    for key in ["secrets.toml", "webpush_key.pem"] {
        fs::write(place.join(key), "key").unwrap();
    }
    fs::write(place.join("something"), "").unwrap();
    let refused = restore(&shelf.backup(), &place, START_MS).unwrap_err();
    assert!(matches!(&refused, RestoreError::NotEmpty { name, .. } if name == "something"));
    fs::remove_file(place.join("something")).unwrap();
    restore(&shelf.backup(), &place, START_MS).unwrap();
    assert_eq!(
        fs::read_to_string(place.join("secrets.toml")).unwrap(),
        "key"
    );
    // The place holds a log now, and another restore would destroy it.
    let refused = restore(&shelf.backup(), &place, START_MS).unwrap_err();
    assert!(
        matches!(refused, RestoreError::NotEmpty { .. }),
        "{refused}"
    );
    let log = open_directory(&place).unwrap();
    let refused = restore(&shelf.backup(), &place, START_MS).unwrap_err();
    assert!(
        matches!(refused, RestoreError::Open(OpenError::InUse(_))),
        "{refused}"
    );
    drop(log);
    let modes = [place.clone(), place.join("log")]
        .map(|dir| fs::metadata(dir).unwrap().permissions().mode() & 0o777);
    assert_eq!(modes[1], 0o700, "{modes:?}");
    for entry in fs::read_dir(place.join("log")).unwrap() {
        assert_eq!(
            entry.unwrap().metadata().unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    let none = restore(shelf.temp.path(), &shelf.temp.path().join("new"), START_MS);
    assert!(matches!(none, Err(RestoreError::NoBackup(_))));
    assert!(!shelf.temp.path().join("new").exists());
}

#[test]
fn a_restore_that_could_not_erase_keeps_gateways_away_and_begins_anew() {
    let bench = Bench::new();
    let mut shelf = Shelf::new();
    bench.send(&["u1"], "one");
    bench.backed_up("one", &shelf.backup());
    bench.machine.advance(1000);
    let pending = bench.log.erase(user("u1"), START_MS).unwrap();
    pending.blocking_recv().unwrap().unwrap();
    let list = bench.log.core.erasures().unwrap();
    let place = shelf.place();
    let with = |format: u8| {
        let limits = config::Log {
            dir: place.clone(),
            format,
            ..config::Log::default()
        };
        restore_and_erase(&shelf.backup(), &limits, &list, Manual::new().clock())
    };
    let newest = config::Log::default().format;
    with(3).unwrap_err();
    let kept_away = open_directory(&place).err();
    assert!(
        matches!(kept_away, Some(OpenError::Restoring(_))),
        "{kept_away:?}"
    );
    assert_eq!(with(newest).unwrap().1, 1);
    assert!(bodies_of(&open_directory(&place).unwrap()).is_empty());
    assert!(matches!(with(newest), Err(RestoreError::NotEmpty { .. })));
}

#[test]
fn a_backup_follows_no_link_within_its_directory() {
    let bench = Bench::new();
    let shelf = Shelf::new();
    let elsewhere = shelf.temp.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    bench.backed_up("one", &shelf.backup());
    let segments = shelf.backup().join("segments");
    fs::remove_dir_all(&segments).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &segments).unwrap();
    assert!(refusal(&bench, &shelf.backup()).contains("is not a directory"));
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    fs::remove_file(&segments).unwrap();
    let file = shelf.temp.path().join("file");
    fs::write(&file, "mine").unwrap();
    std::os::unix::fs::symlink(&file, shelf.backup().join("erased.new")).unwrap();
    let state = bench.back_up("two", &shelf.backup());
    assert!(matches!(&state, BackupState::Failed(_)), "{state:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
}
