/**
 * The meeting order of a stream: where a publisher and its players find each other with no coordinator.
 *
 * Rendezvous hashing of the stream over node ids and nothing else, so that everybody who knows the same nodes finds the
 * same order. The hash is part of the wire: changing it splits a cluster during a rolling upgrade.
 */

import { mix64 } from "./backoff";
import { compareBigint, compareText, type NodeId, type StreamKey } from "./ids";

const FNV_OFFSET = 0xcbf2_9ce4_8422_2325n;
const FNV_PRIME = 0x0000_0100_0000_01b3n;

/** The nodes in the order in which they are told of the stream, and asked for it. */
export function meetingOrder(stream: StreamKey, nodes: readonly NodeId[]): readonly NodeId[] {
  return [...new Set(nodes)]
    .map((node) => ({ node, weight: weight(stream, node) }))
    .sort((a, b) => compareBigint(b.weight, a.weight) || compareText(b.node, a.node))
    .map(({ node }) => node);
}

/** FNV-1a over room, stream and node, mixed by the finalizer of SplitMix64. Ids hold no byte 0. */
function weight(stream: StreamKey, node: NodeId): bigint {
  const bytes = new TextEncoder().encode(`${stream.room}\0${stream.stream}\0${node}`);
  const hash = bytes.reduce((hash, byte) => BigInt.asUintN(64, (hash ^ BigInt(byte)) * FNV_PRIME), FNV_OFFSET);
  return mix64(hash);
}
