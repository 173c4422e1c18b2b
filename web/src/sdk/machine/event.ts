/**
 * What an app hears: the three machines' states, and what happened on the way.
 *
 * Invariant: a final state comes once, and nothing of that machine follows it.
 */

import type { Action, NodeRef, RoomId, SessionId, StreamId, StreamKey, UserId } from "./ids";
import type { Duration } from "./time";
import type { Outcome } from "./trial";

/** Where a room stands. */
export type RoomState =
  /** Not logged in, or not any more. */
  | "Disconnected"
  /** On the way in, or back in. */
  | "Connecting"
  /** Logged in. */
  | "Connected";

/** Where a publisher stands. */
export type PublisherState =
  /** Nothing is published, and nothing will be. */
  | "NoPublish"
  /** Looking for a node. */
  | "PublishRequesting"
  /** A node has the session. */
  | "Publishing";

/** Where a player stands. */
export type PlayerState =
  /** Nothing is played, and nothing will be. */
  | "NoPlay"
  /** Looking for the stream. */
  | "PlayRequesting"
  /** Media arrives, or the stream is idle. */
  | "Playing";

const STATE_NUMBERS = {
  Disconnected: 0,
  Connecting: 1,
  Connected: 2,
  NoPublish: 0,
  PublishRequesting: 1,
  Publishing: 2,
  NoPlay: 0,
  PlayRequesting: 1,
  Playing: 2,
} as const satisfies Record<RoomState | PublisherState | PlayerState, number>;

/** The number of the behaviour's table. */
export function stateNumber(state: RoomState | PublisherState | PlayerState): 0 | 1 | 2 {
  return STATE_NUMBERS[state];
}

/** A room's change of state. */
export interface RoomStateUpdate {
  readonly kind: "room";
  readonly room: RoomId;
  readonly state: RoomState;
  /** 0, or a number of the error table. */
  readonly code: number;
  /** The login's public name, once there is one. */
  readonly extended: { readonly session?: SessionId };
}

/** One attempt of a walk, as extended data: times are from the start of the walk's first trial. */
export interface TraceEntry {
  readonly attempt: number;
  readonly node: string;
  readonly incarnation: bigint;
  readonly outcome: string;
  readonly detail: string;
  readonly at_ms: number;
  readonly took_ms: number;
}

/** Extended data of a publisher's or a player's state; its names are those of every SDK. */
export interface StreamExtended {
  /** The attempt in use. */
  readonly attempt?: number;
  /** The node in use. */
  readonly node?: string;
  /** Whether the session is up and nothing flows. */
  readonly idle?: boolean;
  /** Every attempt of the walk that the update is about. */
  readonly trace: readonly TraceEntry[];
  /** After a failure for good: when the app may try again. */
  readonly retry_after_ms?: number;
}

/** A publisher's change of state, or of node. */
export interface PublisherStateUpdate {
  readonly kind: "publisher";
  readonly key: StreamKey;
  readonly state: PublisherState;
  /** 0, or a number of the error table. */
  readonly code: number;
  /** The node in use. */
  readonly node: NodeRef | undefined;
  readonly extended: StreamExtended;
}

/** A player's change of state, or of node. */
export interface PlayerStateUpdate {
  readonly kind: "player";
  readonly key: StreamKey;
  readonly state: PlayerState;
  /** 0, or a number of the error table. */
  readonly code: number;
  /** The node in use. */
  readonly node: NodeRef | undefined;
  readonly extended: StreamExtended;
}

/** Whether an update is a failure for good: nothing is retried after it. */
export function isFinal(update: RoomStateUpdate | PublisherStateUpdate | PlayerStateUpdate): boolean {
  return stateNumber(update.state) === 0 && update.code !== 0;
}

/** The end of an attempt at a node (GO-5). */
export interface AttemptEvent {
  readonly kind: "attempt";
  readonly key: StreamKey;
  /** Of its publisher or of its player: a client may have both. */
  readonly action: Action;
  readonly node: NodeRef;
  readonly outcome: Outcome;
  /** How long it took. */
  readonly took: Duration;
}

/** A stop in a player's media; measured where the packets are. */
export interface GapEvent {
  readonly kind: "gap";
  readonly key: StreamKey;
  /** How long there was no media. */
  readonly lasted: Duration;
  /** The node before it. */
  readonly before: NodeRef | undefined;
  /** The node after it. */
  readonly after: NodeRef | undefined;
}

/** Whether entries came or went. */
export type Change = "add" | "delete";

/** A user in a room. The same user in another login is another entry. */
export interface UserEntry {
  readonly user: UserId;
  readonly session: SessionId;
}

/** A stream in a room. The same stream of another session or epoch is another entry. */
export interface StreamEntry {
  readonly stream: StreamId;
  /** Who publishes it. */
  readonly user: UserId;
  /** In which login. */
  readonly session: SessionId;
  /** Under which epoch. */
  readonly epoch: bigint;
}

/** Other users came or went. */
export interface RoomUserUpdate {
  readonly kind: "users";
  readonly room: RoomId;
  readonly change: Change;
  readonly users: readonly UserEntry[];
}

/** Streams of others came or went. */
export interface RoomStreamUpdate {
  readonly kind: "streams";
  readonly room: RoomId;
  readonly change: Change;
  readonly streams: readonly StreamEntry[];
}

/** A room's user token is about to expire: renew it. */
export interface TokenExpiringEvent {
  readonly kind: "tokenExpiring";
  readonly room: RoomId;
  /** In how long. */
  readonly in: Duration;
}

/** What happened. */
export type Event =
  | RoomStateUpdate
  | PublisherStateUpdate
  | PlayerStateUpdate
  | AttemptEvent
  | GapEvent
  | RoomUserUpdate
  | RoomStreamUpdate
  | TokenExpiringEvent;
