import { expect, test, vi } from "vitest";

import type { Kind, NodeRef } from "../../src/sdk/api";
import { digest } from "../../src/sdk/media/digest";
import { GapMeter } from "../../src/sdk/media/gap";
import { Inlet } from "../../src/sdk/media/inlet";
import { preferred } from "../../src/sdk/media/outlet";
import { level, quality } from "../../src/sdk/media/quality";
import type { Session } from "../../src/sdk/media/session";
import { FakeStream } from "./fakes";

const A: NodeRef = { id: "a", incarnation: 1n };
const B: NodeRef = { id: "b", incarnation: 1n };

test("steady media is no gap, and a stop of every kind is one", () => {
  const meter = new GapMeter();
  for (let at = 0; at <= 1_000; at += 50) {
    expect(meter.media("video", A, at)).toBeUndefined();
    expect(meter.media("audio", A, at + 5)).toBeUndefined();
  }
  // The picture alone may stand still: a shared screen does.
  for (let at = 1_050; at <= 1_500; at += 50) expect(meter.media("audio", A, at)).toBeUndefined();
  expect(meter.media("video", A, 1_510)).toBeUndefined();
  expect(meter.media("audio", A, 1_511)).toBeUndefined();
  expect(meter.media("audio", A, 1_811), "the picture is awaited").toBeUndefined();
  expect(meter.media("video", A, 1_860)).toEqual({ ms: 350, kinds: { audio: 300, video: 350 }, before: A, after: A });
});

test("a change of node is a gap however short, and the longer kind counts", () => {
  const meter = new GapMeter();
  meter.media("video", A, 100);
  meter.media("audio", A, 110);
  expect(meter.media("audio", B, 130)).toBeUndefined();
  expect(meter.media("audio", B, 150)).toBeUndefined();
  expect(meter.media("video", B, 180)).toEqual({ ms: 80, kinds: { audio: 20, video: 80 }, before: A, after: B });
  expect(meter.media("video", B, 200)).toBeUndefined();
});

/** A session of a player, which says and has received what is in `seen`. */
function sessionAt(node: NodeRef, seen: { phase: string } & Partial<Record<Kind, number>>): Session {
  const shown = { dial: { node: { node } }, tracks: () => [], lastMedia: (kind: Kind) => seen[kind] };
  return Object.defineProperty(shown, "phase", { get: () => seen.phase }) as unknown as Session;
}

function inletOfNobody(): Inlet {
  vi.stubGlobal("MediaStream", FakeStream);
  const inlet = new Inlet({});
  vi.unstubAllGlobals();
  return inlet;
}

test.each([
  ["whose publisher is on its way is no mute", 1_900, true],
  ["for longer is one, and a muted stream has no gap", 2_100, false],
])("a new session that is idle %s", (_, idleMs, told) => {
  vi.useFakeTimers();
  const inlet = inletOfNobody();
  const look = (ms: number) => {
    for (let past = 0; past < ms; past += 20) {
      vi.advanceTimersByTime(20);
      expect(inlet.look()).toBeUndefined();
    }
  };
  const [first, next] = [{ phase: "flowing", video: 1_000 }, { phase: "idle" } as { phase: string; video?: number }];
  inlet.use(sessionAt(A, first));
  first.video = 1_033;
  look(100);
  inlet.use(sessionAt(B, next));
  look(idleMs);
  Object.assign(next, { phase: "flowing", video: 1_033 + idleMs });
  vi.advanceTimersByTime(20);
  const gap = inlet.look();
  vi.useRealTimers();
  expect(gap?.ms).toBe(told ? idleMs : undefined);
});

test("media of the next session that came before it was used ends no gap: nobody saw it", () => {
  // GO-2
  const inlet = inletOfNobody();
  const [first, next] = [{ phase: "flowing", video: 1_000 }, { phase: "flowing", video: 1_120 }];
  inlet.use(sessionAt(A, first));
  expect(inlet.look()).toBeUndefined();
  first.video = 1_033;
  expect(inlet.look()).toBeUndefined();
  inlet.use(sessionAt(B, next));
  expect(inlet.look(), "it came before").toBeUndefined();
  next.video = 1_190;
  expect(inlet.look()).toMatchObject({ ms: 157, before: A, after: B });
});

