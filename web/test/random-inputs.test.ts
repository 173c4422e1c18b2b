/**
 * The machines under any inputs in any order, late answers among them: nothing is thrown, and what always holds holds.
 *
 * Inputs are lines of the transcripts' language, so that a case that fails reads as one.
 */

import { expect, test } from "vitest";

import {
  Client, compareClaim, streamKeyText, unreachable,
  type Claim, type Event, type Input, type Output, type Settings,
} from "../src/sdk/machine";
import { Dice } from "../src/sdk/machine/backoff";
import { held, total } from "./overnight/held";
import { parse } from "./transcripts/words/read";
import { show } from "./transcripts/words/write";

const CASES = 60;
/** Lines, or stories, of a case. */
const STEPS = 60;

/** Entries of a machine with two rooms, four streams and four nodes, and all their traces full: 128 trials, kept twice. */
const MOST_HELD = 4 * 2 * 128 + 500;

/** Outputs of one input: a room's streams, each with a hang, a dial and what goes with them, are far fewer. */
const MOST_OUTPUTS = 30;

/** Lines that follow each other, so that a case comes to sessions that work and can be lost. */
const STORIES = [
  ["login hall tok", "welcome $C http://c1", "roomup $C hall s1 x:1 streams=mic:ann:s2:1", "nodes $C a b c", "beat $C ok"],
  ["publish hall/cam", "plan $R ok claim=1.0 a b c", "answered $A", "up $A", "phase $A flowing", "heard $A"],
  ["play hall/mic", "plan $R ok a b c", "answered $A", "up $A", "media $A", "heard $A"],
  ["eventsup a", "heard $A", "eventslost a broken", "eventslost a refused", "up $A", "phase $A flowing 1.9"],
  ["up $A", "media $A", "heard $A", "fail $A closed", "up $A", "media $A"],
  ["lost $C", "welcome $C http://c2", "roomup $C hall s1 x:2", "plan $R ok claim=1.0 b c a"],
];

const APP = [
  "login hall tok", "login hall tok notify", "login attic tok", "logout hall", "logout attic", "renew hall tok2",
  "publish hall/cam", "publish attic/cam", "unpublish hall/cam", "play hall/cam", "play hall/mic", "unplay hall/mic",
  "close",
];

const COORDINATOR = [
  "welcome $C http://c1 http://c2", "welcome $C http://c3", "roomup $C hall s1 x:1 streams=mic:ann:s2:1",
  "roomup $C hall s1 y:3", "roomup $C attic s3 x:2", "nodes $C a b c", "nodes $C a#2 b", "nodes $C b! c", "nodes $C",
  "plan $R ok claim=1.0 a b c", "plan $R ok claim=2.7 valid=2000 c a", "plan $R ok a b c", "plan $R ok", "beat $C ok",
  "beat $C ok",
];

const TROUBLE = [
  "lost $C", "tryother $C", "suspect $C a", "suspect $C b", "beat $C failed", "beat $C notconnected", "beat $C ok hall",
  "roomdown $C hall 1002050", "roomdown $C attic 0", "loginfailed $C hall 1002033", "loginfailed $C hall failed",
  "plan $R failed", "plan $R notconnected", "plan $R 1003028", "plan $R 1004002", "expiring $C hall 30",
  "change $C hall x:2 -stream mic:ann:s2:1", "change $C hall x:3 +stream mic:ann:s2:2 +user ann:s2",
];

const SESSION = [
  "answered $A", "up $A", "up $A", "media $A", "heard $A", "heard $A", "phase $A idle", "phase $A flowing",
  "phase $A flowing 1.1", "phase $A originlost", "phase $A standby", "eventsup a", "eventsup b", "eventsup c",
  "eventsup a a#2",
];

const FAILURE = [
  "fail $A unreachable", "fail $A timedout", "fail $A nothere", "fail $A higherclaim", "fail $A tokenrefused",
  "fail $A refused", "fail $A down", "fail $A closed", "eventslost a broken", "eventslost b refused",
  "eventslost c noanswer",
];

/** A line, and when it comes. `$A`, `$C` and `$R` are the latest attempt, connection and request, or one before it. */
interface Line {
  readonly afterMs: number;
  /** Whether the machine is told of the times that it asks for on the way. */
  readonly timers: boolean;
  readonly back: number;
  readonly text: string;
}

/** What a case is made of, drawn from its number. */
class Draw {
  readonly #dice: Dice;

  constructor(seed: number) {
    this.#dice = new Dice(BigInt(seed));
  }

  between(low: number, high: number): number {
    return this.#dice.between(low, high);
  }

  one<T>(items: readonly T[]): T {
    const item = items[this.between(0, items.length)];
    if (item === undefined) throw new RangeError("nothing to draw from");
    return item;
  }

