/**
 * Who and what is in a room, as the app was told: the net change of each snapshot and of each revision (ROOM-9).
 *
 * Invariant: what was told as added and not as deleted is what is held here; an entry is (id, session), so that one that
 * came back as another session is deleted and then added.
 */

import type { Change, StreamEntry, UserEntry } from "./event";
import { compareBigint, compareText, unreachable, type Compare, type SessionId, type StreamId } from "./ids";
import type { Delta, Revision, Snapshot } from "./io";
import { SortedMap } from "./sorted";
import { earliest, type Duration, type Instant } from "./time";

/** How long an entry that a coordinator's new store lacks is kept: it has this long to resume (ROOM-5). */
const KEPT: Duration = 90_000;

/** One entry that came or went. */
export interface Changed<E> {
  readonly change: Change;
  readonly entry: E;
}

/** What changed, as the app is to be told. */
export interface Difference {
  readonly users: readonly Changed<UserEntry>[];
  readonly streams: readonly Changed<StreamEntry>[];
}

function compareUsers(left: UserEntry, right: UserEntry): number {
  return compareText(left.user, right.user) || compareText(left.session, right.session);
}

function compareStreams(left: StreamEntry, right: StreamEntry): number {
  return (
    compareText(left.stream, right.stream) ||
    compareText(left.user, right.user) ||
    compareText(left.session, right.session) ||
    compareBigint(left.epoch, right.epoch)
  );
}

/** How an entry is held: there as far as is known, or until then though a new store lacks it. */
type Held = { readonly kind: "there" } | { readonly kind: "missing"; readonly until: Instant };

/** Entries of one kind. */
class Entries<E> {
  readonly #compare: Compare<E>;
  readonly #id: (entry: E) => string;
  readonly #held: SortedMap<E, Held>;

  constructor(compare: Compare<E>, id: (entry: E) => string) {
    this.#compare = compare;
    this.#id = id;
    this.#held = new SortedMap(compare);
  }

  some(accept: (entry: E) => boolean): boolean {
    return this.#held.keys().some(accept);
  }

  snapshot(entries: readonly E[], newStore: boolean, now: Instant): Changed<E>[] {
    const fresh = new SortedMap<E, null>(this.#compare);
    for (const entry of entries) {
      fresh.set(entry, null);
    }
    const freshIds = new Set(entries.map(this.#id));
    const changes: Changed<E>[] = [];
    for (const [entry, held] of this.#held.entries().filter(([entry]) => !fresh.has(entry))) {
      const missing = held.kind === "missing";
      if (freshIds.has(this.#id(entry)) || !(newStore || missing)) {
        this.delete(entry, changes);
      } else if (!missing) {
        this.#held.set(entry, { kind: "missing", until: now + KEPT });
      }
    }
    for (const entry of fresh.keys()) {
      if (!this.#held.has(entry)) {
        changes.push({ change: "add", entry });
      }
      this.#held.set(entry, { kind: "there" });
    }
    return changes;
  }

  add(entry: E, changes: Changed<E>[]): void {
    if (!this.#held.has(entry)) {
      const older = this.#held.keys().filter((other) => this.#id(other) === this.#id(entry));
      for (const other of older) {
        this.delete(other, changes);
      }
      changes.push({ change: "add", entry });
    }
    this.#held.set(entry, { kind: "there" });
  }

  delete(entry: E, changes: Changed<E>[]): void {
    if (this.#held.delete(entry) !== undefined) {
      changes.push({ change: "delete", entry });
    }
  }

  timeout(now: Instant): Changed<E>[] {
    const changes: Changed<E>[] = [];
    for (const [entry, held] of this.#held.entries()) {
      if (held.kind === "missing" && now >= held.until) {
        this.delete(entry, changes);
      }
    }
    return changes;
  }

  pollTimeout(): Instant | undefined {
    const untils = this.#held.values().map((held) => (held.kind === "missing" ? held.until : undefined));
    return earliest(...untils);
  }
}

/** A room's users and streams. */
export class Roster {
  readonly #users = new Entries<UserEntry>(compareUsers, (entry) => entry.user);
  readonly #streams = new Entries<StreamEntry>(compareStreams, (entry) => entry.stream);
  #newest: Revision | undefined;

  /** The newest revision seen. */
  seen(): Revision | undefined {
    return this.#newest;
  }

  hasStream(stream: StreamId): boolean {
    return this.#streams.some((entry) => entry.stream === stream);
  }

  /** Takes a whole room in. */
  snapshot(snapshot: Snapshot, now: Instant): Difference {
    const newStore = this.#newest !== undefined && this.#newest.storeId !== snapshot.revision.storeId;
    this.#newest = snapshot.revision;
    return {
      users: this.#users.snapshot(snapshot.users, newStore, now),
      streams: this.#streams.snapshot(snapshot.streams, newStore, now),
    };
  }

  /** Takes one revision's changes in. One that was seen, or that is of another store, changes nothing. */
  change(revision: Revision, deltas: readonly Delta[]): Difference {
    const users: Changed<UserEntry>[] = [];
    const streams: Changed<StreamEntry>[] = [];
    if (this.#newest?.storeId !== revision.storeId || this.#newest.number >= revision.number) {
      return { users, streams };
    }
    for (const delta of deltas) {
      switch (delta.kind) {
        case "userAdded":
          this.#users.add(delta.user, users);
          break;
        case "userDeleted":
          this.#users.delete(delta.user, users);
          break;
        case "streamAdded":
          this.#streams.add(delta.stream, streams);
          break;
        case "streamDeleted":
          this.#streams.delete(delta.stream, streams);
          break;
        default:
          unreachable(delta);
      }
    }
    this.#newest = revision;
    return { users, streams };
  }

  /** Gives up what was missing for too long. */
  timeout(now: Instant): Difference {
    return { users: this.#users.timeout(now), streams: this.#streams.timeout(now) };
  }

  pollTimeout(): Instant | undefined {
    return earliest(this.#users.pollTimeout(), this.#streams.pollTimeout());
  }
}

/** Neighbours of the same change together, without those of one's own session. */
export function grouped<E extends { readonly session: SessionId }>(
  changes: readonly Changed<E>[],
  own: SessionId | undefined,
): { readonly change: Change; readonly entries: readonly E[] }[] {
  const groups: { readonly change: Change; readonly entries: E[] }[] = [];
  for (const { change, entry } of changes.filter(({ entry }) => entry.session !== own)) {
    const last = groups.at(-1);
    if (last?.change === change) {
      last.entries.push(entry);
    } else {
      groups.push({ change, entries: [entry] });
    }
  }
  return groups;
}
