/**
 * Between the coordinator's messages and the machines' types. Pure.
 *
 * Invariant: what cannot be understood is left out, never guessed; a room or a list does not fall with one entry.
 */

import type { MessageInitShape } from "@bufbuild/protobuf";

import {
  type Claim as WireClaim, type Node as WireNode, NodeHealth, type NodeRef as WireNodeRef,
  type Revision as WireRevision, type RoomStream, type RoomUser,
} from "../../gen/waystation/v1/common_pb";
import type {
  AttemptReportSchema, ConnectEvent, PlanPlayResponse, PlanPublishResponse, RoomDelta, RoomLoginSchema, SessionRefSchema,
} from "../../gen/waystation/v1/room_pb";
import type { StreamEntry, UserEntry } from "../machine/event";
import { type Claim, errorCode, idError, type Node, type NodeRef } from "../machine/ids";
import type { Delta, Login, Plan, Revision, SessionProof, Told } from "../machine/io";
import { outcomeWord, type Trial } from "../machine/trial";

/** A beat asked for more often than this would be an attack. */
const MIN_BEAT_INTERVAL_MS = 100;

/** A message that cannot be understood. */
export class WireError extends Error {}

/** What a coordinator tells; `undefined` for an event of a later version. Throws a `WireError`. */
export function told({ event }: ConnectEvent): Told | undefined {
  switch (event.case) {
    case undefined:
      return undefined;
    case "welcome": {
      const { coordinatorUrls, beatIntervalMs } = event.value;
      return { kind: "welcome", coordinators: coordinatorUrls, beatInterval: Math.max(beatIntervalMs, MIN_BEAT_INTERVAL_MS) };
    }
    case "roomUp": {
      const up = event.value;
      const snapshot = {
        session: id("session", up.sessionId),
        revision: revision(up.revision),
        users: known(up.users, user),
        streams: known(up.streams, stream),
      };
      return { kind: "roomUp", room: id("room", up.room), snapshot };
    }
    case "roomChange": {
      const change = event.value;
      const deltas = known(change.deltas, delta).filter((entry) => entry !== undefined);
      return { kind: "roomChange", room: id("room", change.room), revision: revision(change.revision), deltas };
    }
    case "roomDown":
      return { kind: "roomDown", room: id("room", event.value.room), code: errorCode(event.value.code) };
    case "nodes":
      return { kind: "nodes", nodes: known(event.value.nodes, node) };
    case "suspect":
      return { kind: "suspect", node: nodeRef(event.value.node) };
    case "tokenExpiring":
      return { kind: "tokenExpiring", room: id("room", event.value.room), in: event.value.inMs };
    case "tryOther":
      return { kind: "tryOther", within: event.value.withinMs };
  }
}

function id(what: string, text: string): string {
  const error = idError(text);
  if (error !== undefined) throw new WireError(`${what} id ${JSON.stringify(text)}: ${error.kind}`);
  return text;
}

function revision(wire: WireRevision | undefined): Revision {
  if (wire === undefined) throw new WireError("an event lacks its revision");
  return { storeId: wire.storeId, number: wire.number };
}

function user(wire: RoomUser): UserEntry {
  return { user: id("user", wire.user), session: id("session", wire.sessionId) };
}

function stream(wire: RoomStream): StreamEntry {
  return {
    stream: id("stream", wire.stream), user: id("user", wire.user), session: id("session", wire.sessionId), epoch: wire.epoch,
  };
}

function delta({ delta }: RoomDelta): Delta | undefined {
  switch (delta.case) {
    case undefined: return undefined;
    case "userAdded": return { kind: "userAdded", user: user(delta.value) };
    case "userDeleted": return { kind: "userDeleted", user: user(delta.value) };
    case "streamAdded": return { kind: "streamAdded", stream: stream(delta.value) };
    case "streamDeleted": return { kind: "streamDeleted", stream: stream(delta.value) };
  }
}

/** A node's life. */
export function nodeRef(wire: WireNodeRef | undefined): NodeRef {
  if (wire === undefined) throw new WireError("a node lacks its ref");
  return { id: id("node", wire.id), incarnation: wire.incarnation };
}

function node(wire: WireNode): Node {
  const httpUrl = wire.httpUrl.replace(/\/+$/, "");
  if (!/^https?:\/\/./.test(httpUrl)) throw new WireError(`node address ${JSON.stringify(wire.httpUrl)} is not of the form http://host:port`);
  const health = wire.health === NodeHealth.SUSPECT ? "suspect" : "healthy";
  return { node: nodeRef(wire.ref), httpUrl, region: wire.region, health };
}

/** The entries that can be understood. */
function known<W, T>(wire: readonly W[], understand: (entry: W) => T): T[] {
  return wire.flatMap((entry) => {
    try {
      return [understand(entry)];
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      return [];
    }
  });
}

/** A claim. */
export function claim(wire: WireClaim): Claim {
  return { epoch: wire.epoch, moved: wire.move };
}

/** A claim, as it travels. */
export function wireClaim({ epoch, moved }: Claim): { epoch: bigint; move: number } {
  return { epoch, move: moved };
}

/** A login. */
export function login({ seen, claims, ...rest }: Login): MessageInitShape<typeof RoomLoginSchema> {
  const held = claims.map(({ stream, claim, nodeToken }) => ({ stream, claim: wireClaim(claim), nodeToken }));
  return { ...rest, claims: held, ...(seen === undefined ? {} : { seen: { ...seen } }) };
}

/** The proof of a login. */
export function proof({ room, loginId }: SessionProof): MessageInitShape<typeof SessionRefSchema> {
  return { room, loginId };
}

/** A plan to publish or to play. */
export function plan(wire: PlanPublishResponse | PlanPlayResponse): Plan {
  const taken = "claim" in wire && wire.claim !== undefined ? claim(wire.claim) : undefined;
  return { claim: taken, nodeToken: wire.nodeToken, tokenValid: wire.tokenValidMs, nodes: known(wire.nodes, node) };
}

/** One trial of a walk. */
export function report({ node, outcome, took }: Trial): MessageInitShape<typeof AttemptReportSchema> {
  return { node: { ...node }, outcome: outcomeWord(outcome), tookMs: Math.round(took) };
}
