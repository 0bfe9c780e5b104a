//! The forecast: from the measured facts to the expected sessions and messages. Pure.
//!
//! Each limit is calculated alone, as if there were no other. The smallest limit is the forecast. Numbers that this host
//! cannot give stand at the top: they were measured elsewhere, each with its source.

use serde::Serialize;

use super::{Cost, Facts, Host, SyncTime, trial::BATCH};
use crate::{
    config::Config,
    door::{self, SOCKET_BYTES, Shares, TooFew, memory_bytes_max_for},
    reactor,
};

/// User space of a session that has got and acked a message: `docs/measured.md#sessions`.
const SESSION_BYTES: u64 = 1_781;
/// User space of an idle session over TLS: `docs/measured.md#sessions`.
const TLS_SESSION_BYTES: u64 = 9_250;
/// The memory of a gateway without sessions, beside `log.cache_bytes`.
const GATEWAY_BYTES: u64 = 64 << 20;
/// The kernel charges whole pages to a socket on which a message is under way, and nothing to an idle one: measured with
/// 200,000 of them.
const UNDER_WAY_BYTES: u64 = 4096;
/// The part of `listener.send_buffer_bytes` that a client which stops reading uses in the kernel's send queue: 137 KB of
/// 65,536.
const STALLED: (u64, u64) = (137, 65);

/// Ratios for one kind of send, between the load rig's result and the trial's. Only processor times count. Single ones are
/// medians of three rounds of each in turn, `loadtest send --closed --lanes 64`; batches are of `loadtest send --users
/// 18000 --batch 100 --search` at the highest rate, with its data in memory.
struct Calibration {
    /// The receivers of a request.
    receivers: u64,
    /// The gateway's processor time for a message under the rig, divided by the trial's.
    gateway: f64,
    /// The rig's processor time for a message, divided by the gateway's.
    rig: f64,
}
/// 62 and 32 µs where the trial measured 63.
const SINGLE: Calibration = Calibration {
    receivers: 1,
    gateway: 1.0,
    rig: 0.52,
};
/// 23.7 and 22.9 µs where the trial measured 12.3. With many sessions at a steady rate, each wakes for one message; the few
/// sessions of the trial wake for several.
const BATCHES: Calibration = Calibration {
    receivers: BATCH as u64,
    gateway: 1.9,
    rig: 0.97,
};
/// The load of a core above which waits take the p99 to the limit of the search. Assumed, not measured.
const BUSY: f64 = 0.9;
/// The rig's connections that send, each with one send under way: its default.
const LANES: u64 = 256;
/// The p99, from send to landed, that the rig's search allows: its default.
const P99_US: u64 = 100_000;
/// A send waits for the sync that is under way when it comes, and for its own.
const SYNCS_OF_A_SEND: u64 = 2;

/// One limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// The name of the limited resource.
    pub what: String,
    /// The sessions, or messages a second, that this limit alone would allow.
    pub allows: u64,
    /// The command or setting that raises it, or another way.
    pub lift: String,
}

/// A forecast with its limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ceiling {
    /// The expected sessions, or messages a second: the smallest of the limits.
    pub expected: u64,
    /// The limits, the smallest first.
    pub limits: Vec<Limit>,
}

/// Durable messages a second, each landed and acked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MessageRates {
    /// With `loadtest send --search` on the same cores as the gateway.
    pub beside_rig: Ceiling,
    /// With all cores for the gateway, and callers and clients elsewhere.
    pub alone: Ceiling,
}

/// The forecast.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Forecast {
    /// Sessions that are connected at once.
    pub sessions: Ceiling,
    /// Messages with one request each.
    pub single: MessageRates,
    /// Messages in batches of 100.
    pub batches: MessageRates,
    /// Further facts, which limit neither.
    pub notes: Vec<String>,
}

