import { create } from "@bufbuild/protobuf";
import { afterEach, describe, expect, test, vi } from "vitest";

import { pauseMs } from "../../src/cluster";
import type { Login } from "../../src/console";
import { actions, devInfo, devToken } from "../../src/dev";
import { RoomSchema, StreamSchema } from "../../src/gen/waystation/v1/cluster_pb";
import { NodeHealth, NodeSchema } from "../../src/gen/waystation/v1/common_pb";
import { killOf, nodesInUse, progressOf, resultOf, settled } from "../../src/panels/guide";
import { nodeRows, nodeState } from "../../src/panels/nodes";
import { roomRows } from "../../src/panels/room-rows";
import { mediaProblem, pictures, sounds } from "../../src/picture/choice";
import { refusal } from "../../src/problem";
import { qualityFigures } from "../../src/sessions/card";
import type { Session } from "../../src/sessions/session";
import { bits, clock, count, duration, list, percent } from "../../src/ui/format";
import { madeUp } from "../../src/ui/name";
import { nextTheme } from "../../src/ui/theme";

afterEach(() => vi.unstubAllGlobals());

function answer(status: number, type: string, body: string): Response {
  return new Response(body, { status, headers: { "content-type": type } });
}

test("a problem document's detail reaches the person", async () => {
  const body = JSON.stringify({ title: "Conflict", detail: "stream lobby/cam is not here now" });
  expect((await refusal(answer(409, "application/problem+json", body))).message).toBe("stream lobby/cam is not here now");
});

test.each([
  ["not JSON at all", "{", "application/problem+json"],
  ["JSON of another shape", "[1]", "application/problem+json"],
  ["wrong member types", '{"detail":7}', "application/problem+json"],
  ["another type", "<h1>no</h1>", "text/html"],
])("a refusal with %s still names the status", async (_, body, type) => {
  expect((await refusal(answer(503, type, body))).message).toContain("503");
});

test("a dead node can only be started, a frozen one killed or thawed", () => {
  expect(actions("dead")).toEqual(["start"]);
  expect(actions("frozen")).toEqual(["kill", "start"]);
  expect(actions("running")).toEqual(["kill", "freeze"]);
});

test("a node that the coordinator still lists shows as dead once its process is", () => {
  const node = create(NodeSchema, { ref: { id: "relay-2", incarnation: 1n }, httpUrl: "http://127.0.0.1:2", health: NodeHealth.SUSPECT });
  const relays = [
    { id: "relay-2", http: "http://127.0.0.1:2", state: "dead" as const },
    { id: "relay-10", http: "http://127.0.0.1:10", state: "running" as const },
    { id: "relay-1", http: "http://127.0.0.1:1", state: "running" as const },
  ];
  expect(nodeRows([node], [], relays).map((row) => [row.id, nodeState(row)]))
    .toEqual([["relay-1", "starting"], ["relay-2", "dead"], ["relay-10", "starting"]]);
  expect(nodeRows([node], [], []).map(nodeState)).toEqual(["suspect"]);
});

test("a page that may not observe shows the nodes that clients are told of", () => {
  const listed = { node: { id: "relay-1", incarnation: 5n }, httpUrl: "http://127.0.0.1:1", region: "", health: "healthy" as const };
  expect(nodeRows([], [listed], []).map((row) => [row.id, row.incarnation, nodeState(row)])).toEqual([["relay-1", 5n, "healthy"]]);
});

test("pauses grow, stay within two seconds and differ by chance", () => {
  expect(pauseMs(0, 1)).toBe(100);
  expect(pauseMs(1, 1)).toBe(200);
  expect(pauseMs(1_000, 1)).toBe(2_000);
  expect(pauseMs(1_000, 0)).toBe(1_000);
});

test("without the development server the page asks for a token", async () => {
  vi.stubGlobal("fetch", async () => answer(200, "text/html", "<html>"));
  expect(await devInfo()).toBeNull();
  vi.stubGlobal("fetch", async () => { throw new TypeError("refused"); });
  expect(await devInfo()).toBeNull();
});

test("a refused development token is an error with its reason", async () => {
  vi.stubGlobal("fetch", async () => answer(400, "application/problem+json", '{"detail":"room id is empty"}'));
  await expect(devToken("", "alice")).rejects.toThrow("room id is empty");
});

test("numbers are written as a person reads them", () => {
  expect([bits(1_499), bits(1_500_000)]).toEqual(["1 kbit/s", "1.5 Mbit/s"]);
  expect([duration(212.6), duration(1_999), duration(9_853), duration(150_000)]).toEqual(["213 ms", "1999 ms", "9.9 s", "2 min"]);
  expect([percent(0), percent(0.0123), percent(0.25)]).toEqual(["0 %", "1.2 %", "25 %"]);
  expect(clock(new Date(2026, 0, 2, 3, 4, 5, 678))).toBe("03:04:05.6");
  expect([count(1, "user"), count(0, "user")]).toEqual(["1 user", "0 users"]);
  expect([list([]), list(["a"]), list(["a", "b", "c"])]).toEqual(["", "a", "a, b and c"]);
});

