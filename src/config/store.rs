//! Where the log is: in the data directory, or on the servers of a URL. No print shows the password of a URL.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// The text that stands for the data directory.
const EMBEDDED: &str = "embedded";

/// The place of the log.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct StoreAddress(String);

impl Default for StoreAddress {
    fn default() -> Self {
        Self(EMBEDDED.into())
    }
}

impl From<String> for StoreAddress {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl StoreAddress {
    /// The URL of the servers; `None` for the data directory.
    pub fn url(&self) -> Option<&str> {
        (self.0 != EMBEDDED).then_some(&*self.0)
    }

    /// True for the data directory, or a URL of PostgreSQL.
    pub(super) fn is_known(&self) -> bool {
        let is_postgres = |url: &str| {
            let schemes = ["postgres://", "postgresql://"];
            schemes.iter().any(|scheme| url.starts_with(scheme))
        };
        self.url().is_none_or(is_postgres)
    }

    /// The text without anything that may be a password.
    fn masked(&self) -> String {
        let Some((scheme, rest)) = self.0.split_once("://") else {
            return self.0.clone();
        };
        // A query may name a password as well.
        let (rest, query) = rest
            .split_once('?')
            .map_or((rest, ""), |(rest, _)| (rest, "?********"));
        let (user, hosts) = rest
            .rsplit_once('@')
            .map_or(("", rest), |(_, hosts)| ("********@", hosts));
        format!("{scheme}://{user}{hosts}{query}")
    }
}

impl fmt::Debug for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl Serialize for StoreAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.masked())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_print_shows_a_password() {
        for (url, shown) in [
            ("embedded", "embedded"),
            ("postgres://h/d", "postgres://h/d"),
            (
                "postgres://u:p@ss@h1:1,h2/d",
                "postgres://********@h1:1,h2/d",
            ),
            (
                "postgresql://h/d?user=u&password=p",
                "postgresql://h/d?********",
            ),
        ] {
            let address = StoreAddress::from(url.to_owned());
            assert_eq!(format!("{address:?}"), shown);
            assert!(address.is_known());
            let is_url = (url != "embedded").then_some(url);
            assert_eq!(address.url(), is_url);
        }
        assert!(!StoreAddress::from("mysql://h/d".to_owned()).is_known());
    }
}
