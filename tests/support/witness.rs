//! An honest client beside hostile ones.

use super::{Client, Gateway, WEB, admin::Admin, notice, text_of};

/// An honest client that must not notice anything.
pub(crate) struct Witness {
    pub(crate) client: Client,
    pub(crate) admin: Admin,
}

impl Witness {
    pub(crate) async fn of(gateway: &Gateway) -> Self {
        Self {
            client: gateway.connect("witness", WEB).await,
            admin: gateway.admin().await,
        }
    }

    pub(crate) async fn is_undisturbed(&mut self, by: &str) {
        self.admin.send(&notice("witness", by)).await;
        let message = self.client.expect_push().await;
        assert_eq!(text_of(&message), by);
        self.client.ack(message.seq).await;
    }
}