/// The forecast for a gateway with this configuration and these facts. Fails if the gateway would not start.
pub fn forecast(config: &Config, facts: &Facts) -> Result<Forecast, TooFew> {
    let Facts { host, sync, costs } = facts;
    let messages = |cost, calibration| MessageRates {
        beside_rig: Ceiling::of(messages(host, *sync, cost, calibration, true)),
        alone: Ceiling::of(messages(host, *sync, cost, calibration, false)),
    };
    Ok(Forecast {
        sessions: sessions(config, host)?,
        single: messages(costs.single, &SINGLE),
        batches: messages(costs.batch, &BATCHES),
        notes: notes(config, host, *sync),
    })
}

impl Ceiling {
    fn of(mut limits: Vec<Limit>) -> Self {
        limits.sort_by_key(|limit| limit.allows);
        let expected = limits.first().map_or(0, |limit| limit.allows);
        Self { expected, limits }
    }
}

/// The advice raises each limit to what `listener.connections_max` asks for, and that setting itself to twice as many.
fn sessions(config: &Config, host: &Host) -> Result<Ceiling, TooFew> {
    let target = config.listener.connections_max as u64;
    let mut limits = vec![descriptors(config, host, target)?];
    limits.extend(memory(config, host, target));
    limits.extend(tcp_memory(host, target));
    limits.push(Limit {
        what: "listener.connections_max".into(),
        allows: target,
        lift: format!("listener.connections_max = {}", 2 * target),
    });
    Ok(Ceiling::of(limits))
}

fn descriptors(config: &Config, host: &Host, target: u64) -> Result<Limit, TooFew> {
    let reactors = reactor::count(&config.listener);
    let mut unlimited = config.clone();
    unlimited.listener.connections_max = usize::MAX;
    let shares = Shares::of(
        host.descriptors,
        host.descriptors_open,
        &unlimited,
        reactors,
    )?;
    let needed = Shares::limit_for(target, host.descriptors_open, config, reactors);
    let is_forbidden = host.descriptors_ceiling.is_some_and(|most| needed > most);
    Ok(Limit {
        what: format!("file descriptors, at most {}", host.descriptors),
        allows: shares.connections_max as u64,
        lift: match is_forbidden {
            true => format!("sysctl -w fs.nr_open={needed}, then LimitNOFILE={needed}"),
            false => format!("LimitNOFILE={needed}"),
        },
    })
}

fn memory(config: &Config, host: &Host, target: u64) -> Vec<Limit> {
    let is_plain = config.listener.tls_certificate.as_os_str().is_empty();
    let own = if is_plain {
        SESSION_BYTES
    } else {
        TLS_SESSION_BYTES
    };
    let each = own + SOCKET_BYTES;
    let beside = GATEWAY_BYTES + config.log.cache_bytes;
    let needed = beside.saturating_add(target.saturating_mul(each));
    let allows = |bytes: u64| bytes.saturating_sub(beside) / each;
    let mut limits = vec![Limit {
        what: "listener.memory_bytes_max".into(),
        allows: allows(host.memory_bytes_for_sessions),
        lift: format!(
            "listener.memory_bytes_max = {}",
            memory_bytes_max_for(needed)
        ),
    }];
    limits.extend(host.memory_bytes_available.map(|bytes| Limit {
        what: format!("free memory, {each} bytes each with the kernel's"),
        allows: allows(bytes),
        lift: format!("{} MiB of free memory", needed.div_ceil(1 << 20)),
    }));
    limits
}

/// For a message to all sessions at once, because idle sockets hold nothing.
fn tcp_memory(host: &Host, target: u64) -> Option<Limit> {
    let [.., most] = host.tcp_bytes?;
    let pages = (target * UNDER_WAY_BYTES).div_ceil(host.page_bytes);
    Some(Limit {
        what: "net.ipv4.tcp_mem, with a message to all at once".into(),
        allows: most / UNDER_WAY_BYTES,
        lift: format!(
            "sysctl -w net.ipv4.tcp_mem=\"{} {} {pages}\"",
            pages / 2,
            pages / 4 * 3
        ),
    })
}

