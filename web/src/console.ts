/**
 * The page's client: its logins, publishers and players, and who hears of them.
 *
 * Invariant: every session on the page is in `sessions`, every login in `logins`, until the person takes it off.
 */

import type { Access } from "./access";
import { type Choice, open, pictures, sounds } from "./picture/choice";
import { type Client, devices, type Kind, type PublishOptions, type Room, type RoomState, watchDevices } from "./sdk";
import { PlayerSession } from "./sessions/player";
import { PublisherSession, type Sources, stopAll, tracksOf } from "./sessions/publisher";
import { connected, type Page, type Session } from "./sessions/session";
import { connectionSentence, roomSentence, type Sentence } from "./timeline/sentences";
import { count, list } from "./ui/format";

/** Most publishers and players on the page at once. */
const MAX_SESSIONS = 16;

/** A login, and how it stands. */
export interface Login {
  readonly room: Room;
  readonly user: string;
  state: RoomState;
}

/** What a person asks to be published. */
export interface Wanted {
  readonly room: string;
  readonly stream: string;
  /** What to open for each kind; a kind that is not there is not published. */
  readonly choice: Readonly<Record<Kind, string>>;
  readonly options: PublishOptions;
}

/** What the console needs from the page around it. */
export interface Surroundings {
  readonly client: Client;
  readonly access: Access;
  /** Kills a node; `null` where the page may not. */
  readonly kill: ((node: string) => Promise<void>) | null;
  /** Where cards go. */
  readonly cards: HTMLElement;
  tell(sentence: Sentence | null): void;
  /** Something changed that panels show. */
  changed(): void;
}

/** The page's client. */
export class Console implements Page {
  readonly sessions: Session[] = [];
  readonly logins = new Map<string, Login>();
  /** Whom the next login is for. */
  user: string;
  /** What may be published, by kind. */
  choices: Readonly<Record<Kind, readonly Choice[]>> = { video: [["test", "Test picture"]], audio: [["tone", "Tone"]] };

  constructor(private readonly around: Surroundings, user: string) {
    this.user = user;
    let before = around.client.connection;
    around.client.on("connection", (now) => {
      around.tell(connectionSentence(before, now, [...this.logins.values()].some(({ state }) => state.number !== 0)));
      before = now;
    });
    // Without a secure address there are no devices, and nothing to watch.
    if (navigator.mediaDevices !== undefined) watchDevices(() => void this.lookForDevices());
    void this.lookForDevices();
  }

  get kill(): Page["kill"] {
    return this.around.kill;
  }

  tell(sentence: Sentence | null): void {
    this.around.tell(sentence);
  }

  changed(): void {
    this.around.changed();
  }

  forget(session: Session): void {
    const at = this.sessions.indexOf(session);
    if (at >= 0) this.sessions.splice(at, 1);
    // Whoever stopped it by the keyboard goes on from where the cards are.
    const focused = session.element.contains(document.activeElement);
    session.element.remove();
    if (focused) this.around.cards.closest("section")?.focus();
    this.changed();
  }

  /** The login to a room: the one that is there, or a new one. */
  async login(id: string): Promise<Room> {
    const there = this.logins.get(id);
    if (there !== undefined && there.state.number !== 0) return connected(there.room);
    const { client, access } = this.around;
    const room = client.login({ room: id, token: await access.token(id, this.user), notifyUsers: true });
    this.#watch(room);
    return connected(room);
  }

  #watch(room: Room): void {
    const login: Login = { room, user: this.user, state: room.state };
    this.logins.set(room.id, login);
    if (login.state.number === 1) this.tell(roomSentence(room.id, null, login.state));
    room.on("state", (now) => {
      const before = login.state;
      login.state = now;
      if (before.number !== now.number || before.code !== now.code) this.tell(roomSentence(room.id, before, now));
      // A failure stays on the page until the person has seen it.
      if (now.number === 0 && !now.final && this.logins.get(room.id) === login) this.logins.delete(room.id);
      this.changed();
    });
    room.on("users", ({ change, entries }) => {
      const users = list(entries.map(({ user }) => user));
      this.tell({ tone: "info", text: `Room ${room.id}: ${users} ${change === "add" ? "came in" : "left"}.` });
      this.changed();
    });
    room.on("streams", ({ change, entries }) => {
      const names = list(entries.map(({ stream, user }) => `${stream} (by ${user})`));
      const text = change === "add" ? `has ${count(entries.length, "new stream")}: ${names}` : `lost ${count(entries.length, "stream")}: ${names}`;
      this.tell({ tone: "info", text: `Room ${room.id} ${text}.` });
      this.changed();
    });
    room.on("tokenExpiring", () => void this.#renew(login));
    this.changed();
  }

  async #renew({ room, user }: Login): Promise<void> {
    try {
      room.renew(await this.around.access.token(room.id, user));
    } catch (error) {
      this.tell({ tone: "bad", text: `Room ${room.id}: no new token, ${(error as Error).message}. Log in again.` });
    }
  }

  /** Publishes what is wanted. */
  async publish(wanted: Wanted): Promise<void> {
    this.#admit(`publish ${wanted.room}/${wanted.stream}`);
    const sources: Sources = {};
    try {
      // Devices first: browsers tie them to the person's click.
      for (const kind of ["video", "audio"] as const) {
        if (wanted.choice[kind] !== "") sources[kind] = await open(kind, wanted.choice[kind], `${wanted.room}/${wanted.stream}`);
      }
      if (Object.keys(sources).length === 0) throw new Error("There is nothing to publish: choose a picture or a sound.");
      const room = await this.login(wanted.room);
      const publisher = this.around.client.publish(room, wanted.stream, tracksOf(sources), wanted.options);
      const session = new PublisherSession(publisher, sources, wanted.choice, this, () => this.publish(wanted));
      session.offer(this.choices);
      this.#show(session);
    } catch (error) {
      stopAll(sources);
      throw error;
    }
    void this.lookForDevices();
  }

  /** Plays a stream. One that is played already is shown. */
  async play(roomId: string, stream: string): Promise<void> {
    const id = `play ${roomId}/${stream}`;
    const there = this.sessions.find(({ element, state }) => element.dataset["session"] === id && state.number !== 0);
    if (there !== undefined) return there.element.scrollIntoView({ behavior: "smooth", block: "nearest" });
    this.#admit(id);
    const room = await this.login(roomId);
    this.#show(new PlayerSession(this.around.client.play(room, stream), this, () => this.play(roomId, stream)));
  }

  /** Makes place for a session: what ended under this name goes. */
  #admit(id: string): void {
    const there = this.sessions.find(({ element }) => element.dataset["session"] === id);
    if (there !== undefined && there.state.number === 0) this.forget(there);
    else if (there !== undefined) throw new Error(`This page does that already: ${id}. Choose another stream id, or stop it first.`);
    if (this.sessions.length >= MAX_SESSIONS) throw new Error(`This page holds ${MAX_SESSIONS} publishers and players: stop one first.`);
  }

  #show(session: Session): void {
    this.sessions.push(session);
    this.around.cards.append(session.element);
    this.changed();
  }

  /** Looks which cameras and microphones there are. */
  async lookForDevices(): Promise<void> {
    try {
      const found = await devices();
      this.choices = { video: pictures(found), audio: sounds(found) };
    } catch {
      // No secure address, no devices: the test picture is left.
    }
    for (const session of this.sessions) if (session instanceof PublisherSession) session.offer(this.choices);
    this.changed();
  }
}
