/**
 * The one connection to a coordinator, for all rooms: which address, when to dial again, beats (ROOM-3, ROOM-12).
 *
 * Invariant: at most one connection is dialled or open, and each has a higher number than the one before.
 */

import { backoffWait, type Backoff, type Dice } from "./backoff";
import type { ConnectionId } from "./io";
import type { Duration, Instant } from "./time";

/** From the dial to the welcome. */
const DIAL_TIME: Duration = 3_000;

/** A beat that is not answered by then has failed. */
const BEAT_TIME: Duration = 3_000;

/** Beats that may fail in a row: the next one is the end of the connection. */
const MAX_FAILED_BEATS = 1;

/** Until a welcome says otherwise. */
const BEAT_INTERVAL: Duration = 5_000;

/** What a welcome may say. */
const SHORTEST_BEAT_INTERVAL: Duration = 500;

/** After a loss, before the first dial: not all of a dead coordinator's clients at once. */
const SPREAD: Duration = 100;

/** Between rounds over all addresses. */
const ROUNDS: Backoff = { first: 400, longest: 5_000 };

/** Addresses held. */
const MAX_ADDRESSES = 32;

type Beat = { readonly kind: "due"; readonly at: Instant } | { readonly kind: "sent"; readonly until: Instant };

type State =
  /** Nobody wants it. */
  | { readonly kind: "idle" }
  /** To be dialled then. */
  | { readonly kind: "waiting"; readonly until: Instant }
  /** Dialled, not welcome yet. */
  | { readonly kind: "dialing"; readonly id: ConnectionId; readonly url: string; readonly until: Instant }
  /** Open. */
  | {
      readonly kind: "up"; readonly id: ConnectionId; readonly url: string; readonly beat: Beat;
      readonly failedBeats: number;
    };

/** What a loss amounts to. */
export type Loss =
  /** Of no connection that matters. */
  | "old"
  /** An address did not answer; there are others. */
  | "address"
  /** The last address of a round did not answer. */
  | "round"
  /** The open connection. */
  | "open";

/** A connection, and at which coordinator. */
export interface At {
  readonly connection: ConnectionId;
  readonly url: string;
}

/** The connection. */
export class Connection {
  #state: State = { kind: "idle" };
  readonly #urls: string[];
  /** Which address is next. */
  #place = 0;
  /** Addresses tried in this round. */
  #tried = 0;
  #round = 0;
  #beatInterval: Duration = BEAT_INTERVAL;
  #last: ConnectionId = 0;

  constructor(urls: readonly string[]) {
    this.#urls = urls.slice(0, MAX_ADDRESSES);
  }

  /** The open connection. */
  open(): At | undefined {
    return this.#state.kind === "up" ? { connection: this.#state.id, url: this.#state.url } : undefined;
  }

  /** Whether what comes over this connection matters. */
  isCurrent(connection: ConnectionId): boolean {
    return this.#live()?.id === connection;
  }

