/**
 * Drives the machines: what happens goes in, what they want is done.
 *
 * Invariant: inputs are handled one by one and whole, also those that an app's listener causes; after `stop` none is.
 */

import type { Connection, NodeInfo } from "./api";
import { now, type Timers } from "./clock";
import { Client } from "./machine/client";
import type { Event } from "./machine/event";
import { type Action, type StreamKey, streamKeyText } from "./machine/ids";
import type { Input, Output, Settings } from "./machine/io";
import type { Instant } from "./machine/time";
import type { AttemptId } from "./machine/trial";
import type { Session } from "./media/session";
import type { PlayerHandle } from "./player";
import type { PublisherHandle } from "./publisher";
import type { RoomHandle } from "./room";
import { Control } from "./rpc/control";
import { Sessions } from "./sessions";
import { attemptEvent } from "./state";
import { type Used, Watch } from "./watch";

/** What the client tells its app besides. */
export interface Told {
  nodes(nodes: readonly NodeInfo[]): void;
  connection(connection: Connection): void;
}

/** A publisher or player, with the session that carries its media. */
interface Stream<Handle> {
  readonly handle: Handle;
  used?: Session;
}

/** Everything that moves. */
export class Shell {
  readonly rooms = new Map<string, RoomHandle>();
  readonly publishers = new Map<string, Stream<PublisherHandle>>();
  readonly players = new Map<string, Stream<PlayerHandle>>();
  readonly #machine: Client;
  readonly #control: Control;
  readonly #sessions: Sessions;
  readonly #watch: Watch;
  readonly #inputs: Input[] = [];
  #phase: "waiting" | "handling" | "stopped" = "waiting";
  /** The coordinator that was connected to last. */
  #dialled: string | undefined;
  #due: { readonly at: Instant; readonly cancel: () => void } | undefined;

  constructor(settings: Settings, clientId: string, region: string, private readonly timers: Timers, private readonly told: Told) {
    const input = (happened: Input) => this.handle(happened);
    this.#machine = new Client(settings);
    this.#control = new Control(clientId, region, timers, input);
    this.#sessions = new Sessions(timers, input);
    this.#watch = new Watch(timers, { sessions: () => this.#sessions, used: () => this.#used() });
  }

  /** The app wants something. It is done a moment later, so that the app can listen to what comes of it. */
  post(input: Input): void {
    queueMicrotask(() => this.handle(input));
  }

  /** Something happened. */
  handle(input: Input): void {
    if (this.#phase === "stopped") return;
    this.#inputs.push(input);
    if (this.#phase === "handling") return;
    this.#phase = "handling";
    for (let next = this.#inputs.shift(); next !== undefined; next = this.#inputs.shift()) {
      this.#notice(next);
      this.#machine.handle(next, now());
      for (let output = this.#machine.pollOutput(); output !== undefined; output = this.#machine.pollOutput()) this.#act(output);
      if (next.kind === "phase") this.#tellIdle(next.attempt);
    }
    this.#phase = "waiting";
    this.#wait();
  }

  /** Sets the timer. One that comes early is harmless, so only an earlier time sets it anew. */
  #wait(): void {
    const at = this.#machine.pollTimeout();
    if (at === undefined || (this.#due !== undefined && this.#due.at <= at)) return;
    this.#due?.cancel();
    const fired = () => {
      this.#due = undefined;
      this.handle({ kind: "timeout" });
    };
    this.#due = { at, cancel: this.timers.after(Math.ceil(at - now()), fired) };
  }

  /** Tells the app of what the machines keep to themselves. */
  #notice(input: Input): void {
    if (input.kind === "connectionLost") this.told.connection({ state: "idle" });
    if (input.kind === "told" && input.told.kind === "nodes") this.told.nodes(input.told.nodes);
    if (input.kind === "told" && input.told.kind === "welcome" && this.#dialled !== undefined) {
      this.told.connection({ state: "connected", url: this.#dialled });
    }
  }

  #act(output: Output): void {
    switch (output.kind) {
      case "connect":
        this.#dialled = output.url;
        this.told.connection({ state: "connecting", url: output.url });
        return this.#control.connect(output);
      case "disconnect":
        this.told.connection({ state: "idle" });
        return this.#control.disconnect(output);
      case "login": return this.#control.login(output);
      case "beat": return this.#control.beat(output);
      case "logout": return this.#control.logout(output);
      case "renewToken": return this.#control.renewToken(output);
      case "plan": return this.#control.plan(output);
      case "endStream": return this.#control.endStream(output);
      case "report": return this.#control.report(output);
      case "dial": return this.#dial(output);
      case "activate": return this.#sessions.activate(output);
      case "use": return this.#use(output.attempt, output.key, output.action);
      case "hang": return this.#hang(output.attempt);
      case "openEvents": return this.#sessions.openEvents(output);
      case "closeEvents": return this.#sessions.closeEvents(output.node);
      case "emit": return this.#emit(output.event);
    }
  }

  #publisher(key: StreamKey): Stream<PublisherHandle> | undefined {
    return this.publishers.get(streamKeyText(key));
  }

  #player(key: StreamKey): Stream<PlayerHandle> | undefined {
    return this.players.get(streamKeyText(key));
  }

  #dial(dial: Extract<Output, { kind: "dial" }>): void {
    const { attempt, key, action, moved } = dial;
    const attach = {
      publish: () => {
        const outlet = this.#publisher(key)?.handle.outlet;
        return outlet && ((peer: RTCPeerConnection) => outlet.attach(attempt, peer, moved !== undefined));
      },
      play: () => {
        const inlet = this.#player(key)?.handle.inlet;
        return inlet && ((peer: RTCPeerConnection) => inlet.attach(peer));
      },
    }[action]();
    if (attach === undefined) return this.handle({ kind: "failed", attempt, failure: { kind: "unneeded" } });
    try {
      this.#sessions.dial(dial, attach);
      this.#watch.start();
    } catch (error) {
      // The browser makes no more peer connections, or does not know a codec.
      const detail = error instanceof Error ? error.message : String(error);
      if (action === "publish") this.#publisher(key)?.handle.outlet.leave(attempt);
      this.handle({ kind: "failed", attempt, failure: { kind: "unreachable", detail } });
    }
  }

  #use(attempt: AttemptId, key: StreamKey, action: Action): void {
    const session = this.#sessions.get(attempt);
    if (session === undefined) return;
    switch (action) {
      case "publish": {
        const publisher = this.#publisher(key);
        if (publisher === undefined) return;
        const before = publisher.used;
        publisher.used = session;
        publisher.handle.outlet.use(attempt);
        if (before?.heardAt === undefined || before === session) return;
        const ms = Math.round(now() - before.heardAt);
        return publisher.handle.tellGap({ ms, kinds: {}, before: before.dial.node.node, after: session.dial.node.node });
      }
      case "play": {
        const player = this.#player(key);
        if (player === undefined) return;
        player.used = session;
        player.handle.inlet.use(session);
        return this.#tellIdle(attempt);
      }
    }
  }

