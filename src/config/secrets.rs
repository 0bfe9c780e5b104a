//! The secrets. They come from the configuration, else from a file, else the first start writes random ones. With a store, the
//! store keeps them and no file does.
//!
//! There is no default secret. The file is created whole, with mode 0600, and synced before it is used. A file that
//! everybody on the machine may read, write or run is refused. A file that its group may read or write is used, and the
//! start logs this: Kubernetes mounts Secrets, and the volumes of a pod with `fsGroup`, with such modes and no stricter
//! ones. Rotation: move the old `token_key` to `token_key_previous`, set a new `token_key`, and restart. Tokens of both
//! keys verify until the old line is removed.
//!
//! `webpush_key.rs` keeps its file in the same way.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{Auth, Config, check, check_auth::check_auth, sources::without_byte_order_mark};

/// Name of the secrets file in the data directory.
pub const SECRETS_FILE: &str = "secrets.toml";

/// Permission bits of a file's group.
const GROUP: u32 = 0o070;
/// Permission bits of everybody else.
const OTHERS: u32 = 0o007;

/// Why the secrets cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// The file is missing, and this command does not write it.
    #[error(
        "{} is missing: start the gateway once, or give auth.secret and auth.token_key", .0.display()
    )]
    Missing(PathBuf),
    /// Everybody on the machine may read or write the file.
    #[error(
        "{} has mode {mode:o}, so everybody on this machine may use it: chmod 600 it (in Kubernetes: defaultMode: 0440 for \
         the Secret), or give auth.secret and auth.token_key by the environment where the volume has no modes; change the \
         secrets if anyone read them", path.display()
    )]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A directory stands where the file should be. Docker makes one where a mounted file is missing.
    #[error(
        "{} is a directory: auth.secrets_file names the file itself; a container gets a directory where the mounted file is \
         missing on the host", .0.display()
    )]
    Directory(PathBuf),
    /// The file belongs to another user.
    #[error(
        "{} may not be read by the user of this process: make it that user's (chown), or readable by a group of that user's \
         (chmod 440; in Kubernetes: fsGroup)", .0.display()
    )]
    Denied(PathBuf),
    /// Reading or writing failed.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The operating system's error.
        error: io::Error,
    },
    /// The file has not the form that this module writes. The parser's text would show secrets, so the error names only the
    /// line.
    #[error("{} line {line}: expected secret, token_key and optionally token_key_previous, each a text in quotes", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line number, from 1.
        line: usize,
    },
    /// The file of the key of Web Push holds no such key.
    #[error(
        "{} holds no private key on P-256 in PEM: restore it, or remove it and start again; without the old key every browser \
         has to subscribe anew", .0.display()
    )]
    NoKey(PathBuf),
    /// The store has secrets of another form.
    #[error(
        "the table secret of the store has not what a gateway wrote there: restore its rows, or remove them and have new ones \
         made; new ones make all tokens invalid, and every browser has to subscribe anew"
    )]
    InStore,
    /// A secret in it is too short or too long.
    #[error("{}: {invalid}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The rule it breaks.
        invalid: check::Invalid,
    },
}

/// The content of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Secrets {
    secret: String,
    token_key: String,
    #[serde(default)]
    token_key_previous: String,
}

impl Config {
    /// The path of the secrets file.
    pub fn secrets_path(&self) -> PathBuf {
        if self.auth.secrets_file.as_os_str().is_empty() {
            self.log.dir.join(SECRETS_FILE)
        } else {
            self.auth.secrets_file.clone()
        }
    }

    /// True if the store keeps the secrets: the log is there, and the configuration gives neither them nor a file of them.
    pub fn has_secrets_in_store(&self) -> bool {
        let has_file = !self.auth.secrets_file.as_os_str().is_empty();
        self.log.store.url().is_some() && !has_file && !self.auth.has_secrets()
    }

    /// The text that the store keeps if it has no secrets yet: that of the data directory's file, else random ones.
    pub fn offered_secrets(&self) -> Result<String, SecretsError> {
        offered(&self.secrets_path(), random_secrets)
    }

    /// Fills the secrets that are not configured from the text that the store keeps.
    pub fn take_secrets(&mut self, text: &str) -> Result<(), SecretsError> {
        let secrets = toml::from_str(without_byte_order_mark(text));
        self.auth.fill(secrets.map_err(|_| SecretsError::InStore)?);
        check_auth(&self.auth).map_err(|_| SecretsError::InStore)
    }

    /// Fills the secrets that are not configured from the secrets file. Returns true if the file's group may use it as
    /// well.
    pub fn read_secrets(&mut self) -> Result<bool, SecretsError> {
        if self.auth.has_secrets() {
            return Ok(false);
        }
        let path = self.secrets_path();
        let (secrets, mode) = read(&path)?;
        self.auth.fill(secrets);
        check_auth(&self.auth).map_err(|invalid| SecretsError::Invalid { path, invalid })?;
        Ok(mode & GROUP != 0)
    }

