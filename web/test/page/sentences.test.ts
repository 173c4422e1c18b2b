import { describe, expect, test } from "vitest";

import type { AttemptEvent, GapEvent, NodeRef, OutcomeWord, PlayerState, PublisherState, RoomState } from "../../src/sdk";
import { errorText } from "../../src/sdk";
import { clusterSentences, type SeenNode } from "../../src/timeline/cluster";
import {
  advice, attemptSentence, connectionSentence, gapSentence, idleSentence, outcomeTone, outcomeWords, roomSentence, streamSentence, trialLine,
} from "../../src/timeline/sentences";

const node = (id: string, incarnation = 1n): NodeRef => ({ id, incarnation });
const playing = { kind: "play", key: "lobby/cam" } as const;
const publishing = { kind: "publish", key: "lobby/cam" } as const;

function player(number: 0 | 1 | 2, more: Partial<PlayerState> = {}): PlayerState {
  const name = (["NoPlay", "PlayRequesting", "Playing"] as const)[number];
  const rest = { code: 0, text: "", final: false, node: null, attempt: 0, idle: false, trace: [], retryAfterMs: null };
  return { number, name, ...rest, ...more };
}

function room(number: 0 | 1 | 2, more: Partial<RoomState> = {}): RoomState {
  const name = (["Disconnected", "Connecting", "Connected"] as const)[number];
  return { number, name, code: 0, text: "", final: false, session: null, ...more };
}

describe("a player's sentences", () => {
  const at1 = player(2, { node: node("relay-1") });

  test("say where it plays from, once it plays", () => {
    expect(streamSentence(playing, player(1), at1)).toEqual({ tone: "good", text: "Player of lobby/cam: playing from relay-1." });
  });

  test("say from where to where it moved", () => {
    const moved = streamSentence(playing, at1, player(2, { node: node("relay-2") }));
    expect(moved?.text).toBe("Player of lobby/cam: moved from relay-1 to relay-2.");
  });

  test("tell a restarted node from another one", () => {
    const moved = streamSentence(playing, at1, player(2, { node: node("relay-1", 2n) }));
    expect(moved?.text).toBe("Player of lobby/cam: relay-1 came back as another process, and is used again.");
  });

  test("name the node that was lost", () => {
    const lost = streamSentence(playing, at1, player(1, { code: 1004020, text: "play interrupted, recovering" }));
    expect(lost).toEqual({ tone: "warn", text: "Player of lobby/cam: lost relay-1; trying the next one." });
  });

  test("give a failure's reason and what to do about it", () => {
    const failed = player(0, { code: 1004002, text: errorText(1004002), final: true });
    expect(streamSentence(playing, player(1), failed)).toEqual({
      tone: "bad",
      text: `Player of lobby/cam: ${errorText(1004002)}. Publish it first, or play another one.`,
    });
  });

  test("are silent where nothing that a person sees has changed", () => {
    expect(streamSentence(playing, at1, { ...at1, attempt: 2 })).toBeNull();
    expect(streamSentence(playing, null, player(0))).toBeNull();
  });

  test("tell when the stream is muted and when it flows again", () => {
    expect(idleSentence(playing, true).text).toBe("Player of lobby/cam: nothing flows, as its publisher is muted.");
    expect(idleSentence(playing, false).text).toBe("Player of lobby/cam: media flows again.");
  });
});

test("a publisher publishes to a node and stops", () => {
  const at1 = { ...player(2, { node: node("relay-1") }), name: "Publishing" } as unknown as PublisherState;
  const ended = { ...player(0), name: "NoPublish" } as unknown as PublisherState;
  expect(streamSentence(publishing, null, at1)?.text).toBe("Publisher of lobby/cam: publishing to relay-1.");
  expect(streamSentence(publishing, at1, ended)?.text).toBe("Publisher of lobby/cam: stopped.");
});

describe("a room's sentences", () => {
  test("follow a login, a break and the way back into the same session", () => {
    const inside = room(2, { session: "abc" });
    const broken = room(1, { session: "abc", code: 1002051, text: errorText(1002051) });
    expect(roomSentence("lobby", null, room(1)).text).toBe("Room lobby: logging in.");
    expect(roomSentence("lobby", room(1), inside).text).toBe("Room lobby: logged in.");
    expect(roomSentence("lobby", inside, broken).text).toContain("reconnecting. Media goes on.");
    expect(roomSentence("lobby", broken, inside).text).toBe("Room lobby: connected again, in the same session.");
    expect(roomSentence("lobby", inside, room(0)).text).toBe("Room lobby: left.");
  });

  test("say what to do when somebody else took the name", () => {
    const kicked = room(0, { code: 1002050, text: errorText(1002050), final: true });
    expect(roomSentence("lobby", room(2), kicked)).toMatchObject({ tone: "bad", text: expect.stringContaining("log in under another name") });
  });
});

