/**
 * What goes into a client's machine and what comes out: the whole contract with its shell.
 *
 * Invariant: whatever is asynchronous carries an id that the machine chose: a connection number, a request or an
 * attempt. The shell repeats it in the answer, and an answer to an old one changes nothing.
 */

import type { Event, StreamEntry, UserEntry } from "./event";
import type { Hedging } from "./hedge";
import type {
  Action, Claim, ErrorCode, LoginId, Node, NodeRef, RoomId, SessionId, StreamId, StreamKey,
} from "./ids";
import type { Duration, Instant } from "./time";
import type { AttemptId, Failure, Trial } from "./trial";

/** What a client starts with. */
export interface Settings {
  /** Addresses of coordinators. */
  readonly coordinators: readonly string[];
  /** From which all jitter comes: 64 bits. */
  readonly seed: bigint;
  /** How long a lost room is tried again; zero is never. */
  readonly roomRetryTime: Duration;
  /** How long an interrupted publisher or player is tried again; zero is never. */
  readonly avRetryTime: Duration;
  /** Rooms at a time. */
  readonly maxRooms: number;
  /** What is done about a silent node. */
  readonly hedging: Hedging;
}

/** Names a `Connect` for its client's life; it travels as the connection number, so later ones are higher. */
export type ConnectionId = number;

/** Names a call to a coordinator. */
export type RequestId = number;

/** A point in a store's history. */
export interface Revision {
  /** Numbers of different stores are not comparable. */
  readonly storeId: string;
  /** Where in it. */
  readonly number: bigint;
}

/** A stream that a login publishes, for a coordinator that lost its store. */
export interface HeldClaim {
  readonly stream: StreamId;
  /** The highest claim used. */
  readonly claim: Claim;
  /** The proof of its epoch. */
  readonly nodeToken: string;
}

/** A login as it goes to a coordinator. */
export interface Login {
  readonly room: RoomId;
  readonly userToken: string;
  /** The client's secret name of this login. */
  readonly loginId: LoginId;
  /** Whether user updates are wanted. */
  readonly notifyUsers: boolean;
  /** Whether it was answered before. */
  readonly resume: boolean;
  /** What the client has seen. */
  readonly seen: Revision | undefined;
  /** What it publishes. */
  readonly claims: readonly HeldClaim[];
}

/** Proves a login on later calls. */
export interface SessionProof {
  readonly room: RoomId;
  /** The client's secret name of the login. */
  readonly loginId: LoginId;
}

/** A call's answer that is none. */
export type CallFailure =
  /** A coordinator's word; another would repeat it. */
  | { readonly kind: "refused"; readonly code: ErrorCode }
  /** The coordinator answers but does not hold the connection or the login: connect again. */
  | { readonly kind: "notConnected" }
  /** The coordinator is in trouble or out of reach. */
  | { readonly kind: "failed" };

/** What became of a call. */
export type Answer<T> =
  | { readonly kind: "ok"; readonly value: T }
  | { readonly kind: "error"; readonly failure: CallFailure };

/** A coordinator's answer to a plan. */
export interface Plan {
  /** For a publish. */
  readonly claim: Claim | undefined;
  /** For the nodes. */
  readonly nodeToken: string;
  /** For so long. */
  readonly tokenValid: Duration;
  /** In the order in which they are to be tried. */
  readonly nodes: readonly Node[];
}

/** One change of a room. */
export type Delta =
  | { readonly kind: "userAdded"; readonly user: UserEntry }
  | { readonly kind: "userDeleted"; readonly user: UserEntry }
  | { readonly kind: "streamAdded"; readonly stream: StreamEntry }
  | { readonly kind: "streamDeleted"; readonly stream: StreamEntry };

/** A room as it stands. */
export interface Snapshot {
  /** The login's public name. */
  readonly session: SessionId;
  /** When. */
  readonly revision: Revision;
  /** Who is in it, in any order. */
  readonly users: readonly UserEntry[];
  /** What is published in it, in any order. */
  readonly streams: readonly StreamEntry[];
}

