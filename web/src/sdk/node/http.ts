/**
 * WHIP and WHEP as an SDK speaks them: one POST that opens a session, one DELETE that ends it.
 *
 * RFC 9725 §4.2 (WHIP), draft-ietf-wish-whep §4.2. Invariant: every request has a deadline, and whatever a node answers
 * becomes an `Opened` or a `Failure`.
 */

import type { Action, Node, StreamKey } from "../machine/ids";
import type { Failure } from "../machine/trial";
import { MAX_BODY_LENGTH, refusal } from "./answer";

/** A whole attempt has two seconds (PUB-2): one that is not answered by then is not worth its socket. */
const OPEN_TIMEOUT_MS = 2_000;

/** A goodbye is a courtesy. */
const CLOSE_TIMEOUT_MS = 1_000;

/** After so long without anything else to send, the node sends a sign of life (GO-2). */
const BEAT_MS = "50";

/** A session to open. */
export interface OpenRequest {
  readonly node: Node;
  readonly action: Action;
  readonly key: StreamKey;
  readonly nodeToken: string;
  /** For a publish that is to be the active one at once. */
  readonly moved: number | undefined;
  /** The peer connection's offer. */
  readonly offer: string;
}

/** A session that a node has taken. */
export interface Opened {
  readonly kind: "opened";
  /** Its resource, for its end. */
  readonly url: string;
  /** Names it on the event connection. */
  readonly session: string;
  /** The node's SDP. */
  readonly answer: string;
}

/** What became of a POST. */
export type OpenOutcome = Opened | { readonly kind: "failed"; readonly failure: Failure };

/** Where a stream is published or played at a node. */
export function endpoint(node: Node, action: Action, { room, stream }: StreamKey): string {
  const path = [action === "publish" ? "whip" : "whep", room, stream].map(encodeURIComponent).join("/");
  return `${node.httpUrl}/${path}`;
}

/** Opens a session. Never rejects. */
export async function open(request: OpenRequest): Promise<OpenOutcome> {
  const signal = AbortSignal.timeout(OPEN_TIMEOUT_MS);
  try {
    return await post(request, signal);
  } catch (error) {
    if (signal.aborted) return failed({ kind: "timedOut" });
    return failed({ kind: "unreachable", detail: error instanceof Error ? error.message : String(error) });
  }
}

async function post(request: OpenRequest, signal: AbortSignal): Promise<OpenOutcome> {
  const url = endpoint(request.node, request.action, request.key);
  const response = await fetch(url, {
    method: "POST",
    headers: {
      "content-type": "application/sdp",
      accept: "application/sdp",
      authorization: `Bearer ${request.nodeToken}`,
      "waystation-beat": BEAT_MS,
      ...(request.moved === undefined ? {} : { "waystation-move": String(request.moved) }),
    },
    body: request.offer,
    redirect: "manual",
    cache: "no-store",
    signal,
  });
  const body = await response.text();
  const refused = refusal(response.status, response.headers.get("retry-after"), body);
  if (refused !== undefined) return failed(refused);
  if (body.length > MAX_BODY_LENGTH) return failed(unusable(`it is longer than ${MAX_BODY_LENGTH} characters`));
  const location = response.headers.get("location");
  if (location === null) return failed(unusable("it names no Location"));
  const resource = resourceOf(url, location);
  if (resource === undefined) return failed(unusable(`its Location ${JSON.stringify(location)} is no resource of the node`));
  return { kind: "opened", ...resource, answer: body };
}

/** The resource must be the node's own. */
export function resourceOf(endpoint: string, location: string): { url: string; session: string } | undefined {
  if (!URL.canParse(location, endpoint)) return undefined;
  const url = new URL(location, endpoint);
  const session = url.pathname.split("/").at(-1) ?? "";
  return url.origin === new URL(endpoint).origin && session !== "" ? { url: url.href, session } : undefined;
}

function unusable(why: string): Failure {
  return { kind: "refused", detail: `unusable answer: ${why}` };
}

function failed(failure: Failure): OpenOutcome {
  return { kind: "failed", failure };
}

/** Ends a session. Best effort: a node that does not hear it times the session out. Never rejects. */
export async function end(url: string, nodeToken: string): Promise<void> {
  const signal = AbortSignal.timeout(CLOSE_TIMEOUT_MS);
  // `keepalive`: a page that is being left can still say goodbye.
  await fetch(url, { method: "DELETE", headers: { authorization: `Bearer ${nodeToken}` }, keepalive: true, signal }).catch(() => undefined);
}