test("a gap names its kinds, in milliseconds, and its nodes", () => {
  const gap: GapEvent = { ms: 213.4, kinds: { video: 213.4, audio: 180 }, before: node("relay-1"), after: node("relay-2") };
  expect(gapSentence(playing, gap)).toEqual({
    tone: "warn",
    text: "Player of lobby/cam: no media for 213 ms (video 213 ms, audio 180 ms), from relay-1 to relay-2.",
  });
  const stayed: GapEvent = { ms: 12_345, kinds: { video: 12_345 }, before: node("relay-1"), after: node("relay-1") };
  expect(gapSentence(publishing, stayed)).toEqual({
    tone: "bad",
    text: "Publisher of lobby/cam: sent nothing for 12345 ms, still at relay-1.",
  });
});

test("an attempt is told only if it failed", () => {
  const attempt = (outcome: OutcomeWord): AttemptEvent => ({ node: node("relay-1"), outcome, detail: "", tookMs: 12 });
  const text = (outcome: OutcomeWord) => attemptSentence(playing, attempt(outcome))?.text ?? null;
  expect(text("used")).toBeNull();
  expect(text("unneeded")).toBeNull();
  expect(text("unreachable")).toBe("Player of lobby/cam: relay-1 was unreachable (12 ms).");
  expect(text("media_lost")).toBe("Player of lobby/cam: relay-1 went silent; it had been in use for 12 ms.");
  expect([outcomeWords("timed_out"), outcomeTone("timed_out")]).toEqual(["no answer in time", "bad"]);
});

test("a trial's line has its detail only where it says more than the outcome", () => {
  const trial = { attempt: 1, node: node("relay-1"), atMs: 0, tookMs: 12 };
  expect(trialLine({ ...trial, outcome: "refused", detail: "503" })).toBe("relay-1: refused (503), 12 ms");
  expect(trialLine({ ...trial, outcome: "used", detail: "used" })).toBe("relay-1: used, 12 ms");
});

test("a lost coordinator is told with the word that media does not need it", () => {
  const there = { state: "connected", url: "http://a" } as const;
  expect(connectionSentence({ state: "idle" }, { state: "connecting", url: "http://a" }, true)).toBeNull();
  expect(connectionSentence({ state: "connecting", url: "http://a" }, there, true)?.tone).toBe("good");
  expect(connectionSentence(there, { state: "connecting", url: "http://b" }, true)?.text).toContain("Media does not need it");
  expect(connectionSentence(there, { state: "idle" }, false)).toBeNull();
});

test.each([
  1002001, 1002030, 1002033, 1002034, 1002050, 1002053, 1002055, 1002056,
  1003001, 1003021, 1003025, 1003028, 1004001, 1004002, 1004021, 1004025,
])("the final code %i comes with advice of its own", (code) => {
  expect(advice(code)).not.toBe("Try again.");
});

describe("the cluster's sentences", () => {
  const seen = (more: Partial<SeenNode> = {}): SeenNode =>
    ({ id: "relay-1", incarnation: 1n, health: "healthy", process: null, ...more });
  const between = (before: SeenNode[], now: SeenNode[]) => clusterSentences(before, now).map(({ text }) => text);

  test("are silent about the first view and about no change", () => {
    expect(clusterSentences(null, [seen()])).toEqual([]);
    expect(between([seen()], [seen()])).toEqual([]);
  });

  test("tell of nodes that join, fall silent, restart and leave", () => {
    expect(between([], [seen()])).toEqual(["Node relay-1 joined the cluster."]);
    expect(between([seen()], [seen({ health: "suspect" })])).toEqual(["Node relay-1 is suspect: its coordinator misses its beats."]);
    expect(between([seen({ health: "suspect" })], [seen()])).toEqual(["Node relay-1 is healthy again."]);
    expect(between([seen()], [seen({ incarnation: 2n })])).toEqual(["Node relay-1 restarted."]);
    expect(between([seen()], [])).toEqual(["Node relay-1 left the cluster."]);
  });

  test("say of a killed process that it is dead, and not again that its beats are missing", () => {
    const running = seen({ process: "running" });
    const dead = seen({ process: "dead" });
    expect(between([running], [dead])).toEqual(["Node relay-1 is dead: its process was killed."]);
    expect(between([dead], [{ ...dead, health: "suspect" }])).toEqual([]);
    expect(between([dead], [running])).toEqual(["Node relay-1 runs again, as a new process."]);
    expect(between([running], [{ ...running, incarnation: 2n }])).toEqual([]);
    expect(between([seen({ process: "frozen" })], [running])).toEqual(["Node relay-1 runs again."]);
  });
});
