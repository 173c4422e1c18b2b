/** An hour of trouble: what the machine holds and has open at its end is what it held and had open at its start. */

import { beforeAll, expect, test } from "vitest";

import { Client, type Settings } from "../src/sdk/machine";
import { held, total } from "./overnight/held";
import { World } from "./overnight/world";

const HOUR_MS = 3_600_000;
/** Each trouble at each node comes every 30 rounds: start and end are in the same round of them. */
const PERIOD = 30;
const RECONNECTS = 34 * PERIOD;
/** Trouble comes in bursts with a pause behind each: a retry clock is reset only by ten quiet seconds. */
const BURST = 10;
const CYCLE_MS = 2_400;
const PAUSE_MS = (HOUR_MS / RECONNECTS - CYCLE_MS) * BURST;

const SETTINGS: Settings = {
  coordinators: ["http://c1", "http://c2"],
  seed: 7n,
  roomRetryTime: 1_200_000,
  avRetryTime: 300_000,
  maxRooms: 5,
  hedging: "on",
};

const CAM = { room: "hall", stream: "cam" };
const MIC = { room: "hall", stream: "mic" };
/** Published and played now and then. */
const AUX = { room: "hall", stream: "aux" };
const NODES = ["a", "b", "c"] as const;

/** One loss of the connection, with one trouble more. Its end finds everything well again. */
function cycle(world: World, round: number): void {
  const start = world.now;
  const node = NODES[round % NODES.length] ?? "a";
  world.coordinatorGoes(round % 3 === 0 ? 0 : 300);
  world.advance(start + 200);
  switch (round % 5) {
    case 0:
      world.nodeDies(node, 900);
      break;
    case 1:
      NODES.forEach((node) => world.nodeCloses(node, "play"));
      break;
    case 2:
      NODES.forEach((node) => world.nodeCloses(node, "publish"));
      break;
    case 3:
      world.input({ kind: "publish", key: AUX });
      world.input({ kind: "play", key: AUX });
      break;
    case 4:
      world.input({ kind: "stopPublishing", key: AUX });
      world.input({ kind: "stopPlaying", key: AUX });
      break;
  }
  world.advance(start + 2_000);
  world.streamsChange();
  const pause = round % BURST === BURST - 1 ? PAUSE_MS : 0;
  world.advance(start + CYCLE_MS + pause);
}

let world: World;
let early: Readonly<Record<string, number>>;
let late: Readonly<Record<string, number>>;

beforeAll(async () => {
  // ROOM-3, PUB-2, PLAY-2
  world = new World(SETTINGS);
  world.input({ kind: "login", room: "hall", userToken: "tok", loginId: "login-hall", notifyUsers: true });
  world.input({ kind: "publish", key: CAM });
  world.input({ kind: "play", key: MIC });
  // Every trouble once, at every node: then the machine holds what it will ever hold.
  for (let round = 0; round < PERIOD; round += 1) cycle(world, round);
  early = await held(world.client);
  for (let round = PERIOD; round < RECONNECTS + PERIOD; round += 1) cycle(world, round);
  late = await held(world.client);
});

test("after an hour and more than a thousand reconnects the machine holds no more than at the start", () => {
  expect(Object.keys(early).length, "the walk over the machine finds its fields").toBeGreaterThan(10);
  expect(total(late), JSON.stringify({ early, late }, null, 1)).toBeLessThanOrEqual(total(early));
});

test("the hour was one of trouble", () => {
  const times = (what: string): number => world.heard.get(what) ?? 0;
  expect(world.now).toBeGreaterThanOrEqual(HOUR_MS);
  expect(times("room Connecting 1002051")).toBeGreaterThanOrEqual(RECONNECTS);
  expect(times("publisher PublishRequesting 1003020")).toBeGreaterThan(100);
  const lost = times("publisher PublishRequesting 1003020") + times("publisher PublishRequesting 0");
  expect(times("publisher Publishing 0"), "moves to another node before the first was lost").toBeGreaterThan(lost + 50);
  expect(times("player PlayRequesting 1004020")).toBeGreaterThan(100);
  expect([...world.heard.keys()].filter((what) => /^(room Disc|\w+ No\w+) \d*[1-9]/.test(what))).toEqual([]);
});

test("what is open is what the states say", () => {
  expect(Object.fromEntries(world.states)).toEqual({
    "room hall": "Connected",
    "publisher hall/cam": "Publishing",
    "player hall/mic": "Playing",
    "publisher hall/aux": "NoPublish",
    "player hall/aux": "NoPlay",
  });
  expect(world.connections.open()).toBe(1);
  expect(world.sessions.open()).toBe(2);
  expect(world.lines.open()).toBe(world.usedNodes().size);
});

test("after the app left, nothing is open and nothing is held but what the client knows of the cluster", async () => {
  world.input({ kind: "close" });
  world.advance(world.now + 10_000);
  expect([world.connections.open(), world.sessions.open(), world.lines.open()]).toEqual([0, 0, 0]);
  expect(world.client.pollTimeout()).toBeUndefined();
  const fresh = await held(new Client(SETTINGS));
  const known = total(await held(world.client)) - total(fresh);
  expect(known).toBeLessThanOrEqual(2 * NODES.length * 2);
});