  #hang(attempt: AttemptId): void {
    const dial = this.#sessions.get(attempt)?.dial;
    this.#sessions.hang(attempt);
    if (dial?.action === "publish") this.#publisher(dial.key)?.handle.outlet.leave(attempt);
    if (dial?.action === "play") this.#player(dial.key)?.handle.inlet.leave(attempt);
  }

  /** Tells a player that its session is idle, or is not any more. */
  #tellIdle(attempt: AttemptId): void {
    const session = this.#sessions.get(attempt);
    const player = session?.dial.action === "play" ? this.#player(session.dial.key) : undefined;
    if (session !== undefined && player?.used === session) player.handle.tellIdle(session.phase === "idle");
  }

  *#used(): Iterable<Used> {
    for (const { handle, used: session } of [...this.publishers.values(), ...this.players.values()]) {
      // One that was hung up is remembered for its end, and not looked at.
      if (session === undefined || this.#sessions.get(session.dial.attempt) !== session) continue;
      const gap = () => ("inlet" in handle ? handle.inlet.look() : undefined);
      yield { session, gap, tellGap: (found) => handle.tellGap(found), tellQuality: (found) => handle.tellQuality(found) };
    }
  }

  /** Tells the app. What has ended is let go first, so that the app can start it again at once. */
  #emit(event: Event): void {
    switch (event.kind) {
      case "room": case "users": case "streams": case "tokenExpiring": {
        const room = this.rooms.get(event.room);
        if (event.kind === "room" && event.state === "Disconnected") this.rooms.delete(event.room);
        return room?.tell(event);
      }
      case "publisher": {
        const publisher = this.#publisher(event.key);
        if (event.state === "NoPublish") this.publishers.delete(streamKeyText(event.key));
        return publisher?.handle.tellState(event);
      }
      case "player": {
        const player = this.#player(event.key);
        if (event.state === "NoPlay") this.players.delete(streamKeyText(event.key));
        return player?.handle.tellState(event);
      }
      case "attempt": {
        const of = event.action === "publish" ? this.#publisher(event.key) : this.#player(event.key);
        return of?.handle.tellAttempt(attemptEvent(event));
      }
      // Gaps are measured here, and not by the machines.
      case "gap":
        return;
    }
  }

  /** Ends everything. Resolves when coordinators and nodes were told, or when `patience` is. */
  async stop(patience: Promise<void>): Promise<void> {
    this.handle({ kind: "close" });
    this.#phase = "stopped";
    this.#due?.cancel();
    this.#due = undefined;
    this.#watch.stop();
    this.#sessions.stop();
    this.#control.stop();
    await Promise.race([patience, Promise.all([this.#control.finish(), this.#sessions.finish()])]);
  }
}