fn messages(
    host: &Host,
    sync: SyncTime,
    cost: Cost,
    calibration: &Calibration,
    has_rig: bool,
) -> Vec<Limit> {
    let Calibration {
        receivers,
        gateway,
        rig,
    } = *calibration;
    let limit = |what: &str, allows: f64, lift: &str| Limit {
        what: what.into(),
        allows: allows as u64,
        lift: lift.into(),
    };
    // The rate of one busy core.
    let per_second = |cost_us: f64| BUSY * 1e6 / cost_us;
    let (gateway_us, cores) = (cost.gateway_us * gateway, host.cores as f64);
    let rig_us = gateway_us * rig;
    let larger = match receivers {
        1 => "POST /manager/batch_send_msg: many receivers a request",
        _ => "more receivers a request, or a faster core",
    };
    let mut limits = vec![
        limit(
            "the admin port's thread",
            per_second(cost.admin_us * gateway),
            larger,
        ),
        limit(
            "the log writer's thread",
            per_second(cost.writer_us * gateway),
            "a faster core",
        ),
    ];
    // A commit of batches takes as long as its bytes, and the limit of the writer's thread covers their cost.
    if receivers == 1 {
        limits.push(limit(
            &format!("syncs, {LANES} callers waiting for theirs"),
            1e6 * LANES as f64 / (SYNCS_OF_A_SEND * sync.p50_us.max(1)) as f64,
            "log.dir on a disk that syncs faster, or more callers at once",
        ));
    }
    if has_rig {
        limits.push(limit(
            &format!("{} cores, the rig's work included", host.cores),
            cores * per_second(gateway_us + rig_us),
            "the rig on another machine: loadtest --ws ws://… --admin http://…",
        ));
        limits.push(limit(
            "the rig's one process",
            per_second(rig_us),
            "loadtest --processes 2",
        ));
    } else {
        let what = format!("{} cores", host.cores);
        let lift = match receivers {
            1 => larger,
            _ => "more cores",
        };
        limits.push(limit(&what, cores * per_second(gateway_us), lift));
    }
    limits
}