    /// Like [`Self::read_secrets`]. The first start also writes random secrets to the data directory, and creates it if
    /// missing. An `auth.secrets_file` that is configured but missing is an error, because the operator meant it to exist.
    pub fn read_or_create_secrets(&mut self) -> Result<bool, SecretsError> {
        let is_ours = self.auth.secrets_file.as_os_str().is_empty();
        if is_ours && !self.auth.has_secrets() {
            create(&self.log.dir, &self.secrets_path(), random_secrets)?;
        }
        self.read_secrets()
    }
}

impl Auth {
    fn has_secrets(&self) -> bool {
        !self.secret.is_empty() && !self.token_key.is_empty()
    }

    fn fill(&mut self, file: Secrets) {
        let fill = |given: &mut String, from_file| {
            if given.is_empty() {
                *given = from_file;
            }
        };
        fill(&mut self.secret, file.secret);
        fill(&mut self.token_key, file.token_key);
        fill(&mut self.token_key_previous, file.token_key_previous);
    }
}

/// The secrets, and the permission bits of the file.
fn read(path: &Path) -> Result<(Secrets, u32), SecretsError> {
    let (text, mode) = read_private(path)?;
    let text = without_byte_order_mark(&text);
    let secrets = toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start.min(text.len()));
        SecretsError::Malformed {
            path: path.to_owned(),
            line: text.as_bytes()[..start]
                .iter()
                .filter(|b| **b == b'\n')
                .count()
                + 1,
        }
    })?;
    Ok((secrets, mode))
}

/// The text of a file that not everybody may use, and its permission bits.
pub(super) fn read_private(path: &Path) -> Result<(String, u32), SecretsError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => SecretsError::Missing(path.to_owned()),
        io::ErrorKind::PermissionDenied => SecretsError::Denied(path.to_owned()),
        _ => SecretsError::Io {
            path: path.to_owned(),
            error,
        },
    };
    let mut file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(SecretsError::Directory(path.to_owned()));
    }
    let mode = metadata.mode() & 0o777;
    if mode & OTHERS != 0 {
        return Err(SecretsError::TooOpen {
            path: path.to_owned(),
            mode,
        });
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(failed)?;
    Ok((text, mode))
}

/// The text of the file if there is one, else a random one.
pub(super) fn offered(
    path: &Path,
    random: impl FnOnce() -> String,
) -> Result<String, SecretsError> {
    match read_private(path) {
        Ok((text, _)) => Ok(text),
        Err(SecretsError::Missing(_)) => Ok(random()),
        Err(error) => Err(error),
    }
}

/// Writes random secrets unless the file exists. The file appears whole or not at all: it gets its name only after a sync,
/// by a link. Unlike a rename, a link fails if another start was faster.
pub(super) fn create(
    dir: &Path,
    path: &Path,
    random: impl FnOnce() -> String,
) -> Result<(), SecretsError> {
    let failed = |error| SecretsError::Io {
        path: path.to_owned(),
        error,
    };
    if path.try_exists().map_err(failed)? {
        return Ok(());
    }
    // The directory will hold all users' messages, so only its owner may look into it.
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(dir).map_err(failed)?;

    let draft = path.with_extension(format!("{}.new", std::process::id()));
    let written = write_synced(&draft, &random())
        .and_then(|()| name(&draft, path, fs::hard_link(&draft, path)));
    // A draft left behind by a crash has another process id in its name, and does no harm.
    let removed = match fs::remove_file(&draft) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    };
    written.and(removed).map_err(failed)?;
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(failed)
}

/// Completes the naming of a draft after the attempt to link it. Volumes without links (FAT, SMB, object stores) use a
/// rename.
fn name(draft: &Path, path: &Path, linked: io::Result<()>) -> io::Result<()> {
    let Err(error) = linked else { return Ok(()) };
    match error.kind() {
        io::ErrorKind::AlreadyExists => Ok(()),
        io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied => fs::rename(draft, path),
        _ => Err(error),
    }
}

