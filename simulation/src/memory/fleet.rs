//! The store in memory as one that gateways of a fleet share.

use super::engine::SimEngine;
use crate::{
    ids::{GatewayId, Platform, UserId},
    log::{
        TurnNumber,
        cluster::{
            engine::EngineFuture,
            fleet_store::{FleetStore, Heartbeat, Holder, PlaceClaim, PlaceLeft, PlaceOutcome},
        },
    },
};

impl FleetStore for SimEngine {
    fn join(&self, address: String, _: u32) -> EngineFuture<'_, GatewayId> {
        self.on_fleet(|fleet| fleet.join(address))
    }

    fn heartbeat(
        &self,
        gateway: GatewayId,
        address: String,
        sessions: u64,
    ) -> EngineFuture<'_, Heartbeat> {
        self.on_fleet(|fleet| fleet.heartbeat(gateway, address, sessions))
    }

    fn part(&self, gateway: GatewayId) -> EngineFuture<'_, ()> {
        self.on_fleet(|fleet| fleet.part(gateway))
    }

    fn register(&self, claims: Vec<PlaceClaim>) -> EngineFuture<'_, Vec<PlaceOutcome>> {
        self.on_fleet(|fleet| claims.iter().map(|claim| fleet.register(claim)).collect())
    }

    fn leave(&self, left: Vec<PlaceLeft>) -> EngineFuture<'_, ()> {
        self.on_fleet(|fleet| left.iter().for_each(|left| fleet.leave(left)))
    }

    fn holders(&self, users: Vec<UserId>) -> EngineFuture<'_, Vec<Vec<Holder>>> {
        self.on_fleet(|fleet| users.iter().map(|user| fleet.holders(user)).collect())
    }

    fn online(
        &self,
        platform: Option<Platform>,
        limit: usize,
    ) -> EngineFuture<'_, Vec<(UserId, Vec<Holder>)>> {
        self.on_fleet(|fleet| fleet.online(platform, limit))
    }

    fn take_turn(
        &self,
        gateway: GatewayId,
        held: Option<TurnNumber>,
    ) -> EngineFuture<'_, Option<TurnNumber>> {
        self.on_turn(move |fleet| fleet.take_turn(gateway, held))
    }

    fn leave_turn(&self, turn: TurnNumber) -> EngineFuture<'_, ()> {
        self.on_fleet(|fleet| fleet.leave_turn(turn))
    }
}
