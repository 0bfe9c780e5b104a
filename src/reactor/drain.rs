//! The drain of a reactor: every connection is told when to return, one after the other over the whole period. So neither
//! this process nor the next one meets all clients at once.

use std::{rc::Rc, time::Duration};

use tokio::time::{Instant, sleep, timeout};

use super::table::ConnectionTable;

/// The interval at which a share of the connections is told.
const STEP: Duration = Duration::from_millis(50);
/// The time for the last connections to close after they were told. It is shorter than the time for which a connection
/// lingers at other times, because supervisors are impatient: `docker stop` kills after 10 s.
pub const GRACE: Duration = Duration::from_secs(4);

/// Tells all connections over `period`. Returns when they are gone, or when their time is over. No new one may come.
pub(super) async fn drain(table: Rc<ConnectionTable>, period: Duration) {
    let started = Instant::now();
    let all = table.len();
    let mut told = 0;
    let mut position = None;
    while table.len() > 0 {
        // Read once, because a second reading may be beyond the period.
        let passed = started.elapsed();
        if passed >= period {
            break;
        }
        let due = (all as f64 * passed.div_duration_f64(period)) as usize;
        if due > told {
            let (handles, next) = table.after(position, due - told);
            for handle in &handles {
                handle.borrow_mut().drain(period - passed + jitter(period));
            }
            told = due;
            position = next;
        }
        sleep(STEP.min(period)).await;
    }
    // The connections that are left. Those that were told before ignore it.
    let (handles, _) = table.after(None, usize::MAX);
    for handle in &handles {
        handle.borrow_mut().drain(jitter(period));
    }
    drop(handles);
    let _ = timeout(GRACE, table.wait_empty()).await;
}

/// Clients return spread over as long a time as they were sent away, and not before a moment has passed.
fn jitter(period: Duration) -> Duration {
    const PAUSE: Duration = Duration::from_millis(500);
    PAUSE + period.mul_f64(fastrand::f64())
}