fn write_synced(draft: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn random_secrets() -> String {
    // Version 4 UUIDs: 122 bits each from the operating system's generator.
    let random = || uuid::Uuid::new_v4().simple().to_string();
    format!(
        "# Random, written by the gateway's first start. Keep this file from others.\n\
         # What /auth/user_token asks for:\n\
         secret = \"{}\"\n\
         # Signs tokens. To rotate: move this value to token_key_previous, put a new one here, restart.\n\
         token_key = \"{}{}\"\n",
        random(),
        random(),
        random(),
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn config_in(dir: &Path) -> Config {
        let mut config = Config::default();
        config.log.dir = dir.to_owned();
        config
    }

    #[test]
    fn the_first_start_writes_secrets_and_the_second_finds_them() {
        let temp = tempfile::tempdir().unwrap();
        let mut first = config_in(&temp.path().join("data"));
        first.read_or_create_secrets().unwrap();
        let mode = fs::metadata(first.secrets_path()).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(first.auth.secret.len() >= 32 && first.auth.token_key.len() >= 64);

        let mut second = config_in(&first.log.dir);
        second.read_or_create_secrets().unwrap();
        assert!(second.auth == first.auth);
        assert_eq!(
            fs::read_dir(&first.log.dir).unwrap().count(),
            1,
            "no draft stays"
        );
    }

    #[test]
    fn two_first_starts_never_share_a_secret() {
        let temp = tempfile::tempdir().unwrap();
        let [mut one, mut two] = ["one", "two"].map(|name| config_in(&temp.path().join(name)));
        one.read_or_create_secrets().unwrap();
        two.read_or_create_secrets().unwrap();
        assert!(one.auth.secret != two.auth.secret && one.auth.token_key != two.auth.token_key);
    }

    #[test]
    fn configured_secrets_win_and_need_no_file() {
        let temp = tempfile::tempdir().unwrap();
        let mut config = config_in(temp.path());
        config.auth.secret = "given-secret".into();
        config.auth.token_key = "given-key-of-some-length".into();
        config.read_or_create_secrets().unwrap();
        assert_eq!(config.auth.secret, "given-secret");
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_everybody_may_use_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let mut config = config_in(temp.path());
        config.read_or_create_secrets().unwrap();
        for open in [0o604, 0o602, 0o644, 0o666, 0o777] {
            fs::set_permissions(config.secrets_path(), fs::Permissions::from_mode(open)).unwrap();
            let refused = config_in(temp.path()).read_or_create_secrets();
            assert!(matches!(refused, Err(SecretsError::TooOpen { mode, .. }) if mode == open));
        }
    }

    /// Kubernetes gives each file of a volume to the pod's group, readable and writable; files of a Secret only readable.
    #[test]
    fn a_file_that_its_group_may_use_is_used_and_told_of() {
        let temp = tempfile::tempdir().unwrap();
        let mut first = config_in(temp.path());
        assert!(!first.read_or_create_secrets().unwrap());
        for mounted in [0o660, 0o640, 0o440, 0o460] {
            fs::set_permissions(first.secrets_path(), fs::Permissions::from_mode(mounted)).unwrap();
            let mut second = config_in(temp.path());
            assert!(second.read_or_create_secrets().unwrap(), "{mounted:o}");
            assert!(second.auth == first.auth);
        }
        fs::set_permissions(first.secrets_path(), fs::Permissions::from_mode(0o400)).unwrap();
        assert!(!config_in(temp.path()).read_secrets().unwrap());
    }

    #[test]
    fn a_volume_without_links_holds_secrets_too() {
        let temp = tempfile::tempdir().unwrap();
        let [draft, path] = ["draft", "secrets"].map(|name| temp.path().join(name));
        fs::write(&draft, "whole").unwrap();
        name(&draft, &path, Err(io::ErrorKind::Unsupported.into())).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole");
        fs::write(&draft, "later").unwrap();
        name(&draft, &path, Err(io::ErrorKind::AlreadyExists.into())).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole");
        name(&draft, &path, Err(io::ErrorKind::StorageFull.into())).unwrap_err();
    }

    #[test]
    fn a_broken_file_is_refused_by_line_without_showing_it() {
        let temp = tempfile::tempdir().unwrap();
        let mut config = config_in(temp.path());
        config.read_or_create_secrets().unwrap();
        fs::write(
            config.secrets_path(),
            "secret = \"abcdefgh\"\ntoken_key = hidden\n",
        )
        .unwrap();
        let error = config_in(temp.path()).read_secrets().unwrap_err();
        assert!(
            matches!(error, SecretsError::Malformed { line: 2, .. }),
            "{error}"
        );
        assert!(!error.to_string().contains("hidden"));
    }

    #[test]
    fn a_byte_order_mark_in_front_is_passed_over() {
        let temp = tempfile::tempdir().unwrap();
        let mut config = config_in(temp.path());
        config.read_or_create_secrets().unwrap();
        let text = fs::read_to_string(config.secrets_path()).unwrap();
        fs::write(config.secrets_path(), format!("\u{feff}{text}")).unwrap();
        let mut again = config_in(temp.path());
        again.read_secrets().unwrap();
        assert!(again.auth == config.auth);
    }

    #[test]
    fn a_named_file_that_is_missing_is_not_invented() {
        let temp = tempfile::tempdir().unwrap();
        let mut config = config_in(temp.path());
        config.auth.secrets_file = temp.path().join("elsewhere.toml");
        let refused = config.read_or_create_secrets();
        assert!(matches!(refused, Err(SecretsError::Missing(_))));
    }

    #[test]
    fn a_directory_in_the_files_place_is_called_one() {
        let temp = tempfile::tempdir().unwrap();
        let mut config = config_in(temp.path());
        config.auth.secrets_file = temp.path().join("mounted");
        fs::create_dir(&config.auth.secrets_file).unwrap();
        let error = config.read_or_create_secrets().unwrap_err();
        assert!(matches!(error, SecretsError::Directory(_)));
        assert!(error.to_string().contains("is a directory"), "{error}");
    }

    #[test]
    fn no_print_shows_a_secret() {
        let temp = tempfile::tempdir().unwrap();
        let mut config = config_in(temp.path());
        config.read_or_create_secrets().unwrap();
        for print in [toml::to_string(&config).unwrap(), format!("{config:?}")] {
            assert!(!print.contains(&config.auth.secret), "{print}");
            assert!(!print.contains(&config.auth.token_key), "{print}");
        }
    }
}
