/**
 * The whole client: rooms over one connection, publishers and players, each with its walk.
 *
 * It is pure: no clock, no socket, no randomness. Its shell does, after each `handle`, every output of `pollOutput`, then
 * waits for the next input or for `pollTimeout`.
 *
 * Invariant: inputs are handled one by one and whole; every output is pushed in the order in which it is to be done; the
 * same inputs at the same times give the same outputs.
 */

import { Control } from "./control";
import { unreachable, type NodeRef, type RoomId, type StreamKey } from "./ids";
import type { Input, Output, Settings } from "./io";
import { Lines, type Word } from "./lines";
import { earliest, type Instant } from "./time";
import { Wishes } from "./wishes";

/** The client's machines. */
export class Client {
  /** What the machines want, before it is looked through. */
  readonly #wishes = new Wishes();
  readonly #control: Control;
  readonly #lines = new Lines();
  readonly #outputs: Output[] = [];

  /** A client that is in no room. */
  constructor(settings: Settings) {
    this.#control = new Control(settings, this.#wishes);
  }

  /** Whether the client is in that room, or on its way in. */
  hasRoom(room: RoomId): boolean {
    return this.#control.hasRoom(room);
  }

  /** Whether the stream is being published. */
  publishes(key: StreamKey): boolean {
    return this.#control.streams.publishes(key);
  }

  /** Whether the stream is being played. */
  plays(key: StreamKey): boolean {
    return this.#control.streams.plays(key);
  }

  /** Something happened. */
  handle(input: Input, now: Instant): void {
    this.#act(input, now);
    this.#settle(now);
  }

  /** The next thing to be done. */
  pollOutput(): Output | undefined {
    return this.#outputs.shift();
  }

  /** When to call `handle` with the input `timeout`. */
  pollTimeout(): Instant | undefined {
    return earliest(this.#control.pollTimeout(), this.#lines.pollTimeout());
  }

  #act(input: Input, now: Instant): void {
    const control = this.#control;
    const streams = control.streams;
    switch (input.kind) {
      case "login": return control.login(input, now);
      case "logout": return control.logout(input.room, now);
      case "renewToken": return control.renewToken(input.room, input.userToken);
      case "publish": return streams.publish(input.key, now);
      case "stopPublishing": return streams.stopPublishing(input.key, now);
      case "play": return streams.play(input.key, now);
      case "stopPlaying": return streams.stopPlaying(input.key, now);
      case "close": return control.close(now);
      case "told": return control.told(input.connection, input.told, now);
      case "connectionLost": return control.connectionLost(input.connection, now);
      case "loginFailed": return control.loginFailed(input.connection, input.room, input.failure, now);
      case "beatAnswered": return control.beatAnswered(input.connection, input.answer, now);
      case "planned": return control.planned(input.request, input.answer, now);
      case "answered": return streams.nodeAnswered(input.attempt, now);
      case "up": return streams.up(input.attempt, now);
      case "media": return streams.media(input.attempt, now);
      case "heard": return streams.heard(input.attempt, input.at, now);
      case "phase": return streams.phase(input.attempt, input.phase, input.claim, now);
      case "failed": return streams.failed(input.attempt, input.failure, now);
      case "eventsUp": {
        const word = this.#lines.up(input.node, input.life);
        streams.eventsUp(input.node, now);
        return this.#nodeWord(input.node, word, now);
      }
      case "eventsLost": {
        const word = this.#lines.lost(input.node, input.loss, this.#outputs, now);
        return this.#nodeWord(input.node, word, now);
      }
      case "timeout": return this.#timeout(now);
      default: return unreachable(input);
    }
  }

  #nodeWord(node: NodeRef, word: Word, now: Instant): void {
    if (word !== "nothing") this.#control.streams.eachWalk({ kind: word, node }, now);
  }

  #timeout(now: Instant): void {
    this.#lines.timeout(this.#outputs, now);
    this.#control.timeout(now);
    this.#control.streams.timeout(now);
  }

  /** After each input: every wish passes by those whom it concerns, and what is due goes out. */
  #settle(now: Instant): void {
    for (const output of this.#wishes.take()) this.#pass(output);
    this.#control.connect(now);
    this.#outputs.push(...this.#wishes.take());
  }

  /** A dial opens the line to its node first; the end of the last attempt there closes it after. */
  #pass(output: Output): void {
    if (output.kind === "dial") {
      this.#control.streams.own(output);
      this.#lines.hold(output.attempt, output.node, this.#outputs);
    }
    this.#outputs.push(output);
    if (output.kind === "hang") {
      const owner = this.#control.streams.disown(output.attempt);
      if (owner !== undefined) this.#lines.release(output.attempt, owner.node, this.#outputs);
    }
  }
}
