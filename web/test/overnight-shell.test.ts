// The shell of the browser SDK, left alone for an hour in a cluster whose nodes die all the time.
import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { WaystationClient } from "../src/sdk";
import { FakeCluster, FakeStream, FakeTrack } from "./sdk/fakes";

const DEATHS = 1_000;
const HOUR_MS = 3_600_000;
/** What the hour takes of a machine's own time is the machine's affair; a test that hangs must end, though. */
const PATIENCE_MS = 900_000;
/** A dead node is back in its next life after this. */
const DEAD_MS = 1_200;

let cluster: FakeCluster;

beforeEach(() => {
  vi.useFakeTimers();
  cluster = new FakeCluster();
  for (const [name, value] of Object.entries(cluster.globals())) vi.stubGlobal(name, value);
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

function start() {
  const tracks = [new FakeTrack("audio"), new FakeTrack("video")];
  const client = new WaystationClient({ coordinators: ["http://coordinator"] });
  const room = client.login({ room: "r", token: "t", notifyUsers: true });
  const publisher = client.publish(room, "own", new FakeStream(tracks) as unknown as MediaStream);
  const player = client.play("r/s");
  return { client, room, publisher, player, tracks };
}

/** Everything that could grow. */
function open(tracks: readonly FakeTrack[]) {
  return {
    timers: vi.getTimerCount(),
    peers: cluster.peers.size,
    sockets: cluster.sockets.size,
    sessions: cluster.sessions.size,
    streams: cluster.streams.size,
    listeners: tracks.reduce((sum, { listeners }) => sum + listeners, 0),
  };
}

test("an hour with a thousand deaths of the node in use leaves nothing behind", { timeout: PATIENCE_MS }, async () => {
  // GO-1, GO-2, PUB-2, PLAY-2
  const { client, publisher, player, tracks } = start();
  await vi.advanceTimersByTimeAsync(2_000);
  expect([publisher.state.name, player.state.name]).toEqual(["Publishing", "Playing"]);
  const media = player.media;
  const { timers: quietTimers, ...quiet } = open(tracks);
  const finals: string[] = [];
  publisher.on("state", (state) => { if (state.final) finals.push(state.text); });
  player.on("state", (state) => { if (state.final) finals.push(state.text); });
  for (let death = 0; death < DEATHS; death += 1) {
    const used = death % 2 === 0 ? publisher.state.node : player.state.node;
    const node = cluster.nodes.find(({ id }) => id === used?.id) ?? cluster.nodes[0]!;
    cluster.kill(node);
    if (death % 25 === 0) cluster.disconnect();
    await vi.advanceTimersByTimeAsync(DEAD_MS);
    cluster.revive(node);
    await vi.advanceTimersByTimeAsync(HOUR_MS / DEATHS - DEAD_MS);
    if (death % 100 !== 99) continue;
    const { timers, ...rest } = open(tracks);
    expect([death, publisher.state.name, player.state.name, rest]).toEqual([death, "Publishing", "Playing", quiet]);
    // A beat may be on its way.
    expect(timers).toBeLessThanOrEqual(quietTimers + 2);
  }
  expect(finals).toEqual([]);
  expect(cluster.opened).toBeGreaterThan(DEATHS);
  expect(player.media).toBe(media);
  expect(media.getTracks()).toHaveLength(2);
  const closed = client.close();
  await vi.advanceTimersByTimeAsync(100);
  await closed;
  expect(open(tracks)).toEqual({ timers: 0, peers: 0, sockets: 0, sessions: 0, streams: 0, listeners: 0 });
});

test("stopping ends what it began, and closing ends the rest", async () => {
  // PUB-10, PLAY-8, ROOM-10
  const { client, room, publisher, player, tracks } = start();
  await vi.advanceTimersByTimeAsync(1_000);
  const ends: string[] = [];
  publisher.on("state", ({ name, code }) => ends.push(`${name} ${code}`));
  player.on("state", ({ name, code }) => ends.push(`${name} ${code}`));
  room.on("state", ({ name, code }) => ends.push(`${name} ${code}`));
  publisher.stop();
  player.stop();
  publisher.stop();
  await vi.advanceTimersByTimeAsync(100);
  expect(ends).toEqual(["NoPublish 0", "NoPlay 0"]);
  expect(open(tracks)).toMatchObject({ peers: 0, sockets: 0, sessions: 0, listeners: 0 });
  expect(player.media.getTracks()).toEqual([]);
  room.logout();
  await vi.advanceTimersByTimeAsync(100);
  expect(ends).toEqual(["NoPublish 0", "NoPlay 0", "Disconnected 0"]);
  expect(cluster.calls.get("Logout")).toBe(1);
  const closed = client.close();
  await vi.advanceTimersByTimeAsync(2_000);
  await closed;
  expect(open(tracks)).toMatchObject({ timers: 0, streams: 0 });
  expect(() => client.play("r/s")).toThrow("closed");
});

test("a listener that stops its publisher, or throws, harms nobody", async () => {
  const { client, publisher, player } = start();
  publisher.on("state", ({ number }) => { if (number === 2) publisher.stop(); });
  await vi.advanceTimersByTimeAsync(1_000);
  expect([publisher.state.name, player.state.name]).toEqual(["NoPublish", "Playing"]);
  const again = client.publish("r", "own", { video: new FakeTrack("video") as unknown as MediaStreamTrack });
  again.stop();
  await vi.advanceTimersByTimeAsync(1_000);
  expect([again.state.name, cluster.peers.size]).toEqual(["NoPublish", 1]);
  void client.close();
  await vi.advanceTimersByTimeAsync(3_000);
  expect(vi.getTimerCount()).toBe(0);
});

test("nothing is sent of a muted kind, in no session, and the other track of a kind takes its place in all", async () => {
  // PUB-1, PUB-6
  const { client, publisher, tracks } = start();
  await vi.advanceTimersByTimeAsync(1_000);
  const sent = () => [...cluster.peers].flatMap((peer) => peer.getTransceivers())
    .filter(({ currentDirection }) => currentDirection === "sendonly").map(({ sender }) => sender.track);
  expect(sent()).toEqual(tracks);
  publisher.mute("video", true);
  const screen = new FakeTrack("video");
  await publisher.replaceTrack("video", screen as unknown as MediaStreamTrack);
  expect(sent()).toEqual([tracks[0], null]);
  cluster.kill(cluster.nodes.find(({ id }) => id === publisher.state.node?.id)!);
  await vi.advanceTimersByTimeAsync(1_000);
  expect([publisher.state.name, sent()]).toEqual(["Publishing", [tracks[0], null]]);
  publisher.mute("video", false);
  expect(sent()).toEqual([tracks[0], screen]);
  expect([tracks[1]!.listeners, screen.listeners]).toEqual([0, 1]);
  await expect(publisher.replaceTrack("audio", screen as unknown as MediaStreamTrack)).rejects.toThrow("kind video");
  void client.close();
  await vi.advanceTimersByTimeAsync(3_000);
});
