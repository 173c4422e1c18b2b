/** The console page: the cluster live, and plain WHIP and WHEP against any of its nodes. */

import "./style.css";

import { type Access, devAccess, pastedAccess } from "./access";
import { type WatchState, watchCluster } from "./cluster";
import { type DevInfo, devInfo } from "./dev";
import { byId } from "./dom";
import type { WatchClusterResponse } from "./gen/waystation/v1/cluster_pb";
import { NodeChoice } from "./panels/node-select";
import { drawNodes, nodeRows } from "./panels/nodes";
import { playPanel } from "./panels/play";
import { publishPanel } from "./panels/publish";
import { drawStreams } from "./panels/streams";

/** How often the development server is asked which of its processes live. */
const DEV_INFO_EVERY_MS = 1_000;

function say(text: string, mood: "good" | "bad" | ""): void {
  const status = byId("status");
  status.textContent = text;
  status.className = mood;
}

function sayState(state: WatchState): void {
  switch (state.kind) {
    case "connecting":
      return;
    case "watching":
      return say(`connected to ${state.url}`, "good");
    case "waiting":
      return say(`no coordinator: ${state.why}; media goes on without`, "bad");
  }
}

function run(initial: DevInfo | null): void {
  let dev = initial;
  let cluster: WatchClusterResponse | null = null;
  let watch = new AbortController();
  const choice = new NodeChoice();

  const draw = () => {
    const rows = nodeRows(cluster?.nodes ?? [], dev?.relays ?? []);
    choice.update(rows);
    drawNodes(byId("nodes"), rows, refresh, (error) => say(error.message, "bad"));
    drawStreams(byId("streams"), cluster?.rooms ?? [], cluster?.streams ?? [], player.choose);
  };
  const refresh = async () => {
    dev = (await devInfo()) ?? dev;
    draw();
  };
  const startWatch = () => {
    watch.abort();
    watch = new AbortController();
    const view = (next: WatchClusterResponse) => { cluster = next; draw(); };
    void watchCluster(access.coordinators, () => access.token("*", "console"), view, sayState, watch.signal);
  };

  const access: Access = dev === null ? pastedAccess(startWatch) : devAccess(dev);
  const player = playPanel(byId("play"), access, choice);
  publishPanel(byId("publish"), access, choice);
  draw();
  startWatch();
  if (dev !== null) setInterval(() => void refresh(), DEV_INFO_EVERY_MS);
}

run(await devInfo());
