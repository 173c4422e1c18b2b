/**
 * Coordinators, as the client's machines want them reached. The only door to `@connectrpc`.
 *
 * Invariant: every call has a deadline. A connection that was let go tells nothing more.
 */

import { type Client, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";

import { RoomService } from "../../gen/waystation/v1/room_pb";
import { idError } from "../machine/ids";
import type { Answer, ConnectionId, Input, Output } from "../machine/io";
import type { Timers } from "../clock";
import { callFailure } from "./failure";
import { login, plan, proof, report, told, WireError } from "./wire";

/** For one call. A coordinator that lost its store's leader may hang; another will not. */
const CALL_TIMEOUT_MS = 2_000;

/** Coordinators whose clients are kept. */
const MAX_KEPT = 64;

type Do<Kind extends Output["kind"]> = Extract<Output, { kind: Kind }>;
type Coordinator = Client<typeof RoomService>;

/** Calls to coordinators. */
export class Control {
  readonly #coordinators = new Map<string, Coordinator>();
  readonly #connections = new Map<ConnectionId, AbortController>();
  readonly #calls = new Set<Promise<void>>();

  constructor(
    /** Constant for the client's life. */
    private readonly clientId: string,
    private readonly region: string,
    private readonly timers: Timers,
    private readonly input: (input: Input) => void,
  ) {}

  #at(url: string): Coordinator {
    let coordinator = this.#coordinators.get(url);
    if (coordinator === undefined) {
      const [oldest] = this.#coordinators.keys();
      if (oldest !== undefined && this.#coordinators.size >= MAX_KEPT) this.#coordinators.delete(oldest);
      // A page that is being left can still say goodbye.
      const kept: typeof fetch = (request, init) => fetch(request, { ...init, keepalive: true });
      const plain: typeof fetch = (request, init) => fetch(request, init);
      const stays = createClient(RoomService, createGrpcWebTransport({ baseUrl: url, fetch: plain }));
      const goodbyes = createClient(RoomService, createGrpcWebTransport({ baseUrl: url, fetch: kept }));
      coordinator = { ...stays, logout: goodbyes.logout, endStream: goodbyes.endStream };
      this.#coordinators.set(url, coordinator);
    }
    return coordinator;
  }

  /** Keeps track of a call until it is over. It must not reject. */
  #track(call: Promise<void>): void {
    this.#calls.add(call);
    void call.finally(() => this.#calls.delete(call));
  }

  /** Makes a call, and hands its answer on. */
  #ask<T>(call: (options: { timeoutMs: number }) => Promise<T>, answered: (answer: Answer<T>) => void): void {
    const ok = (value: T) => answered({ kind: "ok", value });
    const failed = (error: unknown) => answered({ kind: "error", failure: callFailure(error) });
    // An address that is no URL throws at once.
    this.#track(Promise.resolve().then(() => call({ timeoutMs: CALL_TIMEOUT_MS })).then(ok, failed));
  }

  /** Opens a `Connect` stream. */
  connect({ connection, url, logins }: Do<"connect">): void {
    const abort = new AbortController();
    this.#connections.set(connection, abort);
    const request = { clientId: this.clientId, connection: BigInt(connection), rooms: logins.map(login) };
    // The stream has no deadline, but its first event has.
    const cancel = this.timers.after(CALL_TIMEOUT_MS, () => abort.abort());
    const follow = async () => {
      try {
        for await (const event of this.#at(url).connect(request, { signal: abort.signal })) {
          cancel();
          if (abort.signal.aborted) break;
          this.#told(connection, event);
        }
      } catch {
        // However it ends, it is lost.
      }
      cancel();
      // Let go by the machine: it knows.
      if (this.#connections.get(connection) !== abort) return;
      this.#connections.delete(connection);
      this.input({ kind: "connectionLost", connection });
    };
    this.#track(follow());
  }

  #told(connection: ConnectionId, event: Parameters<typeof told>[0]): void {
    try {
      const known = told(event);
      if (known !== undefined) this.input({ kind: "told", connection, told: known });
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      console.warn(`waystation: an event of the coordinator is left out: ${error.message}`);
    }
  }

  /** Lets a `Connect` stream go. */
  disconnect({ connection }: Do<"disconnect">): void {
    const abort = this.#connections.get(connection);
    this.#connections.delete(connection);
    abort?.abort();
  }

  /** Adds a room to the open connection. */
  login({ connection, url, login: wanted }: Do<"login">): void {
    const request = { clientId: this.clientId, connection: BigInt(connection), room: login(wanted) };
    this.#ask((options) => this.#at(url).login(request, options), (answer) => {
      if (answer.kind === "error") this.input({ kind: "loginFailed", connection, room: wanted.room, failure: answer.failure });
    });
  }

  /** Says that the client lives. */
  beat({ connection, url, sessions }: Do<"beat">): void {
    const request = { clientId: this.clientId, connection: BigInt(connection), sessions: sessions.map(proof) };
    const call = async (options: { timeoutMs: number }) => {
      const { unknownRooms } = await this.#at(url).beat(request, options);
      return unknownRooms.filter((room) => idError(room) === undefined);
    };
    this.#ask(call, (answer) => this.input({ kind: "beatAnswered", connection, answer }));
  }

  /** Asks for a plan. */
  plan({ request, url, action, session, stream, failed }: Do<"plan">): void {
    const wanted = { session: proof(session), stream, region: this.region, failed: failed.map((node) => ({ ...node })) };
    const call = async (options: { timeoutMs: number }) => {
      const coordinator = this.#at(url);
      switch (action) {
        case "publish": return plan(await coordinator.planPublish(wanted, options));
        case "play": return plan(await coordinator.planPlay(wanted, options));
      }
    };
    this.#ask(call, (answer) => this.input({ kind: "planned", request, answer }));
  }

  /** Ends a login. */
  logout({ url, session }: Do<"logout">): void {
    this.#ask((options) => this.#at(url).logout({ session: proof(session) }, options), nobody);
  }

  /** Replaces a user token. */
  renewToken({ url, session, userToken }: Do<"renewToken">): void {
    this.#ask((options) => this.#at(url).renewToken({ session: proof(session), userToken }, options), nobody);
  }

  /** Gives a claim up. */
  endStream({ url, session, stream, epoch }: Do<"endStream">): void {
    this.#ask((options) => this.#at(url).endStream({ session: proof(session), stream, epoch }, options), nobody);
  }

  /** Tells what a walk saw. */
  report({ url, session, stream, trials }: Do<"report">): void {
    const request = { session: proof(session), stream, attempts: trials.map(report) };
    this.#ask((options) => this.#at(url).report(request, options), nobody);
  }

  /** Ends every connection. */
  stop(): void {
    for (const abort of this.#connections.values()) abort.abort();
    this.#connections.clear();
  }

  /** Resolves when every call is done. */
  async finish(): Promise<void> {
    await Promise.all(this.#calls);
  }
}

/** Some answers nobody awaits. */
function nobody(): void {}
