/** The walk alone: dialling, judging, resting, hedging. */

import { expect, test } from "vitest";

import type { Failure } from "../../src/sdk/machine/trial";
import { node, ref, Walker } from "./words";

const UNREACHABLE: Failure = { kind: "unreachable", detail: "refused" };

/** A walk over these nodes whose first attempt, 1, is in use since 0 ms. */
function attached(...ids: readonly string[]): Walker {
  const walker = new Walker(300_000);
  walker.tell({ kind: "nodes", nodes: ids.map((id) => node(id)) }, 0);
  walker.tell({ kind: "ready", attempt: 1 }, 0);
  return walker;
}

test("every node is dialled in order, each once, and then the walk ends with the whole trace", () => {
  // PUB-2, PUB-3
  const walker = new Walker(300_000);
  walker.shared.evidence.coordinator(0);
  expect(walker.tell({ kind: "nodes", nodes: [node("a"), node("b")] }, 0)).toEqual(["dial 1 a#1 active", "ask"]);
  expect(walker.tell({ kind: "failed", attempt: 1, failure: UNREACHABLE }, 1)).toEqual([
    "hang 1", "tried 1 unreachable: refused", "dial 2 b#1 active", "ask",
  ]);
  walker.shared.evidence.coordinator(2);
  expect(walker.walk.pollTimeout(), "the second attempt has its own two seconds").toBe(2_001);
  expect(walker.tell({ kind: "failed", attempt: 2, failure: UNREACHABLE }, 3)).toEqual([
    "hang 2", "tried 2 unreachable: refused", "ended allFailed",
  ]);
  expect(walker.walk.trace().trials().map(({ node }) => node.id)).toEqual(["a", "b"]);
  expect(walker.walk.pollTimeout()).toBeUndefined();
  expect(walker.tell({ kind: "nodes", nodes: [node("c")] }, 4), "nothing follows an end").toEqual([]);
});

test("failures while nobody answers are nobody's, and a sign of life ends the rest", () => {
  // PUB-2, PUB-4
  const walker = new Walker(300_000);
  walker.tell({ kind: "nodes", nodes: [node("a")] }, 0);
  const failed = walker.tell({ kind: "failed", attempt: 1, failure: UNREACHABLE }, 1);
  expect(failed, "it is not known yet whose fault it is").toEqual(["hang 1", "tried 1 unreachable: refused", "ask"]);
  expect(walker.wait()).toEqual({ now: 2_000, said: [] });
  expect(walker.walk.trace().entries().map(({ outcome }) => outcome)).toEqual(["void"]);
  expect(walker.walk.failedNodes()).toEqual([]);
  const rest = (walker.walk.pollTimeout() ?? 0) - 2_000;
  expect(rest).toBeGreaterThanOrEqual(100);
  expect(rest).toBeLessThan(200);
  expect(walker.coordinator(2_010)).toEqual(["dial 2 a#1 active", "ask"]);
});

test("a node that does not have the stream now is asked again after a short rest", () => {
  // PLAY-3
  const walker = new Walker(300_000);
  walker.tell({ kind: "nodes", nodes: [node("a")] }, 0);
  walker.tell({ kind: "failed", attempt: 1, failure: { kind: "notHere" } }, 10);
  const { now, said } = walker.wait();
  expect(now).toBeGreaterThanOrEqual(35);
  expect(now).toBeLessThan(60);
  expect(said).toEqual(["dial 2 a#1 active", "ask"]);
});

test("a node that restarted is dialled once more, and not twice", () => {
  // PUB-2
  const walker = new Walker(300_000);
  const refused: Failure = { kind: "refused", detail: "full" };
  walker.tell({ kind: "nodes", nodes: [node("a"), node("b")] }, 0);
  walker.tell({ kind: "failed", attempt: 1, failure: refused }, 1);
  walker.tell({ kind: "nodes", nodes: [node("a", 2n), node("b")] }, 2);
  expect(walker.tell({ kind: "failed", attempt: 2, failure: refused }, 3)).toContain("dial 3 a#2 active");
  walker.tell({ kind: "nodes", nodes: [node("a", 3n), node("b")] }, 4);
  expect(walker.tell({ kind: "failed", attempt: 3, failure: refused }, 5)).toContain("ended allFailed");
});

test("a proof of a higher claim ends the walk at once, though nodes are left", () => {
  // PUB-5
  const walker = new Walker(300_000);
  walker.tell({ kind: "nodes", nodes: [node("a"), node("b")] }, 0);
  expect(walker.tell({ kind: "failed", attempt: 1, failure: { kind: "higherClaim" } }, 1)).toEqual([
    "hang 1", "tried 1 fenced by a higher claim", "ended fenced",
  ]);
});

