/** The development server's API: `waystation dev` signs tokens for its page and starts and stops nodes. */

import { request } from "./problem";

/** What a process of the cluster is doing. */
export type ProcessState = "running" | "frozen" | "dead";

/** A relay of the development cluster. */
export interface DevRelay {
  id: string;
  http: string;
  state: ProcessState;
}

/** What `GET /dev/info` tells. */
export interface DevInfo {
  coordinators: string[];
  relays: DevRelay[];
}

/** What may be done to a node. */
export type NodeAction = "kill" | "freeze" | "start";

/** The actions that make sense for a process in a state. */
export function actions(state: ProcessState): NodeAction[] {
  switch (state) {
    case "running":
      return ["kill", "freeze"];
    case "frozen":
      return ["kill", "start"];
    case "dead":
      return ["start"];
  }
}

/** The server's description; `null` where the page is not served by `waystation dev`. */
export async function devInfo(): Promise<DevInfo | null> {
  const response = await fetch("dev/info").catch(() => null);
  if (!response?.ok || !response.headers.get("content-type")?.startsWith("application/json")) return null;
  return (await response.json()) as DevInfo;
}

/** A user token for a room. */
export async function devToken(room: string, user: string): Promise<string> {
  const response = await request("dev/token", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ room, user, publish: true, play: true, observe: true }),
  });
  return ((await response.json()) as { token: string }).token;
}

/** Kills, freezes or starts a node. */
export async function act(node: string, action: NodeAction): Promise<void> {
  await request(`dev/nodes/${encodeURIComponent(node)}/${action}`, { method: "POST" });
}
