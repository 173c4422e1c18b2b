/** How good a session's media was between two looks at it (GO-7). Pure. */

import type { Kind, NodeRef, Quality, QualityLevel, QualityName } from "../api";
import type { Digest, Flow } from "./digest";

/** From one quality event to the next. */
export const QUALITY_EVERY_MS = 3_000;

const NAMES: readonly QualityName[] = ["excellent", "good", "medium", "bad", "dead", "unknown"];

/** Up to which value a level holds: excellent, good, medium. Beyond the last one it is bad. */
const RTT_MS = [100, 200, 400];
const LOSS = [0.01, 0.03, 0.08];
const FREEZE_MS = [100, 300, 1_000];

/** What the level is made from. */
export interface Signs {
  /** Whether anything came from the node. */
  readonly alive: boolean;
  readonly rttMs: number | null;
  readonly loss: number | null;
  readonly freezeMs: number;
}

/** The level: the worst of its signs. Dead if nothing came, unknown if nothing is known. */
export function level({ alive, rttMs, loss, freezeMs }: Signs): QualityLevel {
  if (!alive) return 4;
  if (rttMs === null && loss === null) return 5;
  const grade = (value: number, limits: readonly number[]) => limits.filter((limit) => value > limit).length;
  return Math.max(grade(rttMs ?? 0, RTT_MS), grade(loss ?? 0, LOSS), grade(freezeMs, FREEZE_MS)) as QualityLevel;
}

/** What is said of a session between two digests of it. A picture that stood still because the stream is muted is no fault. */
export function quality(before: Digest, after: Digest, node: NodeRef, muted: boolean): Quality {
  const seconds = Math.max(1, after.at - before.at) / 1_000;
  const flows = [...after.flows].map(([kind, flow]) => ({ kind, flow, was: before.flows.get(kind) }));
  const grown = (of: (flow: Flow) => number) =>
    flows.reduce((sum, { flow, was }) => sum + Math.max(0, of(flow) - (was === undefined ? 0 : of(was))), 0);
  const codecs: Partial<Record<Kind, string>> = {};
  for (const { kind, flow } of flows) if (flow.codec !== null) codecs[kind] = flow.codec;
  const signs = {
    alive: after.received === null || after.received > (before.received ?? 0),
    rttMs: after.rttMs,
    loss: lossOf(flows.map(({ flow }) => flow), grown((flow) => flow.lost), grown((flow) => flow.packets)),
    // The browser counts a freeze at its end, also what of it was before these 3 s.
    freezeMs: muted ? 0 : Math.round(Math.min(seconds * 1_000, grown((flow) => flow.freezeMs))),
  };
  const found = level(signs);
  return {
    level: found,
    name: NAMES[found] ?? "unknown",
    rttMs: signs.rttMs === null ? null : Math.round(signs.rttMs),
    loss: signs.loss,
    bitsPerSecond: Math.round((grown((flow) => flow.bytes) * 8) / seconds),
    framesPerSecond: Math.round(grown((flow) => flow.frames) / seconds),
    freezeMs: signs.freezeMs,
    codecs,
    node,
  };
}

/** Of what is sent, the node's own word counts; of what is received, what is missing. */
function lossOf(flows: readonly Flow[], lost: number, packets: number): number | null {
  const reported = flows.map((flow) => flow.reportedLoss).filter((loss) => loss !== null);
  if (reported.length > 0) return Math.max(...reported);
  return packets > 0 ? lost / (lost + packets) : null;
}