test("a kind that did not flow before is not waited for, and one that does not come back only for a while", () => {
  const meter = new GapMeter();
  meter.media("audio", A, 0);
  meter.media("video", A, 2_000);
  expect(meter.media("video", B, 2_030)).toMatchObject({ ms: 30, kinds: { video: 30 } });
  meter.media("audio", B, 2_040);
  expect(meter.media("video", A, 2_100)).toBeUndefined();
  expect(meter.tick(4_000)).toBeUndefined();
  expect(meter.tick(4_101)).toMatchObject({ ms: 70, kinds: { video: 70 }, before: B, after: A });
  expect(meter.tick(9_000)).toBeUndefined();
});

test("a page that did not look knows of no stop, but of a change of node", () => {
  const meter = new GapMeter();
  meter.media("video", A, 0);
  meter.blind(900);
  expect(meter.media("video", A, 890)).toBeUndefined();
  expect(meter.media("video", A, 950)).toBeUndefined();
  meter.blind(1_900);
  expect(meter.media("video", B, 1_890)).toMatchObject({ ms: 940, before: A, after: B });
});

/** A picture and sound until shortly before 1,000. */
function flowing(): GapMeter {
  const meter = new GapMeter();
  for (let at = 0; at < 1_000; at += 20) {
    if (at % 40 === 0) expect(meter.media("video", A, at)).toBeUndefined();
    expect(meter.media("audio", A, at + 1)).toBeUndefined();
    expect(meter.tick(at + 2)).toBeUndefined();
  }
  return meter;
}

test("a picture that stands still while its publisher moves is a gap, though the sound went on out of its buffer", () => {
  // GO-2
  const meter = flowing();
  meter.media("audio", A, 1_060);
  meter.moved(1_100);
  expect(meter.media("video", A, 960.1), "the last frame once more").toBeUndefined();
  expect(meter.media("audio", A, 1_150)).toBeUndefined();
  expect(meter.media("video", A, 1_467)).toEqual({ ms: 507, kinds: { video: 507 }, before: A, after: A });
  expect(meter.media("video", A, 1_500)).toBeUndefined();
});

test("the word that the publisher has moved may come after its first picture from there", () => {
  const meter = flowing();
  for (let at = 1_050; at < 1_260; at += 70) expect(meter.media("audio", A, at)).toBeUndefined();
  expect(meter.media("video", A, 1_260)).toBeUndefined();
  expect(meter.media("video", A, 1_300)).toBeUndefined();
  meter.moved(1_310);
  expect(meter.media("audio", A, 1_311)).toBeUndefined();
  expect(meter.media("video", A, 1_340)).toMatchObject({ ms: 300, kinds: { video: 300 } });
  meter.moved(1_350);
  expect(meter.media("audio", A, 1_360)).toBeUndefined();
  expect(meter.media("video", A, 1_380), "told once").toBeUndefined();
});

test("a publisher that moves without a stop makes no gap, nor does a still picture, nor one that nobody looked at", () => {
  const smooth = flowing();
  smooth.moved(1_000);
  expect(smooth.media("audio", A, 1_001)).toBeUndefined();
  expect(smooth.media("video", A, 1_010)).toBeUndefined();

  const slow = new GapMeter();
  for (let at = 0; at <= 60_500; at += 20) {
    expect(slow.media("audio", A, at)).toBeUndefined();
    if (at % 1_000 === 0) expect(slow.media("video", A, at)).toBeUndefined();
  }
  slow.moved(60_500);
  expect(slow.media("audio", A, 60_510)).toBeUndefined();
  expect(slow.media("video", A, 61_000)).toBeUndefined();

  const unseen = flowing();
  unseen.moved(1_000);
  unseen.blind(1_400);
  expect(unseen.media("audio", A, 1_390)).toBeUndefined();
  expect(unseen.media("video", A, 1_390)).toBeUndefined();
});

test("a picture that comes once a second does not stop each time", () => {
  const meter = new GapMeter();
  const gaps = Array.from({ length: 60 }, (_, second) => meter.media("video", A, second * 1_000)).filter((gap) => gap !== undefined);
  expect(gaps.length).toBeLessThan(4);
  expect(meter.media("video", A, 64_000)).toMatchObject({ ms: 5_000 });
});

test("a frame that was seen before, or is older, changes nothing", () => {
  const meter = new GapMeter();
  meter.media("video", A, 500);
  expect(meter.media("video", B, 500)).toBeUndefined();
  expect(meter.media("video", B, 400)).toBeUndefined();
  expect(meter.media("video", B, 500.1), "the browser's times tremble").toBeUndefined();
  expect(meter.media("video", A, 520)).toBeUndefined();
});

