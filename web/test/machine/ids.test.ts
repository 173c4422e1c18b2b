/** Names and their orders: those of every other SDK. */

import { expect, test } from "vitest";

import {
  claimText, compareClaim, compareStreamKey, compareText, ErrorCode, errorCode, errorName, errorText, firstClaim,
  idError, nextMove, type StreamKey,
} from "../../src/sdk/machine/ids";
import { meetingOrder } from "../../src/sdk/machine/meeting";
import { SortedMap } from "../../src/sdk/machine/sorted";

test("an id that could change a path is refused", () => {
  for (const bad of ["", ".", "..", "a/b", "a b", "a%2f", "a?b", "x".repeat(129), "ü".repeat(65)]) {
    expect(idError(bad), bad).toBeDefined();
  }
  expect(idError("a/b")).toEqual({ kind: "badCharacter", found: "/" });
  expect(idError("ü".repeat(65))).toEqual({ kind: "tooLong", bytes: 130 });
  expect(idError("Zürich-1_2.3:x@y")).toBeUndefined();
});

test("text is ordered as its bytes of UTF-8 are", () => {
  const hex = (text: string) => [...new TextEncoder().encode(text)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const texts = ["", "a", "aa", "b", "é", "\u{ffee}", "\u{20000}", "a\u{20000}", "a\u{ffee}", "\u{20000}b", "\u{20001}"];
  for (const a of texts) {
    for (const b of texts) {
      expect(Math.sign(compareText(a, b)), `${a} ${b}`).toBe(Math.sign(Number(hex(a) > hex(b)) - Number(hex(a) < hex(b))));
    }
  }
});

test("streams are ordered by room before stream, whatever characters the rooms end with", () => {
  const keys: StreamKey[] = [{ room: "a-b", stream: "a" }, { room: "a", stream: "z" }, { room: "a", stream: "b" }];
  expect(keys.sort(compareStreamKey).map((key) => key.room + key.stream)).toEqual(["ab", "az", "a-ba"]);
});

test("a higher epoch beats any move", () => {
  const old = { epoch: 1n, moved: 900 };
  expect(compareClaim(firstClaim(2n), old)).toBeGreaterThan(0);
  expect(compareClaim(nextMove(old), old)).toBeGreaterThan(0);
  expect(claimText(nextMove(old))).toBe("1.901");
  expect(nextMove({ epoch: 1n, moved: 0xffff_ffff }).moved).toBe(0xffff_ffff);
});

test("every number leads back to its code, and has a name and a text", () => {
  for (const [name, code] of Object.entries(ErrorCode)) {
    expect(errorCode(code)).toBe(code);
    expect(errorName(code)).toBe(name);
    expect(errorText(code)).not.toBe("");
  }
  expect(errorCode(0)).toBeUndefined();
});

test.each([
  // Computed from the published algorithms, FNV-1a and SplitMix64's finalizer.
  { room: "hall", stream: "s0", expected: ["relay-0", "relay-3", "relay-2", "relay-4", "relay-1"] },
  { room: "hall", stream: "s1", expected: ["relay-0", "relay-3", "relay-4", "relay-2", "relay-1"] },
  { room: "Zürich", stream: "cam:1", expected: ["relay-0", "relay-1", "relay-2", "relay-4", "relay-3"] },
])("$room/$stream has the meeting order of every other SDK, however the nodes are listed", (given) => {
  const nodes = ["relay-4", "relay-0", "relay-2", "relay-1", "relay-3", "relay-0"];
  expect(meetingOrder(given, nodes)).toEqual(given.expected);
  expect(meetingOrder(given, [...nodes].reverse())).toEqual(given.expected);
});

test("a sorted map is read in the order of its keys and holds each once", () => {
  const map = new SortedMap<string, number>(compareText);
  for (const [n, key] of ["m", "z", "a", "m", "q", "b"].entries()) map.set(key, n);
  const before = map.entries();
  expect([map.get("q"), map.get("c"), map.has("z"), map.size]).toEqual([4, undefined, true, 5]);
  expect([map.delete("b"), map.delete("b")]).toEqual([5, undefined]);
  map.deleteFirst();
  map.retain((key) => key !== "q");
  expect([map.keys(), map.values()]).toEqual([["m", "z"], [3, 1]]);
  expect(before, "as they were").toEqual([["a", 2], ["b", 5], ["m", 3], ["q", 4], ["z", 1]]);
});
