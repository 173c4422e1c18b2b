/** An app's handle of a room. */

import type { Room, RoomEvents, RoomState, RoomStream, RoomUser } from "./api";
import { Emitter } from "./emitter";
import type { RoomStateUpdate, RoomStreamUpdate, RoomUserUpdate, TokenExpiringEvent } from "./machine/event";
import { NOT_LOGGED_IN, roomState } from "./state";

/** What a handle asks of its client. */
export interface RoomAsks {
  renew(token: string): void;
  logout(): void;
}

/** A room; see `Room`. */
export class RoomHandle extends Emitter<RoomEvents> implements Room {
  #state: RoomState = NOT_LOGGED_IN;
  #users: readonly RoomUser[] = [];
  #streams: readonly RoomStream[] = [];

  constructor(readonly id: string, private readonly asks: RoomAsks) {
    super();
  }

  get state(): RoomState {
    return this.#state;
  }

  get users(): readonly RoomUser[] {
    return this.#users;
  }

  get streams(): readonly RoomStream[] {
    return this.#streams;
  }

  renew(token: string): void {
    this.asks.renew(token);
  }

  logout(): void {
    this.asks.logout();
  }

  /** The machines tell something of this room. */
  tell(event: RoomStateUpdate | RoomUserUpdate | RoomStreamUpdate | TokenExpiringEvent): void {
    switch (event.kind) {
      case "room":
        this.#state = roomState(event);
        if (this.#state.number === 0) [this.#users, this.#streams] = [[], []];
        return this.emit("state", this.#state);
      case "users":
        this.#users = changed(this.#users, event.change, event.users, sameUser);
        return this.emit("users", { change: event.change, entries: event.users });
      case "streams":
        this.#streams = changed(this.#streams, event.change, event.streams, sameStream);
        return this.emit("streams", { change: event.change, entries: event.streams });
      case "tokenExpiring":
        return this.emit("tokenExpiring", { inMs: event.in });
    }
  }
}

function changed<T>(entries: readonly T[], change: "add" | "delete", those: readonly T[], same: (a: T, b: T) => boolean): T[] {
  const others = entries.filter((entry) => !those.some((that) => same(entry, that)));
  return change === "add" ? [...others, ...those] : others;
}

function sameUser(a: RoomUser, b: RoomUser): boolean {
  return a.user === b.user && a.session === b.session;
}

function sameStream(a: RoomStream, b: RoomStream): boolean {
  return a.stream === b.stream && a.session === b.session && a.epoch === b.epoch;
}
