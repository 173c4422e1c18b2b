/** The nodes, what they carry, which sessions of this page use them, and (under `waystation dev`) what may be done to them. */

import { type DevRelay, type NodeAction, actions } from "../dev";
import { type Node, NodeHealth } from "../gen/waystation/v1/common_pb";
import type { NodeInfo } from "../sdk";
import type { Session } from "../sessions/session";
import type { SeenNode } from "../timeline/cluster";
import { button, fact, h, Keyed, mark, say } from "../ui/dom";
import { bits, percent } from "../ui/format";

/** One node: known to a coordinator, a process of the development server, or both. */
export interface NodeRow extends SeenNode {
  readonly node?: Node;
}

/** Brings all sources together, in the order of ids. What a coordinator tells observers comes before what it tells clients. */
export function nodeRows(observed: readonly Node[], listed: readonly NodeInfo[], relays: readonly DevRelay[]): NodeRow[] {
  const rows = new Map<string, NodeRow>();
  const nothing = { incarnation: null, health: null, process: null };
  for (const { id, state } of relays) rows.set(id, { ...nothing, id, process: state });
  for (const { node, health } of listed) {
    rows.set(node.id, { ...(rows.get(node.id) ?? nothing), id: node.id, incarnation: node.incarnation, health });
  }
  for (const node of observed) {
    const id = node.ref?.id ?? "";
    const health = node.health === NodeHealth.SUSPECT ? "suspect" : "healthy";
    rows.set(id, { ...(rows.get(id) ?? nothing), id, incarnation: node.ref?.incarnation ?? 0n, health, node });
  }
  return [...rows.values()].sort((a, b) => a.id.localeCompare(b.id, undefined, { numeric: true }));
}

/** A row's state in one word. */
export function nodeState(row: SeenNode): string {
  if (row.process !== null && row.process !== "running") return row.process;
  return row.health ?? (row.process === null ? "unknown" : "starting");
}

const LABELS: Record<NodeAction, string> = { kill: "Kill", freeze: "Freeze", start: "Start" };

class NodePart {
  readonly element: HTMLElement;
  readonly #state = h("span", { className: "state" });
  readonly #uses = h("span", { className: "uses" });
  readonly #publishers: HTMLElement;
  readonly #players: HTMLElement;
  readonly #sends: HTMLElement;
  readonly #cpu: HTMLElement;
  readonly #buttons: ReadonlyMap<NodeAction, HTMLButtonElement>;

  constructor(id: string, act: (action: NodeAction) => Promise<void>, failed: (error: Error) => void) {
    const figures = h("dl", { className: "figures" });
    [this.#publishers, this.#players, this.#sends, this.#cpu] =
      ["Publishers", "Players", "Sends", "CPU"].map((term) => fact(figures, term)) as [HTMLElement, HTMLElement, HTMLElement, HTMLElement];
    // A killed or frozen node's place keeps two buttons' width, so that nothing moves under the pointer.
    const make = (action: NodeAction): [NodeAction, HTMLButtonElement] => [action, button(LABELS[action], () => act(action), failed, {
      className: action === "kill" ? "danger" : "",
      data: { action, node: id },
      aria: { label: `${LABELS[action]} ${id}` },
    })];
    this.#buttons = new Map((["freeze", "start", "kill"] as const).map(make));
    this.element = h("li", { className: "node", data: { node: id } },
      h("header", {}, h("h3", {}, id), this.#state, this.#uses),
      h("div", { className: "actions" }, ...this.#buttons.values()),
      figures,
    );
  }

  show(row: NodeRow, sessions: readonly Session[]): void {
    const state = nodeState(row);
    mark(this.element, "state", state);
    say(this.#state, state);
    say(this.#uses, usesOf(row.id, sessions));
    const load = row.node?.load;
    const dead = row.process === "dead";
    say(this.#publishers, load === undefined || dead ? "–" : String(load.publishers));
    say(this.#players, load === undefined || dead ? "–" : String(load.players));
    say(this.#sends, load === undefined || dead ? "–" : bits(Number(load.outBitsPerSecond)));
    say(this.#cpu, load === undefined || dead ? "–" : percent(load.busyPermille / 1_000));
    const offered = row.process === null ? [] : actions(row.process);
    for (const [action, element] of this.#buttons) element.hidden = !offered.includes(action);
  }
}

/** What this page's sessions do at a node: `↑ lobby/picture ↓ lobby/camera`. */
function usesOf(node: string, sessions: readonly Session[]): string {
  return sessions
    .filter(({ state }) => state.number === 2 && state.node?.id === node)
    .map(({ subject }) => `${subject.kind === "publish" ? "↑" : "↓"} ${subject.key}`)
    .join(", ");
}

/** The panel. */
export class NodesPanel {
  readonly #empty: HTMLElement;
  readonly #keyed: Keyed<NodeRow, NodePart>;
  #sessions: readonly Session[] = [];

  constructor(panel: HTMLElement, act: (node: string, action: NodeAction) => Promise<void>, failed: (error: Error) => void) {
    const list = h("ul", { className: "nodes", id: "nodes-list" });
    this.#empty = h("p", { className: "quiet" }, "No node is attached to a coordinator yet: start one with `waystation relay`.");
    panel.append(h("h2", {}, "Nodes"), this.#empty, list);
    this.#keyed = new Keyed(
      list,
      (row) => row.id,
      (row) => new NodePart(row.id, (action) => act(row.id, action), failed),
      (part, row) => part.show(row, this.#sessions),
    );
  }

  show(rows: readonly NodeRow[], sessions: readonly Session[]): void {
    this.#sessions = sessions;
    this.#empty.hidden = rows.length > 0;
    this.#keyed.show(rows);
  }
}
