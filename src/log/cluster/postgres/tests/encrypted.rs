//! Encrypted connections to a server.

use super::{
    super::link::{Servers, StoreSession},
    server::Server,
};

/// True if a connection by this URL is encrypted.
async fn is_encrypted(url: &str) -> Result<bool, String> {
    let servers = Servers::new(url).map_err(|error| error.to_string())?;
    let session = StoreSession::open(&servers).await;
    let session = session.map_err(|error| error.to_string())?;
    let text = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let rows = session.query(text, &[]).await.unwrap();
    Ok(rows[0].get(0))
}

#[tokio::test]
async fn a_certificate_is_checked_as_the_url_says() {
    let Some((port, file)) = Server::with_certificate().await else {
        return;
    };
    let file = file.display();
    let other = tempfile::NamedTempFile::new().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(other.path(), made.cert.pem()).unwrap();
    let other = other.path().display();
    let open = async |host: &str, query: &str| {
        let url = format!("postgres://towncrier@{host}:{port}/prepared?{query}");
        is_encrypted(&url).await
    };
    assert_eq!(open("localhost", "sslmode=disable").await, Ok(false));
    for (host, query) in [
        ("localhost", "".to_owned()),
        ("127.0.0.1", "sslmode=require".to_owned()),
        (
            "localhost",
            format!("sslmode=verify-full&sslrootcert={file}"),
        ),
        ("127.0.0.1", format!("sslmode=verify-ca&sslrootcert={file}")),
    ] {
        assert_eq!(open(host, &query).await, Ok(true), "{host} {query}");
    }
    for (host, query) in [
        (
            "127.0.0.1",
            format!("sslmode=verify-full&sslrootcert={file}"),
        ),
        ("localhost", "sslmode=verify-full".to_owned()),
        (
            "localhost",
            format!("sslmode=verify-ca&sslrootcert={other}"),
        ),
        ("localhost", format!("sslmode=require&sslrootcert={other}")),
    ] {
        let refused = open(host, &query).await;
        let refused = refused.expect_err(&query);
        assert!(refused.contains("certificate"), "{host} {query}: {refused}");
    }
}
