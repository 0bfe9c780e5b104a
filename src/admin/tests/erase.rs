//! The erasure of a user over HTTP.

use serde_json::json;

use super::{Gateway, without};
use crate::ids::UserId;

#[tokio::test]
async fn an_administrator_erases_a_user_and_a_repeat_answers_the_same() {
    let gateway = Gateway::new();
    let user = UserId::new("u1").unwrap();
    let delivery = &gateway.delivery;
    delivery.register(user.clone(), "{}".into()).await.unwrap();
    let body = json!({ "operationID": "op", "userID": "u1" });
    let refused = gateway.post_as("u1", "/user/erase", &body).await;
    assert_eq!(refused.verdict(), (400, 400));
    for field in ["operationID", "userID"] {
        let refused = gateway
            .post("/user/erase", &without(body.clone(), field))
            .await;
        assert_eq!(refused.verdict(), (400, 400), "{field}");
    }
    assert!(delivery.profile(&user).await.unwrap().is_some());
    let erased = gateway.post("/user/erase", &body).await.data();
    assert!(erased["untilTime"].as_u64() > Some(0), "{erased}");
    assert_eq!(erased["connections"], 0);
    assert_eq!(delivery.profile(&user).await.unwrap(), None);
    assert_eq!(gateway.post("/user/erase", &body).await.data(), erased);
    delivery.start_draining();
    let refused = gateway.post("/user/erase", &body).await;
    assert_eq!(refused.verdict().0, 503);
}
