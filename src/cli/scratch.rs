//! A temporary directory in the data directory, for the trials of a command. It is on the disk of the log, but not in the
//! log.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// A new directory within another one. Dropping it removes the directory, its content, and the parent directories that were
/// created for it. Only kill -9 leaves it behind, recognisable by its name.
pub(super) struct Scratch {
    path: PathBuf,
    /// Parent directories that were created for it, the deepest first.
    made: Vec<PathBuf>,
}

impl Scratch {
    /// Creates one in `dir`. Creates `dir`, too, if it is missing.
    pub(super) fn make(dir: &Path, name: &str) -> io::Result<Self> {
        let is_missing = |dir: &&Path| !dir.as_os_str().is_empty() && !dir.exists();
        let missing = dir.ancestors().take_while(is_missing);
        // From here on, every return removes the directories created so far.
        let scratch = Self {
            path: dir.join(format!("{name}-{}", std::process::id())),
            made: missing.map(Path::to_owned).collect(),
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&scratch.path)?;
        Ok(scratch)
    }

    /// The path of the directory.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.path.is_dir()
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "the temporary directory cannot be removed");
        }
        for made in &self.made {
            // This fails if the directory was not created, or if it is in use by now; then it stays.
            let _ = fs::remove_dir(made);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_away_what_it_made_and_nothing_else() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("deep/data");
        let scratch = Scratch::make(&dir, "test").unwrap();
        fs::create_dir(scratch.path().join("log")).unwrap();
        fs::write(scratch.path().join("log/segment"), b"x").unwrap();
        drop(scratch);
        assert_eq!(temp.path().read_dir().unwrap().count(), 0);

        fs::create_dir_all(&dir).unwrap();
        drop(Scratch::make(&dir, "test").unwrap());
        assert_eq!(dir.read_dir().unwrap().count(), 0);

        // A gateway that started in the meantime keeps its directory.
        fs::remove_dir(&dir).unwrap();
        let scratch = Scratch::make(&dir, "test").unwrap();
        fs::write(dir.join("epoch"), b"x").unwrap();
        drop(scratch);
        assert_eq!(dir.read_dir().unwrap().count(), 1);
    }
}