test.each([
  [{ alive: true, rttMs: 20, loss: 0, freezeMs: 0 }, 0],
  [{ alive: true, rttMs: 150, loss: 0, freezeMs: 0 }, 1],
  [{ alive: true, rttMs: 20, loss: 0.05, freezeMs: 0 }, 2],
  [{ alive: true, rttMs: 20, loss: 0, freezeMs: 2_000 }, 3],
  [{ alive: true, rttMs: 900, loss: null, freezeMs: 0 }, 3],
  [{ alive: false, rttMs: 20, loss: 0, freezeMs: 0 }, 4],
  [{ alive: true, rttMs: null, loss: null, freezeMs: 0 }, 5],
])("the worst sign of %j makes level %d", (signs, expected) => {
  // GO-7
  expect(level(signs)).toBe(expected);
});

function report(at: number, packets: number, lost: number, bytes: number, frames: number, freezes: number) {
  const stats = [
    { id: "T", type: "transport", timestamp: at, bytesReceived: bytes + 100, selectedCandidatePairId: "P" },
    { id: "X", type: "candidate-pair", nominated: true, currentRoundTripTime: 9 },
    { id: "P", type: "candidate-pair", nominated: true, currentRoundTripTime: 0.03, lastPacketReceivedTimestamp: at - 4 },
    { id: "C", type: "codec", mimeType: "video/VP8" },
    {
      id: "V", type: "inbound-rtp", kind: "video", codecId: "C", packetsReceived: packets, packetsLost: lost, bytesReceived: bytes,
      framesDecoded: frames, totalFreezesDuration: freezes, lastPacketReceivedTimestamp: at - 5,
    },
  ];
  return new Map(stats.map((stat) => [stat.id, stat]));
}

test("two looks at the statistics make one word on quality", () => {
  // GO-7
  const [before, after] = [digest(report(1_000, 1_000, 0, 100_000, 30, 0)), digest(report(4_000, 1_196, 4, 475_000, 120, 0.2))];
  expect(after).toMatchObject({ received: 475_100, lastReceivedAt: 3_996, rttMs: 30 });
  const said = { level: 1, name: "good", rttMs: 30, loss: 0.02, bitsPerSecond: 1_000_000, framesPerSecond: 30, freezeMs: 200 };
  expect(quality(before, after, A, false)).toEqual({ ...said, codecs: { video: "VP8" }, node: A });
  expect(quality(before, after, A, true)).toMatchObject({ freezeMs: 0 });
  expect(quality(after, after, A, false)).toMatchObject({ level: 4, name: "dead", bitsPerSecond: 0 });
});

test("a publisher's loss is what its node reports", () => {
  const sent = (packets: number) => digest(new Map<string, Record<string, unknown>>([
    ["T", { id: "T", type: "transport", timestamp: packets, bytesReceived: packets }],
    ["O", { id: "O", type: "outbound-rtp", kind: "audio", packetsSent: packets, bytesSent: packets * 100, remoteId: "R" }],
    ["R", { id: "R", type: "remote-inbound-rtp", kind: "audio", packetsLost: 50, fractionLost: 0.1 }],
  ]));
  expect(quality(sent(1_000), sent(4_000), A, false)).toMatchObject({ loss: 0.1, level: 3, rttMs: null, bitsPerSecond: 800_000 });
});

test("where the transport counts nothing, as in Firefox, the pair that it has selected does", () => {
  // GO-2
  const pair = (id: string, bytes: number) => [id, {
    id, type: "candidate-pair", timestamp: 2_000, nominated: true, bytesReceived: bytes, lastPacketReceivedTimestamp: 1_990,
  }] as const;
  const transport = { id: "T", type: "transport", timestamp: 2_000, dtlsState: "connected", selectedCandidatePairId: "P" };
  const seen = digest(new Map<string, Record<string, unknown>>([pair("X", 7), ["T", transport], pair("P", 3_905)]));
  expect(seen).toMatchObject({ at: 2_000, received: 3_905, lastReceivedAt: 1_990 });
});

test("statistics without anything known make an empty digest", () => {
  expect(digest(new Map([["x", { type: "certificate" }]]))).toEqual({ at: 0, received: null, lastReceivedAt: null, rttMs: null, flows: new Map() });
});

test("wanted codecs come first and repair stays; without a known one the browser's order stays", () => {
  const known = ["VP8", "rtx", "VP9", "H264", "H264", "red"].map((name) => ({ mimeType: `video/${name}` }));
  const names = (wanted: string[]) => preferred(known, wanted).map(({ mimeType }) => mimeType.slice(6));
  expect(names(["H264", "VP8"])).toEqual(["H264", "H264", "VP8", "rtx", "red"]);
  expect(names(["AV1"])).toEqual([]);
});
