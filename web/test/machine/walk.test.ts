/** The walk alone, with no session in use: dialling, judging, resting, the end. */

import { expect, test } from "vitest";

import type { Failure } from "../../src/sdk/machine/trial";
import { node, Walker } from "./words";

const UNREACHABLE: Failure = { kind: "unreachable", detail: "refused" };

test("every node is dialled in order, each once, and then the walk ends with the whole trace", () => {
  // PUB-2, PUB-3
  const walker = new Walker(300_000);
  expect(walker.tell({ kind: "nodes", nodes: [node("a"), node("b")] }, 0)).toEqual(["dial 1 a#1 active", "ask"]);
  walker.shared.evidence.coordinator(1);
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

test("a walk that may not try again does not rest either", () => {
  // PUB-4
  const walker = new Walker(0);
  walker.tell({ kind: "nodes", nodes: [node("a")] }, 0);
  walker.tell({ kind: "failed", attempt: 1, failure: UNREACHABLE }, 1);
  expect(walker.wait()).toEqual({ now: 2_000, said: ["ended gaveUp"] });
});

test("a node's refusal holds in the next round, and is forgotten after one in which nobody answered", () => {
  // PUB-4
  const walker = new Walker(300_000);
  walker.tell({ kind: "nodes", nodes: [node("a"), node("b"), node("c")] }, 0);
  walker.tell({ kind: "failed", attempt: 1, failure: { kind: "refused", detail: "full" } }, 1);
  expect(walker.wait().said, "a's answer counts against b").toContain("dial 3 c#1 active");
  expect(walker.wait().said, "nobody answered while c was dialled").toEqual(["hang 3", "tried 3 timed out"]);
  expect(walker.wait().said).toEqual(["dial 4 c#1 active", "ask"]);
  walker.wait();
  expect(walker.wait().said).toEqual(["dial 5 a#1 active", "ask"]);
});

test("rests grow from round to round, and are short again after a session", () => {
  // PUB-4
  const walker = new Walker(300_000);
  walker.tell({ kind: "nodes", nodes: [node("a")] }, 0);
  const rest = (attempt: number) => {
    const failed = walker.wait().now;
    const { now, said } = walker.wait();
    expect(said).toContain(`dial ${attempt + 1} a#1 active`);
    return { now, rested: now - failed };
  };
  const [first, second, third] = [rest(1), rest(2), rest(3)];
  expect(first.rested).toBeLessThan(200);
  expect(second.rested).toBeGreaterThanOrEqual(200);
  expect(third.rested).toBeGreaterThanOrEqual(400);
  walker.tell({ kind: "ready", attempt: 4 }, third.now);
  walker.tell({ kind: "failed", attempt: 4, failure: { kind: "down" } }, third.now);
  expect(rest(5).rested).toBeLessThan(200);
});

test("a coordinator's answer while the walk is judging makes the failures count", () => {
  // PUB-2, PUB-3
  const walker = new Walker(300_000);
  walker.tell({ kind: "nodes", nodes: [node("a")] }, 0);
  walker.tell({ kind: "failed", attempt: 1, failure: UNREACHABLE }, 1);
  expect(walker.coordinator(30)).toEqual(["ended allFailed"]);
});

test("who answers after a sleep says nothing of the time before it", () => {
  // PUB-2
  const walker = new Walker(300_000);
  walker.tell({ kind: "nodes", nodes: [node("a")] }, 0);
  walker.tell({ kind: "failed", attempt: 1, failure: UNREACHABLE }, 1);
  expect(walker.coordinator(60_000), "void: a is dialled again after a rest").toEqual([]);
  expect(walker.wait().said).toEqual(["dial 2 a#1 active", "ask"]);
});

test("a rest for a stream that is not here is ended by a new node, and by nothing less", () => {
  // PLAY-3
  const walker = new Walker(300_000);
  walker.tell({ kind: "nodes", nodes: [node("a")] }, 0);
  walker.tell({ kind: "failed", attempt: 1, failure: { kind: "notHere" } }, 10);
  expect(walker.coordinator(11)).toEqual([]);
  const due = walker.walk.pollTimeout();
  walker.tell({ kind: "nodes", nodes: [node("a")] }, 12);
  expect(walker.walk.pollTimeout(), "the same rest goes on").toBe(due);
  expect(walker.tell({ kind: "nodes", nodes: [node("a"), node("b")] }, 13)).toEqual(["dial 2 b#1 active", "ask"]);
});

test("nothing is hoped for from a node that has left the list", () => {
  // PUB-3
  const walker = new Walker(300_000);
  walker.tell({ kind: "nodes", nodes: [node("a"), node("b")] }, 0);
  walker.tell({ kind: "failed", attempt: 1, failure: { kind: "notHere" } }, 1);
  walker.tell({ kind: "nodes", nodes: [node("b")] }, 2);
  expect(walker.tell({ kind: "failed", attempt: 2, failure: { kind: "refused", detail: "full" } }, 3)).toContain(
    "ended allFailed",
  );
});

test("a node that took the session and never came up is not blamed for it by its own answer", () => {
  // PUB-2
  const walker = new Walker(300_000);
  walker.tell({ kind: "nodes", nodes: [node("a")] }, 0);
  walker.shared.evidence.node("a", 20);
  expect(walker.wait()).toEqual({ now: 2_000, said: ["hang 1", "tried 1 timed out"] });
  expect(walker.walk.trace().entries().map(({ outcome }) => outcome)).toEqual(["void"]);
});
