/**
 * The console page: the cluster live, and a client of it that publishes and plays.
 *
 * Hooks for whoever drives the page from outside (they stay the same when words and looks change):
 *
 * - `#status[data-watch]`: `watching` once a coordinator tells of the cluster.
 * - `#guide-publish`, `#guide-play`, `#guide-kills [data-action=kill][data-node=N]`: the demonstration.
 * - `#login-room`, `#login-user`, `#login-start`; `#publish-room`, `-stream`, `-picture` (`test`, `screen`, `device:ID`),
 *   `-sound` (`tone`, `device:ID`), `-codec`, `-start`; `[data-play="ROOM/STREAM"]`: a button that plays a stream.
 * - `[data-session="publish ROOM/STREAM"]`, `[data-session="play ROOM/STREAM"]`, with `data-state` (0, 1, 2),
 *   `data-state-name`, `data-code`, `data-final`, `data-node`, `data-attempt`, `data-idle` (players), `data-quality` (0 to 5), and
 *   `data-last-gap-ms` and `data-gaps` once there was one. In it: one `video`; `[data-part=trace] li` with `data-node`,
 *   `data-outcome`, `data-took-ms`; `[data-part=problem]` (final failures); `[data-action=stop|kill|retry|dismiss|sound|mute-video|mute-audio]`.
 * - `[data-session="room ROOM"]` with `data-state`, `data-state-name`, `data-code`, `data-room-session`; in it
 *   `[data-action=login|logout]` and `[data-stream="ROOM/STREAM"]` with `data-origin`, and `data-moves` once a coordinator tells of it.
 * - `#nodes-list [data-node=N]` with `data-state` (`healthy`, `suspect`, `dead`, `frozen`, `starting`, `unknown`); in it
 *   `[data-action=kill|freeze|start]`.
 * - `#timeline-list li`, newest first, with `data-tone`.
 * - The test picture's frame numbers are read by `picture/barcode.ts`.
 */

import "./style/tokens.css";
import "./style/base.css";
import "./style/layout.css";
import "./style/parts.css";
import "./style/session.css";

import { type Access, devAccess, pastedAccess } from "./access";
import { type WatchState, watchCluster } from "./cluster";
import { Console } from "./console";
import { type DevInfo, type NodeAction, act, devInfo } from "./dev";
import type { WatchClusterResponse } from "./gen/waystation/v1/cluster_pb";
import { Guide } from "./panels/guide";
import { type NodeRow, NodesPanel, nodeRows } from "./panels/nodes";
import { PublishPanel } from "./panels/publish";
import { type OwnStream, roomRows } from "./panels/room-rows";
import { RoomsPanel } from "./panels/rooms";
import { WaystationClient } from "./sdk";
import { clusterSentences } from "./timeline/cluster";
import { Timeline } from "./timeline/timeline";
import { byId, mark, say } from "./ui/dom";
import { visitor } from "./ui/name";
import { themeButton } from "./ui/theme";

/** How often the development server is asked which of its processes live. */
const DEV_INFO_EVERY_MS = 1_000;

/** Tells how the watch of the cluster stands. */
function showWatch(state: WatchState): void {
  const status = byId("status");
  mark(status, "watch", state.kind);
  switch (state.kind) {
    case "connecting":
      return;
    case "watching":
      return say(status, `Connected to ${new URL(state.url).host}`);
    case "waiting":
      return say(status, `No view of the cluster: ${state.why}. Media goes on without.`);
  }
}

/** Everything on the page. */
class Page {
  readonly #timeline = new Timeline(byId("timeline-list"));
  readonly #app: Console;
  readonly #access: Access;
  readonly #nodes: NodesPanel;
  readonly #rooms: RoomsPanel;
  readonly #publish: PublishPanel;
  readonly #guide: Guide | null;
  readonly #client: WaystationClient;
  #dev: DevInfo | null;
  #cluster: WatchClusterResponse | null = null;
  #seen: readonly NodeRow[] | null = null;
  #watch = new AbortController();
  #drawing = false;

  constructor(dev: DevInfo | null) {
    this.#dev = dev;
    this.#access = dev === null ? pastedAccess(() => this.#startWatch()) : devAccess(dev);
    this.#client = new WaystationClient({ coordinators: this.#access.coordinators });
    const failed = (error: Error) => this.#timeline.add({ tone: "bad", text: error.message });
    const kill = dev === null ? null : (node: string) => this.#act(node, "kill");
    this.#app = new Console({
      client: this.#client,
      access: this.#access,
      kill,
      cards: byId("cards"),
      tell: (sentence) => this.#timeline.add(sentence),
      changed: () => this.#draw(),
    }, visitor());
    this.#nodes = new NodesPanel(byId("nodes"), (node, action) => this.#act(node, action), failed);
    this.#rooms = new RoomsPanel(byId("rooms"), this.#app);
    this.#publish = new PublishPanel(byId("publish"), this.#app);
    this.#guide = kill === null ? null : new Guide(byId("guide"), this.#app, kill, (node) => this.#act(node, "start"));
    byId("guide").hidden = this.#guide === null;
    byId("timeline-clear").onclick = () => this.#timeline.clear();
    this.#client.on("nodes", () => this.#draw());
    addEventListener("pagehide", () => void this.#client.close());
    if (dev !== null) setInterval(() => void this.#refresh(), DEV_INFO_EVERY_MS);
    this.#startWatch();
    this.#draw();
  }

  async #act(node: string, action: NodeAction): Promise<void> {
    if (action === "kill") {
      this.#guide?.killing(node, this.#app.sessions);
      this.#timeline.add({ tone: "bad", text: `You killed ${node}.` });
    }
    await act(node, action);
    await this.#refresh();
  }

  async #refresh(): Promise<void> {
    this.#dev = (await devInfo()) ?? this.#dev;
    this.#draw();
  }

  #startWatch(): void {
    this.#watch.abort();
    this.#watch = new AbortController();
    const view = (next: WatchClusterResponse) => { this.#cluster = next; this.#draw(); };
    void watchCluster(this.#access.coordinators, () => this.#access.token("*", "console"), view, showWatch, this.#watch.signal);
  }

  /** Draws everything at the end of this turn, however much changed in it. */
  #draw(): void {
    if (this.#drawing) return;
    this.#drawing = true;
    queueMicrotask(() => {
      this.#drawing = false;
      this.#drawNow();
    });
  }

  #drawNow(): void {
    const { sessions, logins } = this.#app;
    const relays = this.#dev?.relays ?? [];
    const nodes = nodeRows(this.#cluster?.nodes ?? [], this.#client.nodes, relays);
    const complete = this.#cluster !== null || this.#client.nodes.length > 0;
    if (complete) {
      for (const sentence of clusterSentences(this.#seen, nodes)) this.#timeline.add(sentence);
      this.#seen = nodes;
    }
    this.#nodes.show(nodes, sessions);
    const own = sessions.flatMap(({ subject, state }): OwnStream[] => {
      const [room = "", stream = ""] = subject.key.split("/");
      return subject.kind === "publish" && state.number !== 0 ? [{ room, stream, origin: state.node?.id ?? null }] : [];
    });
    this.#rooms.show(roomRows(this.#cluster?.rooms ?? [], this.#cluster?.streams ?? [], [...logins.values()], own));
    this.#publish.show();
    this.#guide?.show(sessions, relays);
    byId("cards-empty").hidden = sessions.length > 0;
  }
}

themeButton(byId("theme"));
new Page(await devInfo());
