/** The retry clock, the ration of hedges, evidence, traces and plans. */

import { expect, test } from "vitest";

import { Dice } from "../../src/sdk/machine/backoff";
import { Evidence, Hedges } from "../../src/sdk/machine/hedge";
import type { Plan } from "../../src/sdk/machine/io";
import { Planner } from "../../src/sdk/machine/plan";
import { RetryClock } from "../../src/sdk/machine/retry";
import { Trace } from "../../src/sdk/machine/trial";
import { node, ref } from "./words";

const KEY = { room: "hall", stream: "s0" };

function plan(...nodes: readonly string[]): Plan {
  return { claim: undefined, nodeToken: "token", tokenValid: 60_000, nodes: nodes.map((id) => node(id)) };
}

test("the clock is reset only by ten seconds in state two", () => {
  // ROOM-6, PUB-4, PLAY-4
  const clock = new RetryClock(300_000, 0);
  clock.back(1_000);
  expect(clock.deadline()).toBeUndefined();
  clock.left(10_000);
  expect(clock.deadline(), "9 s were not enough").toBe(300_000);
  clock.back(20_000);
  clock.left(30_000);
  expect(clock.deadline()).toBe(330_000);
  expect([clock.expired(329_999), clock.expired(330_000)]).toEqual([false, true]);
});

test("a clock of no time at all never runs, for nothing is tried again", () => {
  // PUB-4
  const clock = new RetryClock(0, 0);
  expect([clock.retries(), clock.deadline(), clock.expired(1)]).toEqual([false, undefined, false]);
});

test("one node in ten seconds is hedged against, with all its streams", () => {
  // GO-2
  const hedges = new Hedges("on");
  expect(hedges.allowedAt(ref("a"), 0)).toBe(0);
  hedges.spend(ref("a"), 0);
  expect(hedges.allowedAt(ref("a"), 20), "another stream on the same node").toBe(20);
  hedges.spend(ref("a"), 20);
  expect(hedges.allowedAt(ref("b"), 20)).toBe(10_000);
  expect(hedges.allowedAt(ref("a", 2n), 20), "another life of the node").toBe(10_000);
  expect(hedges.allowedAt(ref("a"), 1_000)).toBe(10_000);
  expect(new Hedges("off").allowedAt(ref("a"), 0)).toBeUndefined();
});

test("a node's own answer is no evidence against it", () => {
  // PUB-2
  const evidence = new Evidence();
  evidence.node("a", 50);
  evidence.node("a", 40);
  expect(evidence.since("a", 0)).toBe(false);
  expect([evidence.since("b", 50), evidence.since("b", 51)]).toEqual([true, false]);
  evidence.coordinator(60);
  expect([evidence.since("a", 59), evidence.since("a", 60)], "what it said before the attempt").toEqual([true, false]);
  expect([evidence.anySince(60), evidence.anySince(61)]).toEqual([true, false]);
});

test("a trace keeps the newest trials and counts from the first one's start", () => {
  // PUB-3, GO-5
  const trace = new Trace();
  for (let attempt = 1; attempt <= 130; attempt += 1) {
    const failure = { kind: "refused", detail: "full" } as const;
    trace.push({
      attempt, node: ref("a", 7n), started: 1_000 + attempt, outcome: { kind: "failed", failure }, took: 4.5,
    });
  }
  trace.void(130);
  const entries = trace.entries();
  expect(entries).toHaveLength(128);
  expect(entries[0]).toEqual({
    attempt: 3, node: "a", incarnation: 7n, outcome: "refused", detail: "refused: full", at_ms: 0, took_ms: 4,
  });
  expect(entries[127]).toMatchObject({ attempt: 130, outcome: "void", detail: "void: refused: full", at_ms: 127 });
});

test("a plan that fails is asked for again with growing waits, and what is held stays", () => {
  // GO-1
  const [planner, dice] = [new Planner(0), new Dice(1n)];
  planner.asked(1, 0);
  planner.planned(plan("a", "b"), [], KEY, 0);
  expect(planner.pollTimeout(true), "half of the token's time").toBe(30_000);
  planner.timeout(dice, 30_000);
  expect(planner.isDue(30_000)).toBe(true);
  expect(planner.pollTimeout(false), "nobody to be asked").toBeUndefined();
  planner.asked(2, 30_000);
  expect([planner.awaits(1), planner.awaits(2), planner.pollTimeout(true)]).toEqual([false, true, 33_000]);
  planner.timeout(dice, 33_000);
  const first = planner.pollTimeout(true) ?? 0;
  expect(first).toBeGreaterThanOrEqual(33_100);
  expect(first).toBeLessThan(33_200);
  planner.asked(3, first);
  planner.failed(dice, first);
  expect(planner.pollTimeout(true)).toBeGreaterThanOrEqual(first + 200);
  expect([planner.token(), planner.order().map(({ node }) => node.id)]).toEqual(["token", ["a", "b"]]);
});

test("nodes that a plan lacks follow it, the healthy ones first and in the stream's meeting order", () => {
  // GO-1
  const planner = new Planner(0);
  const order = () => planner.order().map(({ node }) => node.id);
  const listed = ["relay-1", "relay-2", "relay-3", "relay-4"].map((id) => node(id));
  planner.planned(plan("relay-4"), [...listed, node("relay-0", 1n, "suspect")], KEY, 0);
  expect(order()).toEqual(["relay-4", "relay-3", "relay-2", "relay-1", "relay-0"]);
  planner.listed([], KEY);
  expect(order(), "a coordinator that knows no node yet").toHaveLength(5);
  planner.listed([node("relay-0"), node("relay-1"), node("relay-4", 9n)], KEY);
  expect(order()).toEqual(["relay-4", "relay-1", "relay-0"]);
  expect(planner.order()[0]?.node.incarnation, "its newest life").toBe(9n);
});

test("one call is under way at most, and what is not needed any more is not asked for", () => {
  // GO-1
  const [planner, dice] = [new Planner(0), new Dice(1n)];
  planner.content();
  expect(planner.isDue(0), "nothing is held yet").toBe(true);
  planner.asked(1, 0);
  planner.want(1);
  expect([planner.isDue(1), planner.awaits(1)]).toEqual([false, true]);
  planner.failed(dice, 1);
  planner.asked(2, 200);
  planner.planned(plan("a"), [], KEY, 200);
  planner.wantAgain(dice, 200);
  expect(planner.pollTimeout(true)).toBeGreaterThanOrEqual(1_200);
  planner.content();
  expect(planner.pollTimeout(true), "only the token's renewal").toBe(30_200);
  planner.asked(3, 300);
  planner.failed(dice, 300);
  expect(planner.pollTimeout(true), "an answer makes the waits short again").toBeLessThan(500);
});
