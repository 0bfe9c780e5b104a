//! The reasons for which a connection is refused before it is a session.

/// Why a connection was refused before it was a session. The label `reason` has exactly these values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalReason {
    /// `handshake`: no good WebSocket request, or none in time.
    Handshake,
    /// `tls`: no good TLS handshake, or none in time.
    Tls,
    /// `origin`: a browser on a page that may not connect.
    Origin,
    /// `overload`: the number of connections is at its limit.
    Overload,
    /// `rate`: handshakes come faster than allowed.
    Rate,
    /// `memory`: the memory of the process is at its limit.
    Memory,
    /// `draining`: the gateway drains.
    Draining,
    /// `bad_tokens`: too many bad tokens came from the client's address.
    BadTokens,
    /// `crowded`: a later arrival needed the oldest arrival's room.
    Crowded,
    /// `address`: a later arrival of the same address needed the room.
    Address,
    /// `token`: the token is not good, and the client had to know before its upgrade.
    Token,
}

impl RefusalReason {
    /// Every reason, in the order of the metric's help text.
    pub(super) const ALL: [Self; 11] = [
        Self::Handshake,
        Self::Tls,
        Self::Origin,
        Self::Overload,
        Self::Rate,
        Self::Memory,
        Self::Draining,
        Self::BadTokens,
        Self::Crowded,
        Self::Address,
        Self::Token,
    ];

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Tls => "tls",
            Self::Origin => "origin",
            Self::Overload => "overload",
            Self::Rate => "rate",
            Self::Memory => "memory",
            Self::Draining => "draining",
            Self::BadTokens => "bad_tokens",
            Self::Crowded => "crowded",
            Self::Address => "address",
            Self::Token => "token",
        }
    }
}
