//! One call to a vendor.

use std::sync::Arc;

use super::{
    forget::is_erased,
    line::TaskBatch,
    underway::CallsUnderway,
    vendor::{Notice, Outcome, Vendor},
};
use crate::{log::Log, message::Device};

/// A call that is to be made.
pub(super) struct VendorCall {
    pub(super) batch: TaskBatch,
    pub(super) notice: Notice,
    pub(super) devices: Vec<Device>,
    pub(super) log: Arc<dyn Log>,
    pub(super) underway: Arc<CallsUnderway>,
}

impl VendorCall {
    /// Makes the call. Cancel safe: after a drop the devices may have got the notice, and their tasks are still there.
    pub(super) async fn make(&self, vendor: &dyn Vendor) -> Vec<Outcome> {
        let tasks = self.batch.tasks.iter().map(|(_, task)| task);
        let _underway = self
            .underway
            .begin(tasks.clone().map(|task| task.user.clone()).collect());
        // An erasure from here on waits for the end of the call.
        for task in tasks {
            let is_erased = is_erased(&*self.log, &task.user, task.seq).await;
            if is_erased.unwrap_or(true) {
                return self.batch.tasks.iter().map(|_| put_off()).collect();
            }
        }
        vendor.push(&self.notice, &self.devices).await
    }
}

/// The outcome of a call that was not made.
fn put_off() -> Outcome {
    Outcome::Later {
        retry_after: None,
        reason: "a receiver was erased".into(),
    }
}
