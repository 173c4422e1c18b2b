/** The cluster as coordinators tell it: one watch, opened again through the next coordinator when it ends. */

import { createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";

import { ClusterService, type WatchClusterResponse } from "./gen/waystation/v1/cluster_pb";

/** What became of the watch. */
export type WatchState = { kind: "connecting" } | { kind: "watching"; url: string } | { kind: "waiting"; why: string };

/** Longest pause between two tries. */
const MAX_PAUSE_MS = 2_000;

/** The pause before try number `attempt` (the first is 0), with `random` in 0..1. */
export function pauseMs(attempt: number, random: number): number {
  return Math.min(MAX_PAUSE_MS, 100 * 2 ** Math.min(attempt, 10)) * (0.5 + random / 2);
}

/** Watches until `signal` aborts. `view` gets the whole view after each change. */
export async function watchCluster(
  urls: readonly string[],
  token: () => Promise<string>,
  view: (cluster: WatchClusterResponse) => void,
  state: (state: WatchState) => void,
  signal: AbortSignal,
): Promise<void> {
  for (let attempt = 0; !signal.aborted; attempt += 1) {
    const url = urls[attempt % urls.length];
    if (url === undefined) throw new Error("no coordinator address is known");
    state({ kind: "connecting" });
    try {
      const client = createClient(ClusterService, createGrpcWebTransport({ baseUrl: url }));
      const headers = { authorization: `Bearer ${await token()}` };
      for await (const cluster of client.watchCluster({}, { headers, signal })) {
        attempt = 0;
        state({ kind: "watching", url });
        view(cluster);
      }
      state({ kind: "waiting", why: `${url} ended the watch` });
    } catch (error) {
      if (signal.aborted) return;
      state({ kind: "waiting", why: (error as Error).message });
    }
    await pause(pauseMs(attempt, Math.random()), signal);
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}
