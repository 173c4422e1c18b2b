/**
 * The client's side towards coordinators: logins, the connection, beats, plans, and what is told over it.
 *
 * Invariant: what comes over a connection that is not the current one changes nothing.
 */

import { Connection } from "./connection";
import { Shared } from "./hedge";
import { compareText, ErrorCode, isFinalCode, unreachable, type RoomId, type StreamId, type StreamKey } from "./ids";
import type { Answer, CallFailure, ConnectionId, Login, Plan, RequestId, Settings, Told } from "./io";
import type { Desk } from "./lane";
import { RetryClock } from "./retry";
import { Room, type Credentials } from "./room";
import { SortedMap } from "./sorted";
import { Streams, type Desks } from "./streams";
import { earliest, type Instant } from "./time";
import type { Wishes } from "./wishes";

/** Nodes of a list that are held. */
const MAX_NODES = 1024;

/** Rooms over one connection, and their streams. */
export class Control implements Desks {
  readonly streams: Streams;
  readonly #settings: Settings;
  readonly #shared: Shared;
  readonly #wishes: Wishes;
  readonly #connection: Connection;
  readonly #rooms = new SortedMap<RoomId, Room>(compareText);

  constructor(settings: Settings, wishes: Wishes) {
    this.#settings = settings;
    this.#shared = new Shared(settings.seed, settings.hedging);
    this.#wishes = wishes;
    this.#connection = new Connection(settings.coordinators);
    this.streams = new Streams(settings, this.#shared, this, wishes);
  }

  hasRoom(room: RoomId): boolean {
    return this.#rooms.has(room);
  }

  desk(room: RoomId): Desk | undefined {
    const url = this.#connection.open()?.url;
    const entry = this.#rooms.get(room);
    return url !== undefined && entry?.isConnected() ? { url, session: entry.proof() } : undefined;
  }

  owe(key: StreamKey, epoch: bigint): void {
    this.#rooms.get(key.room)?.owe(key.stream, epoch);
  }

  login(credentials: Credentials, now: Instant): void {
    if (this.hasRoom(credentials.room)) return;
    const room = new Room(credentials, new RetryClock(this.#settings.roomRetryTime, now));
    if (this.#rooms.size >= this.#settings.maxRooms) {
      room.emit("Disconnected", ErrorCode.TooManyRooms, this.#wishes);
      return;
    }
    room.emit("Connecting", 0, this.#wishes);
    this.#rooms.set(credentials.room, room);
    this.#connection.want(now);
  }

  /** The app leaves: its streams end first. */
  logout(id: RoomId, now: Instant): void {
    this.streams.endRoom(id, undefined, now);
    const room = this.#rooms.delete(id);
    if (room === undefined) return;
    const url = this.#connection.open()?.url;
    if (url !== undefined) {
      room.pay(url, this.#wishes);
      this.#wishes.push({ kind: "logout", url, session: room.proof() });
    }
    room.emit("Disconnected", 0, this.#wishes);
  }

  renewToken(id: RoomId, userToken: string): void {
    this.#rooms.get(id)?.renew(userToken);
    const desk = this.desk(id);
    if (desk !== undefined) this.#wishes.push({ kind: "renewToken", ...desk, userToken });
  }

  close(now: Instant): void {
    for (const room of this.#rooms.keys()) this.logout(room, now);
    // Streams may have outlived their room.
    this.streams.endAll(now);
  }

  told(connection: ConnectionId, told: Told, now: Instant): void {
    if (!this.#connection.isCurrent(connection)) return;
    this.streams.coordinatorAnswered(now);
    switch (told.kind) {
      case "welcome":
        this.#connection.welcome(told.coordinators, told.beatInterval, now);
        break;
      case "roomUp":
        this.#roomUp(told, now);
        break;
      case "roomChange": {
        const left = this.#rooms.get(told.room)?.change(told.revision, told.deltas, this.#wishes);
        if (left !== undefined) this.#streamsChanged(told.room, left, now);
        break;
      }
      case "roomDown":
        this.#finish(told.room, told.code ?? ErrorCode.Kicked, now);
        break;
      case "nodes":
        this.streams.listed(told.nodes.slice(0, MAX_NODES), now);
        break;
      case "suspect":
        this.streams.eachWalk({ kind: "suspect", node: told.node }, now);
        break;
      case "tokenExpiring":
        if (this.hasRoom(told.room)) this.#wishes.push({ kind: "emit", event: told });
        break;
      case "tryOther":
        this.#leave(connection, now);
        break;
      default:
        unreachable(told);
    }
  }

  connectionLost(connection: ConnectionId, now: Instant): void {
    const loss = this.#connection.lost(connection, this.#shared.dice, now);
    if (loss === "old") return;
    for (const room of this.#rooms.values()) room.lost(this.#wishes, now);
    this.#giveUpRooms(loss === "round", now);
  }

  loginFailed(connection: ConnectionId, room: RoomId, failure: CallFailure, now: Instant): void {
    if (!this.#connection.isCurrent(connection)) return;
    if (failure.kind === "refused" && isFinalCode(failure.code)) {
      this.streams.coordinatorAnswered(now);
      this.#finish(room, failure.code, now);
    } else {
      this.#leave(connection, now);
    }
  }

  /** A beat was answered: with rooms that this coordinator does not know for this client, or not at all. */
  beatAnswered(connection: ConnectionId, answer: Answer<readonly RoomId[]>, now: Instant): void {
    if (!this.#connection.isCurrent(connection)) return;
    if (answer.kind === "ok") {
      this.#connection.beatAnswered(now);
      this.streams.coordinatorAnswered(now);
      if (answer.value.some((room) => this.#rooms.get(room)?.isConnected())) this.#leave(connection, now);
    } else if (answer.failure.kind === "failed") {
      if (this.#connection.beatFailed(now)) this.#leave(connection, now);
    } else {
      this.streams.coordinatorAnswered(now);
      this.#leave(connection, now);
    }
  }

  planned(request: RequestId, answer: Answer<Plan>, now: Instant): void {
    if (answer.kind === "ok" || answer.failure.kind !== "failed") this.streams.coordinatorAnswered(now);
    this.streams.planned(request, answer, now);
  }

  timeout(now: Instant): void {
    const connection = this.#connection.overdue(now) ?? this.#overdueLogin(now);
    if (connection !== undefined) this.#leave(connection, now);
    this.#giveUpRooms(false, now);
    for (const [id, room] of this.#rooms.entries()) {
      const left = room.timeout(this.#wishes, now);
      if (left.length > 0) this.#streamsChanged(id, left, now);
    }
  }

  pollTimeout(): Instant | undefined {
    const rooms = this.#rooms.values().map((room) => room.pollTimeout());
    return earliest(this.#connection.pollTimeout(), this.streams.pollTimeout(), ...rooms);
  }

  /** Dials, logs in, beats and gives up claims, where it is time to. */
  connect(now: Instant): void {
    if (this.#wishes.takeSigns()) this.#connection.wantBeat(now);
    if (this.#rooms.size === 0) {
      const connection = this.#connection.release();
      if (connection !== undefined) this.#wishes.push({ kind: "disconnect", connection });
      return;
    }
    const dialled = this.#connection.dialIfDue(now);
    if (dialled !== undefined) {
      const logins = this.#rooms.entries().map(([id, room]) => this.#ask(id, room, dialled.connection, now));
      this.#wishes.push({ kind: "connect", ...dialled, logins });
    }
    const open = this.#connection.open();
    if (open !== undefined) {
      for (const [id, room] of this.#rooms.entries().filter(([, room]) => room.isOut())) {
        this.#wishes.push({ kind: "login", ...open, login: this.#ask(id, room, open.connection, now) });
      }
      for (const room of this.#rooms.values()) room.pay(open.url, this.#wishes);
    }
    const beat = this.#connection.beatIfDue(now);
    if (beat !== undefined) {
      const connected = this.#rooms.values().filter((room) => room.isConnected());
      this.#wishes.push({ kind: "beat", ...beat, sessions: connected.map((room) => room.proof()) });
    }
  }

  #roomUp({ room, snapshot }: Extract<Told, { kind: "roomUp" }>, now: Instant): void {
    const left = this.#rooms.get(room)?.up(snapshot, this.#wishes, now);
    if (left === undefined) return;
    this.#streamsChanged(room, left, now);
    this.streams.deskOpened(room, now);
  }

  #streamsChanged(id: RoomId, left: readonly StreamId[], now: Instant): void {
    const room = this.#rooms.get(id);
    this.streams.roomChanged(id, (stream) => room?.hasStream(stream) ?? false, left, now);
  }

  /** A room is over. */
  #finish(id: RoomId, code: ErrorCode, now: Instant): void {
    const room = this.#rooms.delete(id);
    if (room === undefined) return;
    room.emit("Disconnected", code, this.#wishes);
    // Nobody ended a login that was given up; its streams need no coordinator (GO-1).
    if (code !== ErrorCode.RoomGaveUp) this.streams.endRoom(id, code, now);
  }

  /** Lets the connection go, and dials another. */
  #leave(connection: ConnectionId, now: Instant): void {
    this.#wishes.push({ kind: "disconnect", connection });
    this.connectionLost(connection, now);
  }

  #giveUpRooms(roundOver: boolean, now: Instant): void {
    const over = this.#rooms.entries().map(([id, room]) => ({ id, code: room.givesUp(roundOver, now) }));
    for (const { id, code } of over) {
      if (code !== undefined) this.#finish(id, code, now);
    }
  }

  #overdueLogin(now: Instant): ConnectionId | undefined {
    return this.#rooms.values().map((room) => room.overdue(now)).find((connection) => connection !== undefined);
  }

  #ask(id: RoomId, room: Room, connection: ConnectionId, now: Instant): Login {
    return room.ask(connection, this.streams.held(id), now);
  }
}
