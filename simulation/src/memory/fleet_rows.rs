//! The gateways of a store, and the places of their sessions.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    ids::{ConnectionId, Fence, GatewayId, Platform, UserId},
    log::{
        TurnNumber,
        cluster::fleet_store::{
            GatewayRow, Heartbeat, Holder, PlaceClaim, PlaceLeft, PlaceLost, PlaceOutcome, SILENCE,
            TURN_LEASE,
        },
    },
};

/// A gateway that joined and did not part.
struct JoinedGateway {
    address: String,
    sessions: u64,
    seen: Duration,
}

/// A place, and the connection that lost it and was not told.
struct HeldPlace {
    holder: Holder,
    previous: Option<(GatewayId, ConnectionId)>,
}

/// The present turn, its gateway, and its end.
struct TakenTurn {
    number: TurnNumber,
    gateway: GatewayId,
    until: Duration,
}

/// The rows.
#[derive(Default)]
pub(super) struct FleetRows {
    now: Duration,
    joined: u64,
    fences: u64,
    token: Option<u64>,
    gateways: BTreeMap<GatewayId, JoinedGateway>,
    places: BTreeMap<(UserId, Box<str>), HeldPlace>,
    turn: Option<TakenTurn>,
}

impl FleetRows {
    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    pub(super) fn empty_places(&mut self) {
        self.token = None;
        self.places.clear();
    }

    fn next_fence(&mut self) -> u64 {
        self.fences += 1;
        self.fences
    }

    fn is_silent(&self, gateway: GatewayId) -> bool {
        let gateway = self.gateways.get(&gateway);
        gateway.is_none_or(|gateway| self.now - gateway.seen > SILENCE)
    }

    pub(super) fn join(&mut self, address: String) -> GatewayId {
        self.joined += 1;
        let gateway = JoinedGateway {
            address,
            sessions: 0,
            seen: self.now,
        };
        self.gateways.insert(GatewayId(self.joined), gateway);
        GatewayId(self.joined)
    }

    pub(super) fn heartbeat(
        &mut self,
        gateway: GatewayId,
        address: String,
        sessions: u64,
    ) -> Heartbeat {
        let now = self.now;
        let own = self.gateways.get_mut(&gateway);
        let is_removed = own.is_none();
        if let Some(own) = own {
            *own = JoinedGateway {
                address,
                sessions,
                seen: now,
            };
        }
        let all: Vec<_> = self.gateways.keys().copied().collect();
        for other in all {
            if self.is_silent(other) {
                self.part(other);
            }
        }
        let rows = self.gateways.iter().map(|(gateway, row)| GatewayRow {
            gateway: *gateway,
            address: row.address.clone(),
            sessions: row.sessions,
            is_silent: false,
        });
        let gateways = rows.collect();
        if self.token.is_none() {
            self.token = Some(self.next_fence());
        }
        let mut lost = Vec::new();
        for ((user, _), place) in &mut self.places {
            let previous = place.previous.filter(|(of, _)| *of == gateway);
            if let Some((_, connection)) = previous
                && place.holder.gateway != gateway
            {
                place.previous = None;
                lost.push(PlaceLost {
                    user: user.clone(),
                    connection,
                    fence: place.holder.fence,
                });
            }
        }
        Heartbeat {
            gateways,
            is_removed,
            token: self.token,
            lost,
        }
    }

    pub(super) fn take_turn(
        &mut self,
        gateway: GatewayId,
        held: Option<TurnNumber>,
    ) -> Option<TurnNumber> {
        let before = self.turn.as_ref();
        let is_kept = before.is_some_and(|turn| Some(turn.number) == held);
        let is_free = before.is_none_or(|turn| turn.gateway == gateway || turn.until < self.now);
        let number = match held {
            Some(held) if is_kept => held,
            _ if is_free => TurnNumber(self.next_fence()),
            _ => return None,
        };
        self.turn = Some(TakenTurn {
            number,
            gateway,
            until: self.now + TURN_LEASE,
        });
        Some(number)
    }

    pub(super) fn leave_turn(&mut self, number: TurnNumber) {
        if let Some(turn) = self.turn.as_mut().filter(|turn| turn.number == number) {
            turn.gateway = GatewayId(0);
            turn.until = Duration::ZERO;
        }
    }

    pub(super) fn part(&mut self, gateway: GatewayId) {
        self.gateways.remove(&gateway);
        self.places
            .retain(|_, place| place.holder.gateway != gateway);
    }

    pub(super) fn register(&mut self, claim: &PlaceClaim) -> PlaceOutcome {
        let place = (claim.key.user.clone(), claim.place_key.clone());
        let before = self.places.get(&place);
        let before = before.map(|held| (held.holder.clone(), held.previous));
        let fence = match (claim.fence, &before) {
            (Some(fence), Some((holder, _))) if holder.fence > fence => {
                return PlaceOutcome::Lost(holder.fence);
            }
            (Some(fence), _) => fence,
            (None, _) => Fence(self.next_fence()),
        };
        let previous = before.and_then(|(holder, previous)| {
            let is_same = match claim.fence {
                Some(fence) => holder.fence == fence,
                None => (holder.gateway, holder.connection) == (claim.gateway, claim.connection),
            };
            match is_same {
                true => previous,
                false => Some((holder.gateway, holder.connection)),
            }
        });
        let holder = Holder {
            key: claim.key.clone(),
            place_key: claim.place_key.clone(),
            gateway: claim.gateway,
            connection: claim.connection,
            fence,
            since_ms: claim.since_ms,
            is_background: claim.is_background,
            address: claim.address,
        };
        self.places.insert(place, HeldPlace { holder, previous });
        PlaceOutcome::Taken { fence, previous }
    }

    pub(super) fn leave(&mut self, left: &PlaceLeft) {
        let place = (left.user.clone(), left.place_key.clone());
        let holder = self.places.get(&place).map(|held| &held.holder);
        let is_own = holder.is_some_and(|holder| {
            (holder.gateway, holder.connection) == (left.gateway, left.connection)
        });
        if is_own {
            self.places.remove(&place);
        }
    }

    pub(super) fn holders(&self, user: &UserId) -> Vec<Holder> {
        let places = self.places.iter();
        let of_user =
            places.filter(|((of, _), held)| of == user && !self.is_silent(held.holder.gateway));
        of_user.map(|(_, held)| held.holder.clone()).collect()
    }

    pub(super) fn online(
        &self,
        platform: Option<Platform>,
        limit: usize,
    ) -> Vec<(UserId, Vec<Holder>)> {
        let mut users: Vec<_> = self.places.keys().map(|(user, _)| user.clone()).collect();
        users.dedup();
        let online = users.into_iter().map(|user| {
            let holders = self.holders(&user);
            (user, holders)
        });
        let is_on =
            |holder: &Holder| platform.is_none_or(|platform| holder.key.platform == platform);
        let online = online.filter(|(_, holders)| holders.iter().any(is_on));
        online.take(limit).collect()
    }
}
