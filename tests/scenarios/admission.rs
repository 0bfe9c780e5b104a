//! P7 at the door: silence keeps nobody out.

use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::support::{Gateway, WEB, notice, text_of};

#[tokio::test]
async fn silence_on_the_admin_port_keeps_nobody_out() {
    let gateway = Gateway::start(&["admin.connections_max=8", "admin.idle_timeout=1h"]).await;
    let place = gateway.place();
    let mut admin = gateway.admin().await;
    let mut session = gateway.connect("alice", WEB).await;
    let mut silent = Vec::new();
    for number in 0..40 {
        let mut stream = TcpStream::connect(place.admin).await.unwrap();
        // Nothing, half a head, and a body that does not come.
        let said = match number % 3 {
            0 => "",
            1 => "POST /auth/user_token HTTP/1.1\r\nhost",
            _ => "POST /auth/user_token HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n",
        };
        stream.write_all(said.as_bytes()).await.unwrap();
        silent.push(stream);
        let mut newcomer = admin.another();
        assert_eq!(newcomer.get("/healthz").await.status, 200);
    }
    // A kept connection that was used meanwhile may have been cut off as well; its next request opens another.
    let _ = admin.call("GET", "/readyz", &[], "").await;
    admin.send(&notice("alice", "through")).await;
    assert_eq!(text_of(&session.expect_push().await), "through");
}
