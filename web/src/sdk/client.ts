/** The client: what an app holds. */

import type {
  Client, ClientEvents, ClientOptions, Connection, LoginOptions, Media, NodeInfo, Player, PlayOptions, Publisher,
  PublishOptions, Room,
} from "./api";
import { Timers } from "./clock";
import { Emitter } from "./emitter";
import { idError, type StreamKey, streamKeyText } from "./machine/ids";
import { tracksOf } from "./media/outlet";
import { PlayerHandle } from "./player";
import { PublisherHandle } from "./publisher";
import { RoomHandle } from "./room";
import { Shell } from "./shell";

/** How long a closing client waits for coordinators and nodes to hear of it. */
const CLOSE_PATIENCE_MS = 2_000;

const DEFAULTS = { region: "", roomRetryTime: 20 * 60, avRetryTime: 300, maxRooms: 5, hedging: true };

/** A client of a cluster; see `Client`. */
export class WaystationClient extends Emitter<ClientEvents> implements Client {
  readonly #timers = new Timers();
  readonly #shell: Shell;
  #nodes: readonly NodeInfo[] = [];
  #connection: Connection = { state: "idle" };
  #closed: Promise<void> | undefined;

  /** Starts it. It connects with the first login. */
  constructor(options: ClientOptions) {
    super();
    const { coordinators, region, roomRetryTime, avRetryTime, maxRooms, hedging } = { ...DEFAULTS, ...options };
    if (coordinators.length === 0) throw new TypeError("no coordinator is named: give at least one address, such as http://10.0.0.5:7400");
    const settings = {
      coordinators,
      seed: crypto.getRandomValues(new BigUint64Array(1))[0] ?? 0n,
      roomRetryTime: roomRetryTime * 1_000,
      avRetryTime: avRetryTime * 1_000,
      maxRooms,
      hedging: hedging ? "on" : "off",
    } as const;
    this.#shell = new Shell(settings, randomName(), region, this.#timers, {
      nodes: (nodes) => this.emit("nodes", (this.#nodes = nodes)),
      connection: (connection) => {
        if (connection.state === "idle" && this.#connection.state === "idle") return;
        this.emit("connection", (this.#connection = connection));
      },
    });
  }

  get nodes(): readonly NodeInfo[] {
    return this.#nodes;
  }

  get connection(): Connection {
    return this.#connection;
  }

  get rooms(): ReadonlyMap<string, Room> {
    return this.#shell.rooms;
  }

  get publishers(): readonly Publisher[] {
    return [...this.#shell.publishers.values()].map(({ handle }) => handle);
  }

  get players(): readonly Player[] {
    return [...this.#shell.players.values()].map(({ handle }) => handle);
  }

  login({ room, token, notifyUsers = false }: LoginOptions): Room {
    this.#mustBeOpen();
    checkId("room", room);
    if (this.#shell.rooms.has(room)) throw new Error(`this client is logged in to room ${room}: log out first`);
    const handle = new RoomHandle(room, {
      renew: (userToken) => { if (this.#shell.rooms.get(room) === handle) this.#shell.post({ kind: "renewToken", room, userToken }); },
      logout: () => { if (this.#shell.rooms.get(room) === handle) this.#shell.post({ kind: "logout", room }); },
    });
    this.#shell.rooms.set(room, handle);
    this.#shell.post({ kind: "login", room, userToken: token, loginId: randomName(), notifyUsers });
    return handle;
  }

  publish(room: Room | string, stream: string, media: Media, options: PublishOptions = {}): Publisher {
    this.#mustBeOpen();
    const key = keyOf(room, stream);
    const { publishers } = this.#shell;
    const name = streamKeyText(key);
    if (publishers.has(name)) throw new Error(`${name} is being published by this client: stop that first`);
    const tracks = tracksOf(media);
    if (tracks.size === 0) throw new TypeError("nothing to publish: give an audio or a video track");
    const handle = new PublisherHandle(key, tracks, options, () => {
      if (publishers.get(name)?.handle === handle) this.#shell.post({ kind: "stopPublishing", key });
    });
    publishers.set(name, { handle });
    this.#shell.post({ kind: "publish", key });
    return handle;
  }

  play(key: string, options?: PlayOptions): Player;
  play(room: Room | string, stream: string, options?: PlayOptions): Player;
  play(roomOrKey: Room | string, streamOrOptions?: string | PlayOptions, last?: PlayOptions): Player {
    this.#mustBeOpen();
    const whole = typeof streamOrOptions !== "string";
    const key = whole ? parseKey(roomOrKey) : keyOf(roomOrKey, streamOrOptions);
    const options = (whole ? streamOrOptions : last) ?? {};
    if (options.audio === false && options.video === false) throw new TypeError("nothing to play: ask for audio or for video");
    const { players } = this.#shell;
    const name = streamKeyText(key);
    if (players.has(name)) throw new Error(`${name} is being played by this client: use that player`);
    const handle = new PlayerHandle(key, options, () => {
      if (players.get(name)?.handle === handle) this.#shell.post({ kind: "stopPlaying", key });
    });
    players.set(name, { handle });
    this.#shell.post({ kind: "play", key });
    return handle;
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    const patience = new Promise<void>((resolve) => this.#timers.after(CLOSE_PATIENCE_MS, resolve));
    await this.#shell.stop(patience);
    this.#timers.stop();
  }

  #mustBeOpen(): void {
    if (this.#closed !== undefined) throw new Error("the client is closed");
  }
}

/** 128 random bits. `crypto.randomUUID` is not there on pages without TLS. */
function randomName(): string {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function checkId(what: string, text: string): string {
  const error = idError(text);
  if (error !== undefined) throw new TypeError(`${what} id ${JSON.stringify(text)} is no id (${error.kind}): 1 to 128 bytes of letters, digits and -_.:@`);
  return text;
}

function keyOf(room: Room | string, stream: string): StreamKey {
  return { room: checkId("room", typeof room === "string" ? room : room.id), stream: checkId("stream", stream) };
}

function parseKey(text: Room | string): StreamKey {
  const [room, stream, ...rest] = typeof text === "string" ? text.split("/") : [];
  if (room === undefined || stream === undefined || rest.length > 0) throw new TypeError(`${String(text)} is not of the form room/stream`);
  return keyOf(room, stream);
}