  /** One of some choices, each as often as its weight says. */
  weighted<T>(choices: readonly (readonly [number, T])[]): T {
    return this.one(choices.flatMap(([weight, choice]) => Array.from({ length: weight }, () => choice)));
  }

  settings(): Settings {
    const retry = (): number => this.weighted([[1, 0], [1, 5_000], [4, 300_000]]);
    return {
      coordinators: ["http://c1", "http://c2"],
      seed: BigInt(this.between(0, 1_000_000)),
      roomRetryTime: retry(),
      avRetryTime: retry(),
      maxRooms: 2,
      hedging: this.one(["on", "off"] as const),
    };
  }

  /** One line, or some that follow each other. */
  lines(): readonly Line[] {
    if (this.between(0, 3) === 0) return this.one(STORIES).map((text) => this.#line(text, this.between(1, 20), 0));
    const [from, to] = this.weighted([[8, [0, 20]], [6, [20, 400]], [4, [400, 3_000]], [1, [3_000, 60_000]]] as const);
    const back = this.weighted([[5, 0], [2, 1], [1, this.between(2, 6)]]);
    const text = this.one(this.weighted([[1, APP], [6, COORDINATOR], [2, TROUBLE], [8, SESSION], [4, FAILURE]]));
    return [this.#line(text, this.between(from, to), back)];
  }

  #line(text: string, afterMs: number, back: number): Line {
    return { afterMs, timers: this.between(0, 10) < 8, back, text };
  }
}

function check(holds: boolean, what: string): void {
  if (!holds) throw new Error(what);
}

function ofAStream(output: Output): boolean {
  switch (output.kind) {
    case "dial":
    case "use":
    case "hang":
    case "activate":
      return true;
    case "emit":
      return ["publisher", "player", "attempt"].includes(output.event.kind);
    default:
      return false;
  }
}

/** What the outputs add up to. A stream is `publish` or `play` and its key. */
class Driven {
  readonly said: string[] = [];
  /** Of outputs that came. */
  readonly kinds = new Set<Output["kind"]>();
  readonly client: Client;
  #now = 0;
  readonly #latest = { attempt: 0, connection: 0, request: 0 };
  /** Attempts that are dialled and not hung up. */
  readonly #live = new Map<number, string>();
  readonly #used = new Map<string, number>();
  readonly #claims = new Map<string, Claim>();
  /** Streams whose machines have not ended. */
  readonly #open = new Set<string>();

  constructor(settings: Settings) {
    this.client = new Client(settings);
  }

  line({ afterMs, timers, back, text }: Line): void {
    const to = this.#now + afterMs;
    if (timers) this.#advance(to);
    this.#now = to;
    const { attempt, connection, request } = this.#latest;
    const resolved = [["$A", attempt], ["$C", connection], ["$R", request]] as const;
    const said = resolved.reduce((said, [name, latest]) => said.replace(name, `${Math.max(0, latest - back)}`), text);
    this.said.push(`@${this.#now} ${said}`);
    const over = text.includes("$A") && !this.#live.has(Math.max(0, attempt - back));
    const input = parse(said.split(" "), this.#now);
    if (input === undefined) throw new Error(`no input: ${said}`);
    const outputs = this.#handle(input);
    // What was due at this time anyway may come: nothing of a stream.
    check(!over || !outputs.some(ofAStream), "an answer to an attempt that is over changes a stream");
  }

  #advance(to: number): void {
    const MOST_JUMPS = 200_000;
    const MOST_AT_ONCE = 50;
    let atOnce = 0;
    for (let jumps = 0; jumps < MOST_JUMPS; jumps += 1) {
      const due = this.client.pollTimeout();
      if (due === undefined || due > to) return;
      atOnce = due <= this.#now ? atOnce + 1 : 0;
      check(atOnce < MOST_AT_ONCE, "it asks for the same time again and again");
      this.#now = Math.max(this.#now, due);
      this.#handle({ kind: "timeout" });
    }
    throw new Error("it asks for too many times");
  }