  /** It is wanted. */
  want(now: Instant): void {
    if (this.#state.kind === "idle") this.#state = { kind: "waiting", until: now };
  }

  /** Nobody wants it any more. Gives the connection to let go. */
  release(): ConnectionId | undefined {
    const live = this.#live();
    this.#state = { kind: "idle" };
    return live?.id;
  }

  /** Dials if it is time to. */
  dialIfDue(now: Instant): At | undefined {
    if (this.#state.kind !== "waiting" || now < this.#state.until) return undefined;
    const url = this.#urls[this.#place % Math.max(1, this.#urls.length)];
    if (url === undefined) return undefined;
    this.#last += 1;
    this.#state = { kind: "dialing", id: this.#last, url, until: now + DIAL_TIME };
    return { connection: this.#last, url };
  }

  /** A coordinator has welcomed the client. */
  welcome(coordinators: readonly string[], beatInterval: Duration, now: Instant): void {
    const live = this.#live();
    if (live === undefined) return;
    const { id, url } = live;
    this.#beatInterval = Math.max(beatInterval, SHORTEST_BEAT_INTERVAL);
    this.#learn(coordinators, url);
    this.#tried = 0;
    this.#round = 0;
    this.#state = { kind: "up", id, url, beat: { kind: "due", at: now + this.#beatInterval }, failedBeats: 0 };
  }

  /** This connection is lost, or is to be left: the next address is dialled. */
  lost(connection: ConnectionId, dice: Dice, now: Instant): Loss {
    const live = this.#live();
    if (live?.id !== connection) return "old";
    this.#place = (this.#place + 1) % Math.max(1, this.#urls.length);
    if (live.kind === "up") {
      this.#state = { kind: "waiting", until: now + dice.between(0, SPREAD) };
      return "open";
    }
    this.#tried += 1;
    if (this.#tried < this.#urls.length) {
      this.#state = { kind: "waiting", until: now };
      return "address";
    }
    this.#tried = 0;
    this.#state = { kind: "waiting", until: now + backoffWait(ROUNDS, this.#round, dice) };
    this.#round += 1;
    return "round";
  }

  /** A beat is wanted now: its answer is a sign of a coordinator. */
  wantBeat(now: Instant): void {
    if (this.#state.kind === "up" && this.#state.beat.kind === "due") {
      this.#state = { ...this.#state, beat: { kind: "due", at: now } };
    }
  }

  /** Beats if it is time to. */
  beatIfDue(now: Instant): At | undefined {
    if (this.#state.kind !== "up" || this.#state.beat.kind !== "due" || now < this.#state.beat.at) {
      return undefined;
    }
    this.#state = { ...this.#state, beat: { kind: "sent", until: now + BEAT_TIME } };
    return { connection: this.#state.id, url: this.#state.url };
  }

  /** A beat was answered. */
  beatAnswered(now: Instant): void {
    if (this.#state.kind === "up") {
      this.#state = { ...this.#state, beat: { kind: "due", at: now + this.#beatInterval }, failedBeats: 0 };
    }
  }

  /** A beat has failed. `true`: and so has the connection. */
  beatFailed(now: Instant): boolean {
    if (this.#state.kind !== "up") return false;
    const failedBeats = this.#state.failedBeats + 1;
    this.#state = { ...this.#state, beat: { kind: "due", at: now }, failedBeats };
    return failedBeats > MAX_FAILED_BEATS;
  }

  /** The connection whose dial or beat has taken too long. */
  overdue(now: Instant): ConnectionId | undefined {
    const live = this.#live();
    switch (live?.kind) {
      case undefined:
        return undefined;
      case "dialing":
        return now >= live.until ? live.id : undefined;
      case "up":
        return live.beat.kind === "sent" && now >= live.beat.until && this.beatFailed(now) ? live.id : undefined;
    }
  }

  pollTimeout(): Instant | undefined {
    switch (this.#state.kind) {
      case "idle":
        return undefined;
      case "waiting":
        // With no address at all there is nothing to wait for.
        return this.#urls.length > 0 ? this.#state.until : undefined;
      case "dialing":
        return this.#state.until;
      case "up":
        return this.#state.beat.kind === "sent" ? this.#state.beat.until : this.#state.beat.at;
    }
  }

  #live(): Extract<State, { kind: "dialing" | "up" }> | undefined {
    return this.#state.kind === "dialing" || this.#state.kind === "up" ? this.#state : undefined;
  }

  /** Addresses that were given at the start stay: they may be the only ones that lead here from where the client is. */
  #learn(coordinators: readonly string[], current: string): void {
    for (const url of coordinators) {
      if (this.#urls.length < MAX_ADDRESSES && !this.#urls.includes(url)) {
        this.#urls.push(url);
      }
    }
    this.#place = Math.max(0, this.#urls.indexOf(current));
  }
}
