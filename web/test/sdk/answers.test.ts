import { Code, ConnectError } from "@connectrpc/connect";
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";

import { NodeHealth, NodeSchema } from "../../src/gen/waystation/v1/common_pb";
import { ConnectEventSchema } from "../../src/gen/waystation/v1/room_pb";
import { ErrorCode } from "../../src/sdk/machine/ids";
import { problem, refusal } from "../../src/sdk/node/answer";
import { eventsUrl } from "../../src/sdk/node/events";
import { endpoint, resourceOf } from "../../src/sdk/node/http";
import { callFailure, CODE_METADATA } from "../../src/sdk/rpc/failure";
import { plan, told } from "../../src/sdk/rpc/wire";

function status(code: Code, number?: string): ConnectError {
  return new ConnectError("because", code, number === undefined ? {} : { [CODE_METADATA]: number });
}

test.each(Object.values(ErrorCode))("a coordinator's refusal with code %d is its word, whatever the gRPC status", (code) => {
  for (const grpc of [Code.Unauthenticated, Code.NotFound, Code.Unavailable]) {
    expect(callFailure(status(grpc, String(code)))).toEqual({ kind: "refused", code });
  }
});

test("a status without a known code is no refusal", () => {
  expect(callFailure(status(Code.NotFound))).toEqual({ kind: "notConnected" });
  for (const number of [undefined, "", "0", "7", "1003028x", "NaN"]) {
    expect(callFailure(status(Code.Unavailable, number))).toEqual({ kind: "failed" });
  }
  expect(callFailure(new TypeError("Failed to fetch"))).toEqual({ kind: "failed" });
  expect(callFailure(undefined)).toEqual({ kind: "failed" });
});

const FENCED = JSON.stringify({ type: "urn:waystation:fenced", title: "Conflict", detail: "a higher claim", code: 1003028 });
const NOT_HERE = JSON.stringify({ type: "urn:waystation:not-here", detail: "not here now", code: 1004002 });

test.each([
  [401, null, "{}", { kind: "tokenRefused", detail: "" }],
  [403, null, '{"title":"Forbidden"}', { kind: "tokenRefused", detail: "Forbidden" }],
  [403, null, '{"detail":"no","code":1003025}', { kind: "tokenRefused", detail: "no" }],
  [403, null, '{"detail":"kicked","code":1002055}', { kind: "loginEnded", detail: "kicked" }],
  [403, null, '{"detail":"elsewhere","code":1002050}', { kind: "loginEnded", detail: "elsewhere" }],
  [409, "1", NOT_HERE, { kind: "notHere" }],
  [404, null, "<h1>no</h1>", { kind: "notHere" }],
  [409, null, FENCED, { kind: "higherClaim" }],
  [409, null, '{"type":"urn:x:fenced","detail":"older"}', { kind: "refused", detail: "HTTP status 409: older" }],
  [0, null, "", { kind: "refused", detail: "redirected elsewhere" }],
  [307, null, "", { kind: "refused", detail: "redirected elsewhere" }],
  [503, "3", "{}", { kind: "refused", detail: "node is full or leaving; it says to come back in 3 s" }],
  [429, null, "{}", { kind: "refused", detail: "node is full or leaving" }],
  [406, null, '{"detail":"no codec"}', { kind: "refused", detail: "HTTP status 406: no codec" }],
] as const)("a node's answer %d (Retry-After %s, %s) means one thing to a walk", (code, retryAfter, body, failure) => {
  // PUB-5, PLAY-3, GO-6
  expect(refusal(code, retryAfter, body)).toEqual(failure);
});

test("201 is the only success", () => {
  expect(refusal(201, null, "v=0")).toBeUndefined();
  expect(refusal(200, null, "v=0")).toBeDefined();
});

test.each(["", "{", "[1]", "null", "7", '{"detail":7,"title":[],"code":"x","type":null}'])("the problem document %j says nothing and harms nobody", (body) => {
  expect(problem(body)).toEqual({ type: "", text: "", code: 0 });
});

test("a session's resource must be the node's own", () => {
  const at = "http://10.0.0.7:8080/whip/r/s";
  expect(resourceOf(at, "/session/abc")).toEqual({ url: "http://10.0.0.7:8080/session/abc", session: "abc" });
  expect(resourceOf(at, "http://10.0.0.8:8080/session/abc")).toBeUndefined();
  expect(resourceOf(at, "/")).toBeUndefined();
  expect(resourceOf(at, "http://[")).toBeUndefined();
});

test("addresses of a node are built from its base", () => {
  const node = { node: { id: "a", incarnation: 1n }, httpUrl: "https://a.example:1/sub", region: "", health: "healthy" } as const;
  expect(endpoint(node, "publish", { room: "Zürich", stream: "a:b@c" })).toBe("https://a.example:1/sub/whip/Z%C3%BCrich/a%3Ab%40c");
  expect(endpoint(node, "play", { room: "r", stream: "s" })).toBe("https://a.example:1/sub/whep/r/s");
  expect(eventsUrl(node.httpUrl)).toBe("wss://a.example:1/sub/events");
  expect(eventsUrl("http://127.0.0.1:1/")).toBe("ws://127.0.0.1:1/events");
});

test("an entry that cannot be understood does not take its list along", () => {
  const good = create(NodeSchema, { ref: { id: "a", incarnation: 7n }, httpUrl: "http://a:1/", health: NodeHealth.SUSPECT });
  const bad = create(NodeSchema, { ref: { id: "a/b" }, httpUrl: "http://b:1" });
  const lost = create(NodeSchema, { httpUrl: "http://c:1" });
  const event = create(ConnectEventSchema, { event: { case: "nodes", value: { epoch: 1n, nodes: [bad, good, lost] } } });
  const node = { node: { id: "a", incarnation: 7n }, httpUrl: "http://a:1", region: "", health: "suspect" };
  expect(told(event)).toEqual({ kind: "nodes", nodes: [node] });
});

test("an event of a later version is left out, and one without its revision is an error", () => {
  expect(told(create(ConnectEventSchema, {}))).toBeUndefined();
  expect(() => told(create(ConnectEventSchema, { event: { case: "roomUp", value: { room: "r", sessionId: "s" } } }))).toThrow("revision");
  const down = create(ConnectEventSchema, { event: { case: "roomDown", value: { room: "r", code: 99 } } });
  expect(told(down)).toEqual({ kind: "roomDown", room: "r", code: undefined });
});

test("a plan to play holds no claim", () => {
  const nodes: never[] = [];
  expect(plan({ $typeName: "waystation.v1.PlanPlayResponse", nodeToken: "t", tokenValidMs: 5, nodes })).toEqual({
    claim: undefined, nodeToken: "t", tokenValid: 5, nodes: [],
  });
});
