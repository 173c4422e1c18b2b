/** A walk under random inputs: what must hold whatever happens, and in whatever order. */

import { expect, test } from "vitest";

import { Dice } from "../../src/sdk/machine/backoff";
import { Shared } from "../../src/sdk/machine/hedge";
import { unreachable } from "../../src/sdk/machine/ids";
import type { AttemptId, Failure } from "../../src/sdk/machine/trial";
import { Walk, type WalkInput, type WalkOutput } from "../../src/sdk/machine/walk";
import { node, ref } from "./words";

const STEPS = 150;
const FAILURES: readonly [Failure, ...Failure[]] = [
  { kind: "unreachable", detail: "" }, { kind: "notHere" }, { kind: "refused", detail: "" }, { kind: "down" },
  { kind: "closed", detail: "" }, { kind: "silent" },
];

/** What the shell would hold: the attempts that were dialled and not hung up, and the one in use. */
class World {
  readonly open = new Set<AttemptId>();
  last: AttemptId;
  inUse: AttemptId | undefined;
  ended = false;

  /** Of a walk that begins when `last` was the last attempt. */
  constructor(last: AttemptId) {
    this.last = last;
  }

  take(output: WalkOutput): void {
    expect(this.ended, "nothing follows the end").toBe(false);
    switch (output.kind) {
      case "dial":
        expect(output.attempt, "an id that was never used").toBe(this.last + 1);
        this.last = output.attempt;
        this.open.add(output.attempt);
        break;
      case "use":
        expect(this.open.has(output.attempt), "only what is open is used").toBe(true);
        this.inUse = output.attempt;
        break;
      case "hang":
        expect(this.open.delete(output.attempt), "hung up once").toBe(true);
        if (this.inUse === output.attempt) this.inUse = undefined;
        break;
      case "ended":
        this.ended = true;
        break;
      case "ask":
      case "tried":
      case "interrupted":
        break;
      default:
        unreachable(output);
    }
  }
}

class Chance {
  readonly #dice: Dice;

  constructor(seed: bigint) {
    this.#dice = new Dice(seed);
  }

  below(count: number): number {
    return this.#dice.between(0, count);
  }

  one<T>(...things: readonly [T, ...T[]]): T {
    return things[this.below(things.length)] ?? things[0];
  }

  input(walk: Walk, last: AttemptId, now: number): WalkInput {
    const { inUse, dialing } = walk.attempts();
    // Mostly what is there, sometimes what is long gone.
    const attempt = this.one(inUse ?? dialing, dialing ?? inUse, this.below(last + 2)) ?? last;
    const somebody = ref(this.one("a", "b", "c", "d"), BigInt(1 + this.below(2)));
    const failure: Failure = this.below(40) === 0 ? { kind: "higherClaim" } : this.one(...FAILURES);
    return this.one<WalkInput>(
      { kind: "timeout" }, { kind: "timeout" },
      { kind: "ready", attempt }, { kind: "ready", attempt },
      { kind: "heard", attempt, at: now - this.below(30) }, { kind: "heard", attempt, at: now },
      { kind: "failed", attempt, failure },
      { kind: "gone", node: somebody }, { kind: "suspect", node: somebody },
      { kind: "networkAnswered" }, { kind: "starved" }, { kind: "fed" },
      { kind: "nodes", nodes: ["a", "b", "c", "d"].slice(this.below(4)).map((id) => node(id, somebody.incarnation)) },
      this.below(30) === 0 ? { kind: "stop" } : { kind: "timeout" },
    );
  }
}

/** Some walks, one after the other. Gives what was said, for the comparison of two runs. */
function run(seed: bigint): readonly WalkOutput[] {
  const chance = new Chance(seed);
  const shared = new Shared(seed, chance.one("on", "on", "off"));
  const said: WalkOutput[] = [];
  let now = 0;
  let [world, walk] = [new World(0), new Walk(chance.one(0, 5_000, 300_000), now)];
  const feed = (input: WalkInput) => {
    walk.handle(input, shared, now);
    for (let output = walk.pollOutput(); output !== undefined; output = walk.pollOutput()) {
      world.take(output);
      said.push(output);
    }
    const { inUse, dialing } = walk.attempts();
    expect(inUse, "what is used is in its hands").toBe(world.inUse);
    const held = [inUse, dialing].filter((attempt) => attempt !== undefined);
    expect([...world.open].sort((a, b) => a - b), "what is open is in its hands").toEqual(held.sort((a, b) => a - b));
  };
  for (let step = 0; step < STEPS; step += 1) {
    if (world.ended) [world, walk] = [new World(world.last), new Walk(chance.one(0, 5_000, 300_000), now)];
    const due = walk.pollTimeout();
    const jump = chance.one(0, 1, chance.below(400), due === undefined ? 10 : due - now + chance.one(0, 0, 0, 150, 30_000));
    now += Math.max(0, jump);
    if (chance.below(3) === 0) shared.evidence.coordinator(now);
    feed(chance.input(walk, world.last, now));
    // A machine that keeps asking for the same time would spin its shell.
    for (let turn = 0; (walk.pollTimeout() ?? Infinity) <= now; turn += 1) {
      expect(turn, "time is taken note of").toBeLessThan(20);
      feed({ kind: "timeout" });
    }
  }
  return said;
}

test("whatever happens, every attempt is in the walk's hands or was hung up once, and time is taken note of", () => {
  // PUB-2, GO-2
  const seen = new Set<string>();
  for (let seed = 0n; seed < 100n; seed += 1n) {
    const said = (() => {
      try {
        return run(seed);
      } catch (error) {
        throw new Error(`seed ${seed}: ${String(error)}`, { cause: error });
      }
    })();
    for (const output of said) seen.add(output.kind === "ended" ? output.ending : output.kind);
  }
  // The inputs reach everything that a walk can say.
  expect([...seen].sort()).toEqual([
    "allFailed", "ask", "dial", "fenced", "gaveUp", "hang", "interrupted", "stopped", "tried", "use",
  ]);
});

test("the same seed and inputs lead to the same outputs", () => {
  for (let seed = 0n; seed < 20n; seed += 1n) expect(run(seed)).toEqual(run(seed));
});
