//! The outcomes of a device's changes: the values of a label.

/// The outcome of a device's change. The label `outcome` has exactly these values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceOutcome {
    /// `registered`: it is a device of its user from now on, or has changed.
    Registered,
    /// `moved`: its user lost it to another user, who registered it.
    Moved,
    /// `unchanged`: it was registered before in the same way.
    Unchanged,
    /// `refused`: its registration was refused.
    Refused,
    /// `displaced`: its user registered one device too many, and it was the oldest.
    Displaced,
    /// `removed`: its user or an administrator removed it.
    Removed,
    /// `logged_out`: its user was logged out.
    LoggedOut,
    /// `gone`: its vendor does not know it any more.
    Gone,
}

impl DeviceOutcome {
    /// The value of the label.
    pub fn text(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Moved => "moved",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
            Self::Displaced => "displaced",
            Self::Removed => "removed",
            Self::LoggedOut => "logged_out",
            Self::Gone => "gone",
        }
    }
}