test("quality figures leave out what is not known", () => {
  const quality = { level: 0, name: "excellent", rttMs: null, loss: null, bitsPerSecond: 900_000, framesPerSecond: 29.7, freezeMs: 0, codecs: {}, node: null } as const;
  expect(qualityFigures(quality)).toBe("900 kbit/s · 30 fps");
  expect(qualityFigures({ ...quality, rttMs: 3.2, loss: 0.01, codecs: { video: "VP8" } })).toBe("900 kbit/s · 30 fps · VP8 · 3 ms away · 1.0 % lost");
});

test("a visitor's name is made of two words and a number, whatever chance says", () => {
  expect([madeUp(0), madeUp(0.9999999), madeUp(1)]).toEqual(["amber-crane-0", "slate-wren-99", "slate-wren-99"]);
});

test("the theme goes round: as the system, light, dark", () => {
  expect([nextTheme("auto"), nextTheme("light"), nextTheme("dark")]).toEqual(["light", "dark", "auto"]);
});

test("devices without names stand for their kind, those with names for themselves", () => {
  const device = (kind: MediaDeviceKind, deviceId: string, label: string) => ({ kind, deviceId, label }) as MediaDeviceInfo;
  const unknown = { cameras: [device("videoinput", "", "")], microphones: [], speakers: [] };
  expect(pictures(unknown)).toEqual([["test", "Test picture"], ["device:", "Camera"], ["screen", "Screen"]]);
  const known = { cameras: [], microphones: [device("audioinput", "m1", "Headset")], speakers: [] };
  expect(sounds(known)).toEqual([["tone", "Tone"], ["device:m1", "Headset"]]);
});

test("a device that cannot be opened is explained with what to do", () => {
  const named = (name: string) => new DOMException("x", name);
  expect(mediaProblem("video", named("NotAllowedError"))).toContain("allow it in the address bar, or publish the test picture");
  expect(mediaProblem("audio", named("NotReadableError"))).toContain("microphone is used by another program");
  expect(mediaProblem("video", new TypeError("undefined"))).toContain("https and localhost only");
});

describe("the rooms", () => {
  const login = { room: { id: "lobby", users: [{ user: "bob", session: "s" }], streams: [{ stream: "cam", user: "bob", session: "s", epoch: 1n }] }, user: "ann" } as unknown as Login;

  test("a coordinator's view says more about a stream than the room's own events", () => {
    const stream = create(StreamSchema, { ref: { room: "lobby", stream: "cam" }, user: "bob", claim: { epoch: 1n, move: 3 }, origin: { id: "relay-2" } });
    const [row] = roomRows([create(RoomSchema, { room: "lobby", users: 2 })], [stream], [login], []);
    expect(row).toMatchObject({ id: "lobby", users: 2, streams: [{ stream: "cam", user: "bob", origin: "relay-2", moves: 2 }] });
  });

  test("without a view, logins and own publishers are shown", () => {
    const rows = roomRows([], [], [login], [{ room: "lobby", stream: "mine", origin: "relay-1" }]);
    expect(rows.map(({ id, users }) => [id, users])).toEqual([["lobby", 2]]);
    expect(rows[0]?.streams.map(({ stream, user, origin }) => [stream, user, origin])).toEqual([["cam", "bob", null], ["mine", "ann", "relay-1"]]);
  });

  test("rooms of others are listed without a login", () => {
    expect(roomRows([create(RoomSchema, { room: "b" }), create(RoomSchema, { room: "a" })], [], [], []).map(({ id, login: there }) => [id, there]))
      .toEqual([["a", null], ["b", null]]);
  });
});

describe("the demonstration", () => {
  const session = (kind: "publish" | "play", node: string, lastGap: Session["lastGap"] = null) =>
    ({ subject: { kind, key: "lobby/ann" }, state: { number: 2, node: { id: node } }, lastGap }) as unknown as Session;
  const publisher = session("publish", "relay-1");
  const player = session("play", "relay-2");

  test("goes from publishing to playing to the kill", () => {
    expect(progressOf([], null)).toBe("publish");
    expect(progressOf([publisher], null)).toBe("play");
    expect(progressOf([publisher, player], null)).toBe("kill");
  });

  test("offers each node in use once, with what uses it", () => {
    expect(nodesInUse([publisher, player, session("play", "relay-1")])).toEqual([
      { node: "relay-1", uses: "player and publisher" },
      { node: "relay-2", uses: "player" },
    ]);
  });

  test("waits for the gap of whatever the kill hit, and then tells the first one", () => {
    const hit = { ...player };
    const kill = killOf("relay-2", [publisher, hit]);
    expect(progressOf([publisher, hit], kill)).toBe("wait");
    expect(resultOf(kill)).toBe("relay-2 is dead: the player is moving.");
    Object.assign(hit, { lastGap: { ms: 141.2, before: "relay-2", after: "relay-3" } });
    const done = settled(kill);
    expect(progressOf([publisher, hit], done)).toBe("done");
    Object.assign(hit, { lastGap: { ms: 999, before: "relay-3", after: "relay-3" } });
    expect(resultOf(settled(done))).toBe("relay-2 is dead: the player went on at relay-3 after 141 ms.");
  });

  test("counts the players of a publisher whose node is killed, and names them first", () => {
    expect(killOf("relay-1", [publisher, player]).hits.map(({ session }) => session)).toEqual([player, publisher]);
    expect(killOf("relay-2", [publisher, player]).hits.map(({ session }) => session)).toEqual([player]);
  });

  test("begins anew once the sessions that a kill hit are gone", () => {
    expect(progressOf([], killOf("relay-2", [player]))).toBe("publish");
  });
});