  #handle(input: Input): readonly Output[] {
    this.client.handle(input, this.#now);
    const outputs: Output[] = [];
    for (let output = this.client.pollOutput(); output !== undefined; output = this.client.pollOutput()) {
      this.said.push(`  ${this.#now} ${show(output)}`);
      this.kinds.add(output.kind);
      this.#output(output);
      outputs.push(output);
    }
    check(outputs.length <= MOST_OUTPUTS, `${outputs.length} outputs of one input`);
    for (const stream of this.#open) {
      const sessions = [...this.#live.values()].filter((of) => of === stream).length;
      check(sessions <= 2, `${stream} has ${sessions} sessions: one in use, and a hedge, are all that may be`);
    }
    check(this.#open.size === 0 || this.client.pollTimeout() !== undefined, "an open stream has a deadline");
    return outputs;
  }

  #output(output: Output): void {
    switch (output.kind) {
      case "connect":
        check(output.connection > this.#latest.connection, "connection numbers rise");
        this.#latest.connection = output.connection;
        break;
      case "plan":
        this.#latest.request = output.request;
        this.#planned(`${output.action} ${output.session.room}/${output.stream}`);
        break;
      case "dial":
        check(output.attempt > this.#latest.attempt, "attempt ids are fresh");
        check(output.nodeToken !== "", "no dial without a token");
        this.#latest.attempt = output.attempt;
        this.#live.set(output.attempt, `${output.action} ${streamKeyText(output.key)}`);
        break;
      case "use": {
        const stream = `${output.action} ${streamKeyText(output.key)}`;
        check(this.#live.get(output.attempt) === stream, "what is used is live");
        this.#used.set(stream, output.attempt);
        break;
      }
      case "hang": {
        const stream = this.#live.get(output.attempt);
        check(stream !== undefined, `${output.attempt} was hung up before`);
        this.#live.delete(output.attempt);
        if (stream !== undefined && this.#used.get(stream) === output.attempt) this.#used.delete(stream);
        break;
      }
      case "activate":
        this.#activated(output.attempt, output.claim);
        break;
      case "emit":
        this.#emitted(output.event);
        break;
      case "disconnect":
      case "login":
      case "beat":
      case "logout":
      case "renewToken":
      case "endStream":
      case "report":
      case "openEvents":
      case "closeEvents":
        break;
      default:
        unreachable(output);
    }
  }

  #planned(stream: string): void {
    check(this.#open.has(stream), "a plan for a stream that is over");
  }

  #emitted(event: Event): void {
    if (event.kind === "publisher") this.#stands(`publish ${streamKeyText(event.key)}`, event.state);
    if (event.kind === "player") this.#stands(`play ${streamKeyText(event.key)}`, event.state);
  }

  #activated(attempt: number, claim: Claim): void {
    const stream = this.#live.get(attempt) ?? "";
    const before = this.#claims.get(stream);
    // The same one may be sent again.
    check(before === undefined || compareClaim(before, claim) <= 0, "claims rise");
    this.#claims.set(stream, claim);
  }

  #stands(stream: string, state: string): void {
    if (state === "NoPublish" || state === "NoPlay") {
      check(this.#open.delete(stream), `${stream} ends twice`);
      check(![...this.#live.values()].includes(stream), `${stream} ends and leaves a session up`);
      this.#claims.delete(stream);
      return;
    }
    this.#open.add(stream);
    const works = state === "Publishing" || state === "Playing";
    check(!works || this.#used.has(stream), `${stream} works and uses no session`);
  }
}

/** Runs a case. One that fails is told as a transcript. */
async function run(seed: number, after: (driven: Driven) => Promise<void> | void = () => undefined): Promise<Driven> {
  const draw = new Draw(seed);
  const driven = new Driven(draw.settings());
  try {
    for (let step = 0; step < STEPS; step += 1) {
      for (const line of draw.lines()) driven.line(line);
      await after(driven);
    }
  } catch (error) {
    throw new Error(`case ${seed}: ${String(error)}\n${driven.said.join("\n")}`, { cause: error });
  }
  return driven;
}

test("no order of inputs breaks what always holds", { timeout: 30_000 }, async () => {
  // PUB-2, PUB-3, PLAY-2, PLAY-3, PUB-11
  const kinds = new Set<string>();
  for (let seed = 0; seed < CASES; seed += 1) (await run(seed)).kinds.forEach((kind) => kinds.add(kind));
  expect([...kinds].sort(), "the cases come to everything that a machine can want").toEqual([
    "activate", "beat", "closeEvents", "connect", "dial", "disconnect", "emit", "endStream", "hang", "login", "logout",
    "openEvents", "plan", "renewToken", "report", "use",
  ]);
});

test("the same inputs at the same times give the same outputs", async () => {
  for (let seed = 0; seed < CASES; seed += 20) expect((await run(seed)).said).toEqual((await run(seed)).said);
});

test("whatever inputs come, what the machine holds is bounded", { timeout: 30_000 }, async () => {
  const counts: number[] = [];
  for (let seed = 0; seed < CASES; seed += 15) {
    let steps = 0;
    await run(seed, async ({ client }) => {
      steps += 1;
      if (steps % 10 === 0) counts.push(total(await held(client)));
    });
  }
  expect(Math.max(...counts), "some machine was at work").toBeGreaterThan(30);
  expect(Math.max(...counts)).toBeLessThanOrEqual(MOST_HELD);
});