/** What a coordinator tells over the `Connect` stream. */
export type Told =
  /** First of all: every coordinator that clients can reach, and how often to beat. */
  | { readonly kind: "welcome"; readonly coordinators: readonly string[]; readonly beatInterval: Duration }
  /** A login was taken. */
  | { readonly kind: "roomUp"; readonly room: RoomId; readonly snapshot: Snapshot }
  /** All that one revision changed, in order. */
  | {
      readonly kind: "roomChange"; readonly room: RoomId; readonly revision: Revision;
      readonly deltas: readonly Delta[];
    }
  /** A login is over; no code for a number that this client does not know, or 0. */
  | { readonly kind: "roomDown"; readonly room: RoomId; readonly code: ErrorCode | undefined }
  /** Every node known. */
  | { readonly kind: "nodes"; readonly nodes: readonly Node[] }
  /** A node whose beats are missing. */
  | { readonly kind: "suspect"; readonly node: NodeRef }
  /** A user token is about to expire, in so long. */
  | { readonly kind: "tokenExpiring"; readonly room: RoomId; readonly in: Duration }
  /** This coordinator is leaving, or cut off from its store: leave it within so long. */
  | { readonly kind: "tryOther"; readonly within: Duration };

/** How a session stands at its node. */
export type Phase =
  /** The transport is not up yet. */
  | "connecting"
  /** Transport up, stream known, nothing flows. */
  | "idle"
  /** Media flows. */
  | "flowing"
  /** A play whose stream has lost its origin. */
  | "originLost"
  /** A publish that waits for its activation. */
  | "standby";

/** Why an event connection is not there. */
export type EventsLoss =
  /** The address refuses connections. */
  | "refused"
  /** Nobody answers. */
  | "noAnswer"
  /** It was up and broke, or speaks something else. */
  | "broken";

/** What happened, with the time beside it. */
export type Input =
  /** The app logs in to a room; `loginId` is fresh, from at least 128 random bits. */
  | {
      readonly kind: "login"; readonly room: RoomId; readonly userToken: string; readonly loginId: LoginId;
      readonly notifyUsers: boolean;
    }
  /** The app leaves a room. */
  | { readonly kind: "logout"; readonly room: RoomId }
  /** The app has a new user token. */
  | { readonly kind: "renewToken"; readonly room: RoomId; readonly userToken: string }
  /** The app publishes a stream. */
  | { readonly kind: "publish"; readonly key: StreamKey }
  /** The app stops. */
  | { readonly kind: "stopPublishing"; readonly key: StreamKey }
  /** The app plays a stream. */
  | { readonly kind: "play"; readonly key: StreamKey }
  /** The app stops. */
  | { readonly kind: "stopPlaying"; readonly key: StreamKey }
  /** The app leaves everything. */
  | { readonly kind: "close" }
  /** Something came over a `Connect` stream. */
  | { readonly kind: "told"; readonly connection: ConnectionId; readonly told: Told }
  /** A `Connect` stream has ended, or never came to be. */
  | { readonly kind: "connectionLost"; readonly connection: ConnectionId }
  /** An output `login` failed. (Its success is told over the stream.) */
  | {
      readonly kind: "loginFailed"; readonly connection: ConnectionId; readonly room: RoomId;
      readonly failure: CallFailure;
    }
  /** A beat was answered: rooms that this coordinator does not know for this client. */
  | { readonly kind: "beatAnswered"; readonly connection: ConnectionId; readonly answer: Answer<readonly RoomId[]> }
  /** A plan was answered. */
  | { readonly kind: "planned"; readonly request: RequestId; readonly answer: Answer<Plan> }
  /** A node has taken a session: its POST was answered 201. */
  | { readonly kind: "answered"; readonly attempt: AttemptId }
  /** The attempt's transport is up: ICE and DTLS are done. */
  | { readonly kind: "up"; readonly attempt: AttemptId }
  /** The attempt's first packet of media has come (plays). */
  | { readonly kind: "media"; readonly attempt: AttemptId }
  /** Something authentic came from the node at that time. At most one in 10 ms or so is needed. */
  | { readonly kind: "heard"; readonly attempt: AttemptId; readonly at: Instant }
  /** The node tells the session's phase. */
  | { readonly kind: "phase"; readonly attempt: AttemptId; readonly phase: Phase; readonly claim: Claim | undefined }
  /** The attempt has failed, or its session is lost. */
  | { readonly kind: "failed"; readonly attempt: AttemptId; readonly failure: Failure }
  /** An event connection, as in the output `openEvents`, is up, and this life of the node is behind it. */
  | { readonly kind: "eventsUp"; readonly node: NodeRef; readonly life: NodeRef }
  /** An event connection is not there. */
  | { readonly kind: "eventsLost"; readonly node: NodeRef; readonly loss: EventsLoss }
  /** The time of `pollTimeout` has come. Early and late ones are harmless. */
  | { readonly kind: "timeout" };

