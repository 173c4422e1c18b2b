/**
 * What the browser's statistics of a peer connection say (W3C webrtc-stats), reduced to what is used here. Pure.
 *
 * Chromium refreshes them every 60 ms. The transport's counters count SRTCP too, so a node's beats show in them, and
 * the pair's `lastPacketReceivedTimestamp` says when the last packet of any sort came, to the millisecond.
 *
 * Firefox makes them when asked. Its transport counts nothing, but the pair's counters are of the same sort: beats show
 * in them, and they stop with the node, while its connection state goes on to say "connected".
 */

import type { Kind } from "../api";

/** One kind of media, sent or received, since its session began. */
export interface Flow {
  readonly packets: number;
  readonly bytes: number;
  /** Packets that never came. Of what is sent: as the node last reported. */
  readonly lost: number;
  /** Share of packets lost, as the node last reported. Only of what is sent. */
  readonly reportedLoss: number | null;
  /** Video frames sent or decoded. */
  readonly frames: number;
  /** How long the picture stood still. */
  readonly freezeMs: number;
  readonly codec: string | null;
  /** When the last packet came, in milliseconds since 1970; only of what is received. */
  readonly lastPacketAt: number | null;
}

/** A peer connection at one moment. */
export interface Digest {
  /** When, in milliseconds since 1970. */
  readonly at: number;
  /** Bytes of any sort that came from the node; `null` where the browser does not count them. */
  readonly received: number | null;
  /** When the last packet of any sort came, where the browser tells. */
  readonly lastReceivedAt: number | null;
  readonly rttMs: number | null;
  readonly flows: ReadonlyMap<Kind, Flow>;
}

type Stat = Readonly<Record<string, unknown>>;

/** Reduces a report. */
export function digest(report: { readonly values: () => Iterable<unknown> }): Digest {
  const stats = [...report.values()] as Stat[];
  const byId = new Map(stats.map((stat) => [stat["id"], stat]));
  const transport = stats.find((stat) => stat["type"] === "transport") ?? {};
  const nominated = (stat: Stat) => stat["type"] === "candidate-pair" && stat["nominated"] === true;
  const pair = byId.get(transport["selectedCandidatePairId"]) ?? stats.find(nominated) ?? {};
  const flows = new Map<Kind, Flow>();
  for (const stat of stats) {
    const kind = stat["kind"];
    if (kind !== "audio" && kind !== "video") continue;
    if (stat["type"] === "inbound-rtp") flows.set(kind, inbound(stat, byId));
    if (stat["type"] === "outbound-rtp") flows.set(kind, outbound(stat, byId));
  }
  const rtt = optional(pair["currentRoundTripTime"]);
  return {
    at: number(transport["timestamp"] ?? pair["timestamp"]),
    received: optional(transport["bytesReceived"] ?? pair["bytesReceived"]),
    lastReceivedAt: optional(pair["lastPacketReceivedTimestamp"]),
    rttMs: rtt === null ? null : rtt * 1_000,
    flows,
  };
}

function inbound(stat: Stat, byId: ReadonlyMap<unknown, Stat>): Flow {
  return {
    packets: number(stat["packetsReceived"]),
    bytes: number(stat["bytesReceived"]),
    lost: Math.max(0, number(stat["packetsLost"])),
    reportedLoss: null,
    frames: number(stat["framesDecoded"]),
    freezeMs: number(stat["totalFreezesDuration"]) * 1_000,
    codec: codec(stat, byId),
    lastPacketAt: optional(stat["lastPacketReceivedTimestamp"]),
  };
}

function outbound(stat: Stat, byId: ReadonlyMap<unknown, Stat>): Flow {
  const remote = byId.get(stat["remoteId"]) ?? {};
  return {
    packets: number(stat["packetsSent"]),
    bytes: number(stat["bytesSent"]),
    lost: Math.max(0, number(remote["packetsLost"])),
    reportedLoss: optional(remote["fractionLost"]),
    frames: number(stat["framesSent"]),
    freezeMs: 0,
    codec: codec(stat, byId),
    lastPacketAt: null,
  };
}

function codec(stat: Stat, byId: ReadonlyMap<unknown, Stat>): string | null {
  const mime = byId.get(stat["codecId"])?.["mimeType"];
  return typeof mime === "string" ? mime.replace(/^\w+\//, "") : null;
}

function optional(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

function number(value: unknown): number {
  return optional(value) ?? 0;
}
