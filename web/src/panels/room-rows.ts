/** Rooms and their streams as the page knows them: by a coordinator's view, by its own logins, by its own publishers. */

import type { Login } from "../console";
import type { Room as ClusterRoom, Stream as ClusterStream } from "../gen/waystation/v1/cluster_pb";

/** A stream that may be played. */
export interface StreamRow {
  readonly room: string;
  readonly stream: string;
  readonly user: string;
  /** The node that takes it from its publisher; `null` where that is not known. */
  readonly origin: string | null;
  /** How often its publisher changed nodes; `null` where that is not known. */
  readonly moves: number | null;
}

/** A room, and what is in it. */
export interface RoomRow {
  readonly id: string;
  /** How many users it has; `null` where that is not known. */
  readonly users: number | null;
  readonly streams: readonly StreamRow[];
  readonly login: Login | null;
}

/** A stream that this page publishes. */
export interface OwnStream {
  readonly room: string;
  readonly stream: string;
  readonly origin: string | null;
}

/** Brings all sources together, in the order of ids. */
export function roomRows(
  rooms: readonly ClusterRoom[],
  streams: readonly ClusterStream[],
  logins: readonly Login[],
  own: readonly OwnStream[],
): RoomRow[] {
  const found = new Map<string, Map<string, StreamRow>>();
  const of = (room: string) => {
    let there = found.get(room);
    if (there === undefined) found.set(room, (there = new Map<string, StreamRow>()));
    return there;
  };
  for (const { room } of rooms) of(room);
  for (const { room } of logins) {
    const there = of(room.id);
    for (const { stream, user } of room.streams) there.set(stream, { room: room.id, stream, user, origin: null, moves: null });
  }
  for (const { room, stream, origin } of own) {
    const user = logins.find((login) => login.room.id === room)?.user ?? "";
    of(room).set(stream, { room, stream, user, origin, moves: null });
  }
  for (const { ref, user, origin, claim } of streams) {
    if (ref === undefined) continue;
    // The first session of an SDK is move 1, that of a plain client move 0.
    const moves = Math.max(0, (claim?.move ?? 0) - 1);
    of(ref.room).set(ref.stream, { room: ref.room, stream: ref.stream, user, origin: origin?.id ?? null, moves });
  }
  const byId = (a: string, b: string) => a.localeCompare(b, undefined, { numeric: true });
  return [...found].sort(([a], [b]) => byId(a, b)).map(([id, there]) => {
    const login = logins.find(({ room }) => room.id === id) ?? null;
    const users = rooms.find(({ room }) => room === id)?.users ?? (login === null ? null : login.room.users.length + 1);
    return { id, users, login, streams: [...there.values()].sort((a, b) => byId(a.stream, b.stream)) };
  });
}