/** What is to be done. */
export type Output =
  /** Open the `Connect` stream with every room; what comes is the input `told`, its end `connectionLost`. */
  | {
      readonly kind: "connect"; readonly connection: ConnectionId; readonly url: string;
      readonly logins: readonly Login[];
    }
  /** Let a `Connect` stream, or the attempt at one, go. */
  | { readonly kind: "disconnect"; readonly connection: ConnectionId }
  /** Add a room to the open connection. */
  | { readonly kind: "login"; readonly connection: ConnectionId; readonly url: string; readonly login: Login }
  /** Say that the client lives, with every login. The answer is the input `beatAnswered`. */
  | {
      readonly kind: "beat"; readonly connection: ConnectionId; readonly url: string;
      readonly sessions: readonly SessionProof[];
    }
  /** End a login. Nothing is awaited. */
  | { readonly kind: "logout"; readonly url: string; readonly session: SessionProof }
  /** Replace the user token. Nothing is awaited: a refusal shows when the old one expires. */
  | { readonly kind: "renewToken"; readonly url: string; readonly session: SessionProof; readonly userToken: string }
  /** Ask for a plan; the answer is the input `planned`. `failed` are nodes that failed in this walk. */
  | {
      readonly kind: "plan"; readonly request: RequestId; readonly url: string; readonly action: Action;
      readonly session: SessionProof; readonly stream: StreamId; readonly failed: readonly NodeRef[];
    }
  /** Give a claim up. Nothing is awaited. */
  | {
      readonly kind: "endStream"; readonly url: string; readonly session: SessionProof; readonly stream: StreamId;
      readonly epoch: bigint;
    }
  /** Tell what a walk saw. Nothing is awaited. */
  | {
      readonly kind: "report"; readonly url: string; readonly session: SessionProof; readonly stream: StreamId;
      readonly trials: readonly Trial[];
    }
  /** Open a session at a node and watch it over the node's event connection. */
  | {
      readonly kind: "dial"; readonly attempt: AttemptId; readonly key: StreamKey; readonly action: Action;
      readonly node: Node; readonly nodeToken: string;
      /** For a publish that is to be active at once: its move. */
      readonly moved: number | undefined;
    }
  /** Make a publishing session the active one. */
  | { readonly kind: "activate"; readonly attempt: AttemptId; readonly claim: Claim }
  /** The app's media goes to, or comes from, this session from now on. One used before stays up until it is hung up. */
  | { readonly kind: "use"; readonly attempt: AttemptId; readonly key: StreamKey; readonly action: Action }
  /** End an attempt, up or not: DELETE it, close its transport. Nothing that it reports matters any more. */
  | { readonly kind: "hang"; readonly attempt: AttemptId }
  /**
   * Open the event connection to a node; the outcome is the input `eventsUp` or `eventsLost`. After a loss it is opened
   * again by another output of this kind, and every session there is to be watched again.
   */
  | { readonly kind: "openEvents"; readonly node: Node }
  /** No session is there any more. */
  | { readonly kind: "closeEvents"; readonly node: NodeRef }
  /** Tell the app. */
  | { readonly kind: "emit"; readonly event: Event };
