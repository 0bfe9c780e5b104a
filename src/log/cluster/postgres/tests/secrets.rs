//! Gateways of one store share their secrets.

use std::path::Path;

use super::database;
use crate::{
    config::{Config, SECRETS_FILE},
    log::cluster::{
        postgres::PostgresEngine,
        secrets::{StoreSecretsError, make_secrets, read_secrets, webpush_key},
    },
};

fn config_in(dir: &Path) -> Config {
    let mut config = Config::default();
    config.log.dir = dir.to_owned();
    config.push.webpush.subject = "mailto:office@oa.example".into();
    config
}

#[tokio::test]
async fn a_second_gateway_needs_only_the_url_and_both_leave_nothing_on_their_disks() {
    let Some(database) = database().await else {
        return;
    };
    let url = database.url();
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let mut early = config_in(dirs[1].path());
    let missing = read_secrets(&url, &mut early).unwrap_err();
    assert!(matches!(missing, StoreSecretsError::Missing), "{missing}");
    let mut first = config_in(dirs[0].path());
    make_secrets(&url, &mut first).unwrap();
    assert!(first.auth.secret.len() >= 8 && first.auth.token_key.len() >= 32);
    let mut second = config_in(dirs[1].path());
    make_secrets(&url, &mut second).unwrap();
    assert!(second.auth == first.auth);
    read_secrets(&url, &mut early).unwrap();
    assert!(early.auth == first.auth);
    let keys = [&first, &second].map(|config| webpush_key(&url, config).unwrap().unwrap().public);
    assert_eq!(keys[0], keys[1]);
    let one = PostgresEngine::connect(&url).await.unwrap();
    let other = PostgresEngine::connect(&url).await.unwrap();
    let secret = one.mesh_secret().await.unwrap();
    assert_eq!(other.mesh_secret().await.unwrap(), secret);
    assert_ne!(secret, [0; 32]);
    for dir in dirs {
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn a_gateway_that_moves_to_a_store_brings_its_secrets_and_configured_ones_win() {
    let Some(database) = database().await else {
        return;
    };
    let url = database.url();
    let dir = tempfile::tempdir().unwrap();
    let mut before = config_in(dir.path());
    before.read_or_create_secrets().unwrap();
    let old_key = before.read_or_create_webpush_key().unwrap().unwrap();
    assert!(dir.path().join(SECRETS_FILE).exists());
    let mut moved = config_in(dir.path());
    make_secrets(&url, &mut moved).unwrap();
    assert!(moved.auth == before.auth);
    let key = webpush_key(&url, &moved).unwrap().unwrap();
    assert_eq!(key.public, old_key.public);
    let elsewhere = tempfile::tempdir().unwrap();
    let mut configured = config_in(elsewhere.path());
    configured.auth.secret = "given-secret".into();
    make_secrets(&url, &mut configured).unwrap();
    assert_eq!(configured.auth.secret, "given-secret");
    assert_eq!(configured.auth.token_key, before.auth.token_key);
    database
        .command("UPDATE secret SET value = 'token_key = hidden'")
        .await;
    let broken = make_secrets(&url, &mut config_in(elsewhere.path())).unwrap_err();
    assert!(!broken.to_string().contains("hidden"), "{broken}");
}
