/** The walk with a session in use: silence, suspicion, hedges, a loss. */

import { expect, test } from "vitest";

import type { Failure } from "../../src/sdk/machine/trial";
import { node, ref, Walker } from "./words";

const DOWN: Failure = { kind: "down" };
const FULL: Failure = { kind: "refused", detail: "full" };

/** A walk over these nodes whose first attempt, 1, is in use since 0 ms. */
function attached(...ids: readonly string[]): Walker {
  const walker = new Walker(300_000);
  walker.tell({ kind: "nodes", nodes: ids.map((id) => node(id)) }, 0);
  walker.tell({ kind: "ready", attempt: 1 }, 0);
  return walker;
}

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

test("a session forgives: after it every node is dialled again, and the trace starts anew", () => {
  // PUB-2
  const walker = new Walker(300_000);
  walker.tell({ kind: "nodes", nodes: [node("a"), node("b")] }, 0);
  walker.tell({ kind: "failed", attempt: 1, failure: FULL }, 1);
  walker.tell({ kind: "ready", attempt: 2 }, 2);
  expect(walker.tell({ kind: "failed", attempt: 2, failure: DOWN }, 50)).toContain("dial 3 a#1 active");
  expect(walker.walk.trace().trials().map(({ attempt }) => attempt)).toEqual([2]);
});

test("a hedge that failed is no verdict any more once the session in use has spoken", () => {
  // GO-2
  const walker = attached("a", "b");
  const { now } = walker.wait();
  expect(walker.tell({ kind: "failed", attempt: 2, failure: FULL }, now)).toEqual(["hang 2", "tried 2 refused: full"]);
  expect(walker.walk.failedNodes()).toEqual([ref("b")]);
  walker.tell({ kind: "heard", attempt: 1, at: now + 1 }, now + 1);
  expect(walker.walk.failedNodes()).toEqual([]);
});

test("with no node left to hedge to, the next look is ten seconds later, but a loss is a loss", () => {
  // GO-2
  const walker = attached("a");
  expect(walker.wait().said).toEqual([]);
  expect(walker.walk.pollTimeout()).toBe(2_000);
  expect(walker.wait().said.slice(0, 3)).toEqual(["hang 1", "tried 1 silent", "interrupted"]);
});

test("a hedge that is ready twice is not younger for it", () => {
  // GO-2
  const walker = attached("a", "b");
  const { now } = walker.wait();
  walker.tell({ kind: "heard", attempt: 1, at: now + 5 }, now + 5);
  walker.tell({ kind: "ready", attempt: 2 }, now + 10);
  walker.tell({ kind: "ready", attempt: 2 }, now + 40);
  expect(walker.tell({ kind: "heard", attempt: 1, at: now + 30 }, now + 41)).toContain("hang 2");
});

test("a node that lost to its hedge is the last of the list", () => {
  // GO-2
  const walker = attached("a", "b", "c");
  const { now } = walker.wait();
  walker.tell({ kind: "ready", attempt: 2 }, now);
  expect(walker.tell({ kind: "failed", attempt: 2, failure: DOWN }, now + 1)).toContain("dial 3 c#1 active");
});

test("a hedge under way becomes the first attempt of the walk when the session is lost", () => {
  // GO-2, PUB-2
  const walker = attached("a", "b");
  const { now } = walker.wait();
  expect(walker.tell({ kind: "failed", attempt: 1, failure: DOWN }, now)).toEqual([
    "hang 1", "tried 1 connection lost", "interrupted",
  ]);
  expect(walker.tell({ kind: "ready", attempt: 2 }, now + 1)).toEqual(["use 2 standby", "tried 2 used"]);
});

test("a proof of a higher claim ends a move too, though its hedge is ready", () => {
  // PUB-5
  const walker = attached("a", "b");
  const { now } = walker.wait();
  walker.tell({ kind: "heard", attempt: 1, at: now + 5 }, now + 5);
  walker.tell({ kind: "ready", attempt: 2 }, now + 10);
  expect(walker.tell({ kind: "failed", attempt: 1, failure: { kind: "higherClaim" } }, now + 11)).toEqual([
    "tried 1 fenced by a higher claim", "hang 1", "hang 2", "tried 2 not needed any more", "ended fenced",
  ]);
});

test("a second node that falls silent waits for the client's ration", () => {
  // GO-2
  const first = attached("a", "b");
  const second = new Walker(300_000, first.shared);
  second.tell({ kind: "nodes", nodes: [node("c"), node("b")] }, 0);
  second.tell({ kind: "ready", attempt: 2 }, 0);
  expect(first.wait().said).toEqual(["dial 3 b#1 standby"]);
  expect(second.tell({ kind: "timeout" }, 340)).toEqual([]);
  expect(second.walk.pollTimeout(), "two seconds of silence come before").toBe(2_000);
});

test("the retry clock runs from the loss, and on while a session gives no stream", () => {
  // PUB-4, PLAY-4
  const lost = attached("a");
  lost.tell({ kind: "heard", attempt: 1, at: 20_000 }, 20_000);
  lost.tell({ kind: "failed", attempt: 1, failure: DOWN }, 20_000);
  expect(lost.tell({ kind: "timeout" }, 319_999)).not.toContain("ended gaveUp");
  expect(lost.tell({ kind: "timeout" }, 320_000)).toContain("ended gaveUp");

  const starved = attached("a");
  starved.tell({ kind: "starved" }, 20_000);
  expect(starved.tell({ kind: "failed", attempt: 1, failure: DOWN }, 320_000)).toEqual([
    "hang 1", "tried 1 connection lost", "interrupted", "ended gaveUp",
  ]);

  const fed = attached("a");
  fed.tell({ kind: "starved" }, 20_000);
  fed.tell({ kind: "fed" }, 21_000);
  fed.tell({ kind: "timeout" }, 320_001);
  expect(fed.walk.attempts().inUse).toBe(1);
});

test("a hedge that lost leaves no verdicts behind", () => {
  // GO-2
  const walker = attached("a", "b", "c");
  const { now } = walker.wait();
  walker.tell({ kind: "failed", attempt: 2, failure: FULL }, now);
  walker.tell({ kind: "heard", attempt: 1, at: now + 5 }, now + 5);
  walker.tell({ kind: "ready", attempt: 3 }, now + 10);
  expect(walker.tell({ kind: "heard", attempt: 1, at: now + 30 }, now + 30)).toContain("hang 3");
  expect(walker.walk.failedNodes()).toEqual([]);
});

test("the trace of a hedge starts with the hedge", () => {
  // GO-5
  const walker = attached("a", "b");
  const { now } = walker.wait();
  walker.tell({ kind: "ready", attempt: 2 }, now);
  expect(walker.walk.trace().entries().map(({ attempt, outcome }) => `${attempt} ${outcome}`)).toEqual([
    "1 media_lost", "2 used",
  ]);
});

test("a node that ends its session has answered: what fails meanwhile counts", () => {
  // PUB-2
  const unreachable: Failure = { kind: "unreachable", detail: "refused" };
  const walker = attached("a", "b");
  walker.tell({ kind: "failed", attempt: 1, failure: { kind: "closed", detail: "leaving" } }, 100);
  walker.tell({ kind: "failed", attempt: 2, failure: unreachable }, 101);
  walker.tell({ kind: "failed", attempt: 3, failure: unreachable }, 102);
  expect(walker.wait()).toEqual({ now: 2_101, said: [] });
  expect(walker.walk.trace().entries().map(({ node, outcome }) => `${node} ${outcome}`)).toEqual([
    "a media_lost", "b unreachable", "a void",
  ]);
});
