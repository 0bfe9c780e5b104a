//! The users whose presence a client watches.

use std::collections::BTreeMap;

use crate::ids::{Platform, UserId};

/// The most users that one session watches; further ones are left out. Each costs a look in a second in which any
/// session came or went: 200 take some 20 µs.
pub const WATCHED_MAX: usize = 200;

/// The watched users, each with the platforms that the client was told last.
#[derive(Debug, Default)]
pub(super) struct WatchList {
    told: BTreeMap<UserId, Option<Vec<Platform>>>,
    /// The presence at the last look at all of them, as the ticks number it.
    seen: Option<u64>,
}

impl WatchList {
    /// Takes users out, then adds users. Returns those of the latter that are watched now.
    pub(super) fn change(&mut self, users: Vec<UserId>, unwatch: &[UserId]) -> Vec<UserId> {
        for user in unwatch {
            self.told.remove(user);
        }
        let mut added = Vec::new();
        for user in users {
            if self.told.len() < WATCHED_MAX || self.told.contains_key(&user) {
                self.told.insert(user.clone(), None);
                added.push(user);
            }
        }
        added
    }

    /// All watched users.
    pub(super) fn users(&self) -> Vec<UserId> {
        self.told.keys().cloned().collect()
    }

    /// True if the presence of any user may have changed since the last look. The look is made then.
    pub(super) fn is_stale(&mut self, presence: u64) -> bool {
        self.seen.replace(presence) != Some(presence)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    /// Keeps of `seen` what the client was not told yet, and counts it as told.
    pub(super) fn tell(&mut self, seen: &mut Vec<(UserId, Vec<Platform>)>) {
        seen.retain(|(user, platforms)| match self.told.get_mut(user) {
            Some(told) if told.as_ref() != Some(platforms) => {
                *told = Some(platforms.clone());
                true
            }
            _ => false,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).expect("an id")
    }

    #[test]
    fn what_changed_is_told_once() {
        let mut watch = WatchList::default();
        let users = watch.change(vec![user("a"), user("b")], &[]);
        assert_eq!(users, watch.users());
        let mut told = |seen: &[(&str, Platform)]| {
            let seen = seen.iter();
            let mut seen = seen
                .map(|(name, platform)| (user(name), vec![*platform]))
                .collect();
            watch.tell(&mut seen);
            seen.len()
        };
        assert_eq!(told(&[("a", Platform::Web), ("b", Platform::Ios)]), 2);
        assert_eq!(told(&[("a", Platform::Web), ("b", Platform::Web)]), 1);
        assert_eq!(told(&[("a", Platform::Web), ("c", Platform::Web)]), 0);
    }

    #[test]
    fn at_most_200_are_watched_and_those_named_again_are_told_again() {
        let mut watch = WatchList::default();
        let many = |from: usize, to| (from..to).map(|n| user(&format!("u{n}"))).collect();
        assert_eq!(watch.change(many(0, 150), &[]).len(), 150);
        assert_eq!(watch.change(many(100, 300), &[]).len(), 100);
        let unwatched: Vec<_> = many(0, 10);
        assert_eq!(watch.change(many(300, 400), &unwatched).len(), 10);
        assert_eq!(watch.users().len(), WATCHED_MAX);
    }
}
