import { create } from "@bufbuild/protobuf";
import { afterEach, expect, test, vi } from "vitest";

import { pauseMs } from "../src/cluster";
import { actions, devInfo, devToken } from "../src/dev";
import { NodeHealth, NodeSchema } from "../src/gen/waystation/v1/common_pb";
import { endpoint } from "../src/media";
import { nodeRows } from "../src/panels/nodes";
import { refusal, RequestError } from "../src/problem";
import { bits, line, received } from "../src/stats";

afterEach(() => vi.unstubAllGlobals());

function answer(status: number, type: string, body: string): Response {
  return new Response(body, { status, headers: { "content-type": type } });
}

test("a problem document's detail and code reach the person", async () => {
  const body = JSON.stringify({ title: "Conflict", detail: "stream lobby/cam is not here now", code: 1003028 });
  const error = await refusal(answer(409, "application/problem+json", body));
  expect(error).toBeInstanceOf(RequestError);
  expect([error.message, error.status, error.code]).toEqual(["stream lobby/cam is not here now", 409, 1003028]);
});

test.each([
  ["not JSON at all", "{", "application/problem+json"],
  ["JSON of another shape", "[1]", "application/problem+json"],
  ["wrong member types", '{"detail":7,"code":"x"}', "application/problem+json"],
  ["another type", "<h1>no</h1>", "text/html"],
])("a refusal with %s still names the status", async (_, body, type) => {
  const error = await refusal(answer(503, type, body));
  expect(error.status).toBe(503);
  expect(error.message).toContain("503");
  expect(error.code).toBeUndefined();
});

test("ids are escaped in a stream's address", () => {
  const target = { nodeUrl: "http://127.0.0.1:1/", room: "a/b", stream: "c?d", token: "t" };
  expect(endpoint("whep", target)).toBe("http://127.0.0.1:1/whep/a%2Fb/c%3Fd");
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
    { id: "relay-1", http: "http://127.0.0.1:1", state: "running" as const },
  ];
  expect(nodeRows([node], relays).map((row) => [row.id, row.state])).toEqual([["relay-1", "running"], ["relay-2", "dead"]]);
  expect(nodeRows([node], []).map((row) => row.state)).toEqual(["suspect"]);
});

test("pauses grow, stay within two seconds and differ by chance", () => {
  expect(pauseMs(0, 1)).toBe(100);
  expect(pauseMs(1, 1)).toBe(200);
  expect(pauseMs(1_000, 1)).toBe(2_000);
  expect(pauseMs(1_000, 0)).toBe(1_000);
});

test("inbound streams add up to one line", () => {
  const report: [string, Record<string, unknown>][] = [
    ["1", { type: "inbound-rtp", kind: "video", framesDecoded: 30, bytesReceived: 100_000, packetsLost: 1 }],
    ["2", { type: "inbound-rtp", kind: "audio", packetsReceived: 50, bytesReceived: 25_000 }],
    ["3", { type: "transport", srtpCipher: "AEAD_AES_128_GCM" }],
    ["4", { type: "outbound-rtp", bytesSent: 9 }],
  ];
  const now = received(report);
  expect(now).toMatchObject({ framesDecoded: 30, audioPackets: 50, bytes: 125_000, packetsLost: 1 });
  expect(line(now, received([]), 1)).toBe("1.0 Mbit/s · 30 frames/s · 1 lost · AEAD_AES_128_GCM");
  expect(bits(1_499)).toBe("1 kbit/s");
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
