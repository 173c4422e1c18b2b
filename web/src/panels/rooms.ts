/** Logging in, the rooms of the cluster, who is in those that one is logged in to, and the streams to play. */

import type { Console } from "../console";
import { advice } from "../timeline/sentences";
import { button, field, h, Keyed, mark, say } from "../ui/dom";
import { count } from "../ui/format";
import type { RoomRow, StreamRow } from "./room-rows";

/** Most users whose names are shown. */
const SHOWN_USERS = 24;

class StreamPart {
  readonly element: HTMLElement;
  readonly #where = h("span", { className: "quiet" });

  constructor(row: StreamRow, play: () => Promise<void>, failed: (error: Error) => void) {
    const key = `${row.room}/${row.stream}`;
    this.element = h("li", { data: { stream: key } },
      h("span", {}, h("strong", {}, row.stream), this.#where),
      button("Play", play, failed, { data: { play: key }, aria: { label: `Play ${key}` } }),
    );
  }

  show(row: StreamRow): void {
    mark(this.element, "origin", row.origin);
    mark(this.element, "moves", row.moves === null ? null : String(row.moves));
    const parts = [
      row.user === "" ? "" : `by ${row.user}`,
      row.origin === null ? "" : `at ${row.origin}`,
      row.moves === null || row.moves === 0 ? "" : count(row.moves, "move"),
    ];
    say(this.#where, parts.filter((part) => part !== "").map((part) => ` · ${part}`).join(""));
  }
}

class RoomPart {
  readonly element: HTMLElement;
  readonly #counts = h("span", { className: "quiet" });
  readonly #chip = h("span", { className: "chip", data: { part: "state" } });
  readonly #problem = h("p", { className: "problem", hidden: true });
  readonly #users = h("ul", { className: "users", aria: { label: "Users" } });
  readonly #keyed: Keyed<StreamRow, StreamPart>;
  readonly #leave: HTMLButtonElement;
  readonly #enter: HTMLButtonElement;

  constructor(id: string, app: Console, failed: (error: Error) => void) {
    const streams = h("ul", { className: "streams", aria: { label: `Streams of ${id}` } });
    this.#leave = button("Leave", () => app.logins.get(id)?.room.logout(), failed, { data: { action: "logout" }, aria: { label: `Leave ${id}` } });
    this.#enter = button("Log in", async () => void (await app.login(id)), failed, { data: { action: "login" }, aria: { label: `Log in to ${id}` } });
    this.element = h("li", { className: "room", data: { session: `room ${id}` } },
      h("header", {}, h("h3", {}, id), this.#counts, this.#chip, this.#leave, this.#enter),
      this.#problem, this.#users, streams,
    );
    this.#keyed = new Keyed(
      streams,
      (row) => row.stream,
      (row) => new StreamPart(row, () => app.play(row.room, row.stream), failed),
      (part, row) => part.show(row),
    );
  }

  show({ users, login, streams }: RoomRow): void {
    say(this.#counts, [users === null ? "" : count(users, "user"), count(streams.length, "stream")].filter((part) => part !== "").join(", "));
    this.#keyed.show(streams);
    const state = login?.state ?? null;
    const inside = state !== null && state.number !== 0;
    this.#chip.hidden = state === null;
    this.#leave.hidden = !inside;
    this.#enter.hidden = inside;
    mark(this.element, "state", state === null ? null : String(state.number));
    mark(this.element, "stateName", state?.name ?? null);
    mark(this.element, "code", state === null ? null : String(state.code));
    mark(this.element, "roomSession", state?.session ?? null);
    mark(this.#chip, "tone", state === null ? null : state.number === 2 ? "good" : state.final ? "bad" : "warn");
    say(this.#chip, state === null ? "" : `${state.number} ${state.name}`);
    const text = state === null || state.code === 0 ? "" : `${state.code}: ${state.text}.${state.final ? ` ${advice(state.code)}` : ""}`;
    this.#problem.hidden = text === "";
    say(this.#problem, text);
    this.#showUsers(login !== null && inside ? [`${login.user} (you)`, ...login.room.users.map(({ user }) => user)] : []);
  }

  #showUsers(names: readonly string[]): void {
    const more = names.length - SHOWN_USERS;
    const shown = more > 0 ? [...names.slice(0, SHOWN_USERS), `and ${more} more`] : names;
    const same = shown.length === this.#users.childElementCount && shown.every((name, index) => this.#users.children[index]?.textContent === name);
    if (!same) this.#users.replaceChildren(...shown.map((name) => h("li", {}, name)));
  }
}

/** The panel. */
export class RoomsPanel {
  readonly #keyed: Keyed<RoomRow, RoomPart>;
  readonly #empty = h("p", { className: "quiet" }, "No room is in use. A room is there as soon as somebody logs in to it.");

  constructor(panel: HTMLElement, app: Console) {
    const room = h("input", { id: "login-room", value: "lobby", required: true, autocomplete: "off", spellcheck: false });
    const user = h("input", { id: "login-user", value: app.user, required: true, autocomplete: "off", spellcheck: false });
    user.onchange = () => { app.user = user.value.trim(); };
    const note = h("p", { className: "problem", hidden: true, role: "alert" });
    const failed = (error: Error) => { note.hidden = false; say(note, error.message); };
    const list = h("ul", { className: "rooms", id: "rooms-list" });
    const start = button("Log in", async () => {
      note.hidden = true;
      await app.login(room.value.trim());
    }, failed, { id: "login-start" });
    panel.append(h("h2", {}, "Rooms"), h("div", { className: "form" }, field("Room", room), field("Your name", user), start), note, this.#empty, list);
    this.#keyed = new Keyed(list, (row) => row.id, (row) => new RoomPart(row.id, app, failed), (part, row) => part.show(row));
  }

  show(rows: readonly RoomRow[]): void {
    this.#empty.hidden = rows.length > 0;
    this.#keyed.show(rows);
  }
}