fn notes(config: &Config, host: &Host, sync: SyncTime) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(somaxconn) = host
        .somaxconn
        .filter(|somaxconn| *somaxconn < door::BACKLOG.into())
    {
        let reactors = reactor::count(&config.listener);
        notes.push(format!(
            "{reactors} x {somaxconn} connects wait at once, more are tried again after a second: \
             sysctl -w net.core.somaxconn={backlog} net.ipv4.tcp_max_syn_backlog={backlog}",
            backlog = door::BACKLOG
        ));
    }
    if let Some(ports) = host.ports {
        notes.push(format!(
            "a load rig has {ports} ports for each address that it connects from; a gateway needs one: \
             sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\""
        ));
    }
    if let Some([.., most]) = host.tcp_bytes {
        let each = (config.listener.send_buffer_bytes as u64 * STALLED.0 / STALLED.1).max(1);
        notes.push(format!(
            "{} clients that read nothing for {:?} hold all of net.ipv4.tcp_mem: a smaller listener.send_buffer_bytes",
            most / each,
            config.listener.stall_timeout,
        ));
    }
    if SYNCS_OF_A_SEND * sync.p99_us > P99_US {
        notes.push(format!(
            "a sync takes {} ms now and then: at no rate do 99 of 100 messages land within {} ms",
            sync.p99_us / 1000,
            P99_US / 1000
        ));
    }
    if !config.listener.tls_certificate.as_os_str().is_empty() {
        notes.push("messages were measured without TLS, and cost more with it".into());
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Costs;

    /// Two cores, 20,000 descriptors, 24 GB.
    fn facts() -> Facts {
        let cost = |gateway_us| Cost {
            gateway_us,
            admin_us: gateway_us / 2.5,
            writer_us: gateway_us / 10.0,
        };
        Facts {
            host: Host {
                cores: 2,
                descriptors: 20_000,
                descriptors_ceiling: Some(1 << 20),
                descriptors_open: 40,
                memory_bytes_available: Some(24 << 30),
                memory_bytes_for_sessions: 17 << 30,
                page_bytes: 4096,
                tcp_bytes: Some([1 << 30, 3 << 29, 2 << 30]),
                somaxconn: Some(4096),
                ports: Some(28_232),
            },
            sync: SyncTime {
                p50_us: 160,
                p99_us: 900,
            },
            costs: Costs {
                single: cost(50.0),
                batch: cost(10.0),
            },
        }
    }

    fn config() -> Config {
        let mut config = Config::default();
        config.listener.reactors = 2;
        config
    }

    #[test]
    fn a_session_costs_what_was_measured() {
        let measured = include_str!("../../docs/measured.md");
        let rows = [
            ("got and acked a message", SESSION_BYTES),
            ("over TLS, idle", TLS_SESSION_BYTES),
        ];
        for (what, bytes) in rows {
            let mut rows = measured.lines().filter(|line| line.contains(what));
            let cell = format!("| {},{:03} bytes |", bytes / 1000, bytes % 1000);
            assert!(rows.any(|row| row.contains(&cell)), "{what}: {cell}");
        }
    }

    #[test]
    fn the_rig_sends_by_its_defaults() {
        let rig = include_str!("../../loadtest/src/scenario/send.rs");
        for (option, default) in [("lanes: usize", LANES), ("p99: u64", P99_US / 1000)] {
            let option = format!("#[arg(long, default_value_t = {default})]\n    {option}");
            assert!(rig.contains(&option), "{option}");
        }
    }

    #[test]
    fn the_smallest_limit_of_sessions_is_what_to_expect_and_its_line_lifts_it() {
        type Change = fn(&mut Config, &mut Host);
        let changes: [(&str, &str, Change); 5] = [
            ("file descriptors", "LimitNOFILE=", |_, _| {}),
            (
                "listener.connections_max",
                "listener.connections_max = ",
                |config, _| {
                    config.listener.connections_max = 1000;
                },
            ),
            (
                "listener.memory_bytes_max",
                "listener.memory_bytes_max = ",
                |_, host| {
                    host.memory_bytes_for_sessions = 200 << 20;
                },
            ),
            ("free memory", "MiB of free memory", |_, host| {
                host.memory_bytes_available = Some(200 << 20);
            }),
            (
                "net.ipv4.tcp_mem",
                "sysctl -w net.ipv4.tcp_mem=",
                |_, host| {
                    host.tcp_bytes = Some([4 << 20, 6 << 20, 8 << 20]);
                },
            ),
        ];
        for (what, line, change) in changes {
            let (mut config, mut facts) = (config(), facts());
            change(&mut config, &mut facts.host);
            let Ceiling { expected, limits } = forecast(&config, &facts).unwrap().sessions;
            assert!(limits[0].what.starts_with(what), "{what}: {limits:?}");
            assert!(limits[0].lift.contains(line), "{what}: {limits:?}");
            assert!(limits.is_sorted_by_key(|limit| limit.allows));
            assert!(expected == limits[0].allows && (1000..19_000).contains(&expected));
        }
    }

    #[test]
    fn a_lifted_limit_allows_what_the_configuration_asks_for() {
        let lifted = |change: &dyn Fn(&mut Host, u64)| {
            let (config, mut facts) = (config(), facts());
            let target = config.listener.connections_max as u64;
            change(&mut facts.host, target);
            let sessions = forecast(&config, &facts).unwrap().sessions;
            (sessions, target)
        };
        let number = |lift: &str| -> u64 {
            let digits = lift.rsplit(|c: char| !c.is_ascii_digit());
            digits.map(str::parse).find_map(Result::ok).unwrap()
        };
        let allows = |sessions: &Ceiling, what: &str| {
            let limit = sessions
                .limits
                .iter()
                .find(|limit| limit.what.starts_with(what));
            let limit = limit.unwrap();
            (limit.allows, number(&limit.lift))
        };
        let (now, target) = lifted(&|_, _| {});
        let (few, needed) = allows(&now, "file descriptors");
        let (then, _) = lifted(&|host, _| host.descriptors = needed);
        assert!(few < target && allows(&then, "file descriptors").0 >= target);
        let (few, needed) = allows(&now, "net.ipv4.tcp_mem");
        let (then, _) = lifted(&|host, _| host.tcp_bytes = Some([0, 0, needed * 4096]));
        assert!(few < target && allows(&then, "net.ipv4.tcp_mem").0 >= target);
    }

    #[test]
    fn a_hard_limit_above_what_the_kernel_allows_is_asked_for_there_first() {
        let (mut config, facts) = (config(), facts());
        let line = |config: &Config| {
            forecast(config, &facts).unwrap().sessions.limits[0]
                .lift
                .clone()
        };
        assert!(line(&config).starts_with("sysctl -w fs.nr_open="));
        config.listener.connections_max = 100_000;
        assert!(line(&config).starts_with("LimitNOFILE=10"));
    }

    #[test]
    fn too_few_descriptors_to_start_with_are_an_error() {
        let mut facts = facts();
        facts.host.descriptors = 100;
        assert!(forecast(&config(), &facts).is_err());
    }

    #[test]
    fn what_limits_messages_depends_on_cores_threads_and_disk() {
        let calibration = Calibration {
            receivers: 1,
            gateway: 1.0,
            rig: 0.8,
        };
        let limits = |change: &dyn Fn(&mut Facts)| {
            let mut facts = facts();
            change(&mut facts);
            let (sync, cost) = (facts.sync, facts.costs.single);
            [true, false].map(|has_rig| {
                let limits = messages(&facts.host, sync, cost, &calibration, has_rig);
                Ceiling::of(limits).limits.swap_remove(0).what
            })
        };
        assert_eq!(
            limits(&|_| {}),
            ["2 cores, the rig's work included", "2 cores"]
        );
        assert_eq!(
            limits(&|facts| facts.host.cores = 32),
            ["the rig's one process", "the admin port's thread"]
        );
        let syncs = "syncs, 256 callers waiting for theirs";
        assert_eq!(limits(&|facts| facts.sync.p50_us = 20_000), [syncs, syncs]);
        let [_, alone] = limits(&|facts| {
            facts.host.cores = 32;
            facts.costs.single.admin_us = 1.0;
        });
        assert_eq!(alone, "the log writer's thread");
    }

    #[test]
    fn a_rig_beside_the_gateway_takes_its_share_and_batches_cost_less() {
        let Forecast {
            single, batches, ..
        } = forecast(&config(), &facts()).unwrap();
        for messages in [&single, &batches] {
            assert!(messages.beside_rig.expected < messages.alone.expected);
        }
        assert!(batches.beside_rig.expected > single.beside_rig.expected);
    }

    #[test]
    fn notes_come_only_where_there_is_something_to_note() {
        let (mut config, mut facts) = (config(), facts());
        let said =
            |config: &Config, facts: &Facts| forecast(config, facts).unwrap().notes.join("\n");
        let notes = said(&config, &facts);
        assert!(
            notes.contains("somaxconn=65535") && notes.contains("28232"),
            "{notes}"
        );
        assert!(
            !notes.contains("a sync takes") && !notes.contains("TLS"),
            "{notes}"
        );
        facts.sync.p99_us = 60_000;
        facts.host.somaxconn = Some(65_535);
        config.listener.tls_certificate = "port.pem".into();
        let notes = said(&config, &facts);
        assert!(!notes.contains("somaxconn="), "{notes}");
        assert!(
            notes.contains("a sync takes 60 ms") && notes.contains("TLS"),
            "{notes}"
        );
    }
}
