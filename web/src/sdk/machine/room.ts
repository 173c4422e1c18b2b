/**
 * A room's login: three states, and the room's contents as the app was told.
 *
 * Invariant: a room that is over is taken out by its `Control`, so nothing follows its last event.
 */

import type { RoomState } from "./event";
import { ErrorCode, type LoginId, type RoomId, type SessionId, type StreamId } from "./ids";
import type { ConnectionId, Delta, HeldClaim, Login, Revision, SessionProof, Snapshot } from "./io";
import type { RetryClock } from "./retry";
import { grouped, Roster, type Difference } from "./roster";
import { earliest, type Duration, type Instant } from "./time";
import type { Wishes } from "./wishes";

/** A login that has no answer over the connection by then is tried over another. */
const LOGIN_TIME: Duration = 5_000;

/** Claims to be given up that are kept until a coordinator is there to hear it. */
const MAX_OWED = 64;

type State =
  /** Not asked for over any connection. */
  | { readonly kind: "out" }
  /** Asked for. */
  | { readonly kind: "asked"; readonly connection: ConnectionId; readonly until: Instant }
  /** Taken. */
  | { readonly kind: "in" };

/** What an app logs in with. */
export interface Credentials {
  readonly room: RoomId;
  readonly userToken: string;
  readonly loginId: LoginId;
  readonly notifyUsers: boolean;
}

/** One room. */
export class Room {
  #state: State = { kind: "out" };
  readonly #roster = new Roster();
  readonly #id: RoomId;
  #userToken: string;
  readonly #loginId: LoginId;
  readonly #notifyUsers: boolean;
  readonly #clock: RetryClock;
  /** Known once a login was answered. */
  #session: SessionId | undefined;
  readonly #owed: { readonly stream: StreamId; readonly epoch: bigint }[] = [];

  constructor({ room, userToken, loginId, notifyUsers }: Credentials, clock: RetryClock) {
    this.#id = room;
    this.#userToken = userToken;
    this.#loginId = loginId;
    this.#notifyUsers = notifyUsers;
    this.#clock = clock;
  }

  isConnected(): boolean {
    return this.#state.kind === "in";
  }

  proof(): SessionProof {
    return { room: this.#id, loginId: this.#loginId };
  }

  renew(userToken: string): void {
    this.#userToken = userToken;
  }

  hasStream(stream: StreamId): boolean {
    return this.#roster.hasStream(stream);
  }

  /** The login is asked for over this connection. */
  ask(connection: ConnectionId, claims: readonly HeldClaim[], now: Instant): Login {
    this.#state = { kind: "asked", connection, until: now + LOGIN_TIME };
    return {
      room: this.#id,
      userToken: this.#userToken,
      loginId: this.#loginId,
      notifyUsers: this.#notifyUsers,
      resume: this.#session !== undefined,
      seen: this.#roster.seen(),
      claims,
    };
  }

  /** Whether it is not asked for yet. */
  isOut(): boolean {
    return this.#state.kind === "out";
  }

  /** The connection is lost. */
  lost(wishes: Wishes, now: Instant): void {
    const wasIn = this.isConnected();
    this.#state = { kind: "out" };
    if (wasIn) {
      this.#clock.left(now);
      this.emit("Connecting", ErrorCode.RoomBroken, wishes);
    }
  }

  /** The login was taken: the room as it stands. Gives the streams that left. */
  up(snapshot: Snapshot, wishes: Wishes, now: Instant): readonly StreamId[] {
    const wasIn = this.isConnected();
    this.#session = snapshot.session;
    this.#state = { kind: "in" };
    if (!wasIn) {
      this.#clock.back(now);
      this.emit("Connected", 0, wishes);
    }
    return this.#tell(this.#roster.snapshot(snapshot, now), wishes);
  }

  /** One revision's changes. Gives the streams that left. */
  change(revision: Revision, deltas: readonly Delta[], wishes: Wishes): readonly StreamId[] {
    return this.#tell(this.#roster.change(revision, deltas), wishes);
  }

  /** Time has passed. Gives the streams that left. */
  timeout(wishes: Wishes, now: Instant): readonly StreamId[] {
    return this.#tell(this.#roster.timeout(now), wishes);
  }

  /** The code with which to give up, if it is time to. `roundOver`: every address was tried in vain. */
  givesUp(roundOver: boolean, now: Instant): ErrorCode | undefined {
    if (this.isConnected()) return undefined;
    const never = !this.#clock.retries() && (roundOver || this.#session !== undefined);
    if (!never && !this.#clock.expired(now)) return undefined;
    return this.#session === undefined ? ErrorCode.NoCoordinator : ErrorCode.RoomGaveUp;
  }

  /** The connection over which the login has taken too long. */
  overdue(now: Instant): ConnectionId | undefined {
    return this.#state.kind === "asked" && now >= this.#state.until ? this.#state.connection : undefined;
  }

  pollTimeout(): Instant | undefined {
    const asked = this.#state.kind === "asked" ? this.#state.until : undefined;
    return earliest(asked, this.#clock.deadline(), this.#roster.pollTimeout());
  }

  /** A claim is to be given up, now or when a coordinator is there to hear it. */
  owe(stream: StreamId, epoch: bigint): void {
    if (this.#owed.length === MAX_OWED) this.#owed.shift();
    this.#owed.push({ stream, epoch });
  }

  /** Gives up the claims that are owed. */
  pay(url: string, wishes: Wishes): void {
    if (!this.isConnected()) return;
    for (const { stream, epoch } of this.#owed.splice(0)) {
      wishes.push({ kind: "endStream", url, session: this.proof(), stream, epoch });
    }
  }

  /** Tells the app. */
  emit(state: RoomState, code: number, wishes: Wishes): void {
    const extended = this.#session === undefined ? {} : { session: this.#session };
    wishes.push({ kind: "emit", event: { kind: "room", room: this.#id, state, code, extended } });
  }

  #tell(difference: Difference, wishes: Wishes): readonly StreamId[] {
    const room = this.#id;
    if (this.#notifyUsers) {
      for (const { change, entries } of grouped(difference.users, this.#session)) {
        wishes.push({ kind: "emit", event: { kind: "users", room, change, users: entries } });
      }
    }
    for (const { change, entries } of grouped(difference.streams, this.#session)) {
      wishes.push({ kind: "emit", event: { kind: "streams", room, change, streams: entries } });
    }
    return difference.streams.map(({ entry }) => entry.stream).filter((stream) => !this.#roster.hasStream(stream));
  }
}
