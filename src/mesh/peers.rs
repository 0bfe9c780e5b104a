//! A link to each other gateway of the fleet, as the view changes.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
};

use tokio::task::JoinSet;

use super::{MeshShared, MeshView, queue::LinkQueue, sender::LinkSender};
use crate::ids::GatewayId;

/// A link that the view asks for. When any part changes, it is another link.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct WantedLink {
    me: GatewayId,
    to: GatewayId,
    address: String,
}

impl WantedLink {
    fn of(view: MeshView) -> Vec<Self> {
        let MeshView { me, others } = view;
        let others = others.into_iter().filter(|(to, _)| *to != me);
        others
            .map(|(to, address)| Self { me, to, address })
            .collect()
    }
}

/// Keeps a link to each gateway of the view. Ends with the view's other end. Cancel safe: a drop closes the links.
pub(super) async fn follow(shared: Arc<MeshShared>) {
    let mut view = shared.view.clone();
    let mut links = HashMap::new();
    loop {
        let wanted = WantedLink::of(view.borrow_and_update().clone());
        // A dropped set aborts its task, and its link ends.
        links.retain(|link, _| wanted.contains(link));
        for link in wanted {
            let begin = |link: &WantedLink| begin(&shared, link);
            links.entry(link).or_insert_with_key(begin);
        }
        forget(&shared, |to| links.keys().any(|link| link.to == to));
        if view.changed().await.is_err() {
            return;
        }
    }
}

fn begin(shared: &Arc<MeshShared>, link: &WantedLink) -> JoinSet<()> {
    let queue = Arc::new(LinkQueue::new(shared.limits));
    let sender = LinkSender {
        shared: Arc::clone(shared),
        queue: queue.clone(),
        me: link.me,
        to: link.to,
        address: link.address.clone(),
    };
    let queues = shared.queues.write();
    let mut queues = queues.unwrap_or_else(PoisonError::into_inner);
    queues.insert(link.to, queue);
    let mut task = JoinSet::new();
    task.spawn(sender.run());
    task
}

/// Removes the queues of gateways that have gone.
fn forget(shared: &MeshShared, is_wanted: impl Fn(GatewayId) -> bool) {
    let queues = shared.queues.write();
    let mut queues = queues.unwrap_or_else(PoisonError::into_inner);
    queues.retain(|to, _| is_wanted(*to));
}