test("a silent node is left only for a session that is ready", () => {
  // GO-2
  const walker = attached("a", "b");
  const { now, said } = walker.wait();
  expect(now).toBeGreaterThanOrEqual(300);
  expect(now).toBeLessThan(340);
  expect(said).toEqual(["dial 2 b#1 standby"]);
  expect(walker.walk.attempts()).toEqual({ inUse: 1, dialing: 2 });
  expect(walker.tell({ kind: "ready", attempt: 2 }, now + 20)).toEqual([
    "tried 1 silent", "use 2 standby", "tried 2 used", "hang 1",
  ]);
});

test("a hedge is dropped when the first session speaks again", () => {
  // GO-2
  const walker = attached("a", "b");
  const { now } = walker.wait();
  walker.tell({ kind: "heard", attempt: 1, at: now + 5 }, now + 5);
  expect(walker.tell({ kind: "ready", attempt: 2 }, now + 20), "not silent for three beats").toEqual([]);
  expect(walker.tell({ kind: "heard", attempt: 1, at: now + 30 }, now + 30)).toEqual([
    "hang 2", "tried 2 not needed any more",
  ]);
  expect(walker.walk.attempts()).toEqual({ inUse: 1, dialing: undefined });
});

test("a lost session starts the walk again, with its node as the last", () => {
  // PUB-2, PLAY-2
  const walker = attached("a", "b");
  expect(walker.tell({ kind: "failed", attempt: 1, failure: { kind: "down" } }, 100)).toEqual([
    "hang 1", "tried 1 connection lost", "interrupted", "dial 2 b#1 active", "ask",
  ]);
  expect(walker.tell({ kind: "failed", attempt: 2, failure: { kind: "refused", detail: "full" } }, 101)).toContain(
    "dial 3 a#1 active",
  );
});

test("a timer that fires late proves that we slept, not that the node did", () => {
  // GO-2
  const walker = attached("a", "b");
  expect(walker.tell({ kind: "timeout" }, 60_000)).toEqual([]);
  expect(walker.walk.pollTimeout()).toBeGreaterThanOrEqual(60_300);
});

test("a word of suspicion starts a hedge within its jitter, and no second one", () => {
  // GO-2
  const walker = attached("a", "b");
  walker.tell({ kind: "heard", attempt: 1, at: 1_000 }, 1_000);
  walker.tell({ kind: "suspect", node: ref("a", 9n) }, 1_000);
  expect(walker.walk.pollTimeout(), "another life of the node").toBeGreaterThanOrEqual(1_300);
  walker.tell({ kind: "suspect", node: ref("a") }, 1_000);
  const due = walker.walk.pollTimeout();
  expect(due).toBeLessThan(1_200);
  walker.tell({ kind: "suspect", node: ref("a") }, 1_000);
  expect(walker.walk.pollTimeout()).toBe(due);
  expect(walker.wait().said).toEqual(["dial 2 b#1 standby"]);
});

test("a process that is gone is hedged against whatever the ration, and lost if it is silent and the only one", () => {
  // GO-2
  const walker = attached("a", "b");
  walker.shared.hedges.spend(ref("x"), 0);
  expect(walker.tell({ kind: "gone", node: ref("a") }, 10)).toEqual(["dial 2 b#1 standby"]);
  const alone = attached("a");
  expect(alone.tell({ kind: "gone", node: ref("a") }, 10), "its media still comes").toEqual([]);
  expect(alone.tell({ kind: "gone", node: ref("a") }, 200)).toContain("interrupted");
});

test("an answer to an old attempt changes nothing", () => {
  // PUB-2
  const walker = attached("a", "b");
  walker.tell({ kind: "failed", attempt: 1, failure: { kind: "down" } }, 100);
  const due = walker.walk.pollTimeout();
  expect(walker.tell({ kind: "ready", attempt: 1 }, 101)).toEqual([]);
  expect(walker.tell({ kind: "failed", attempt: 1, failure: { kind: "higherClaim" } }, 102)).toEqual([]);
  expect(walker.tell({ kind: "heard", attempt: 1, at: 103 }, 103)).toEqual([]);
  expect(walker.walk.pollTimeout()).toBe(due);
});

test("a walk that may not try again waits five seconds for its list", () => {
  // PUB-4
  const walker = new Walker(0);
  expect(walker.wait()).toEqual({ now: 5_000, said: ["ended gaveUp"] });
});

test("the retry clock ends whatever the walk is doing, and lets go of what it holds", () => {
  // PUB-4, PLAY-4
  const walker = new Walker(1_000);
  walker.tell({ kind: "nodes", nodes: [node("a")] }, 0);
  expect(walker.wait()).toEqual({ now: 1_000, said: ["hang 1", "tried 1 not needed any more", "ended gaveUp"] });
});
