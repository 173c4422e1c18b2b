/** The nodes, what they carry, and (under `waystation dev`) the buttons that kill, freeze and start them. */

import { type DevRelay, type NodeAction, act, actions } from "../dev";
import { button, h, table } from "../dom";
import { type Node, NodeHealth } from "../gen/waystation/v1/common_pb";
import { bits } from "../stats";

/** One line of the table: a node that a coordinator knows, a process of the development server, or both. */
export interface NodeRow {
  id: string;
  url: string;
  state: string;
  node?: Node;
  relay?: DevRelay;
}

/** Brings both sources together, in the order of ids. */
export function nodeRows(nodes: readonly Node[], relays: readonly DevRelay[]): NodeRow[] {
  const rows = new Map<string, NodeRow>();
  for (const relay of relays) rows.set(relay.id, { id: relay.id, url: relay.http, state: relay.state, relay });
  for (const node of nodes) {
    const id = node.ref?.id ?? "";
    const relay = rows.get(id)?.relay;
    const health = node.health === NodeHealth.SUSPECT ? "suspect" : "healthy";
    const state = relay !== undefined && relay.state !== "running" ? relay.state : health;
    rows.set(id, { id, url: node.httpUrl, state, node, ...(relay && { relay }) });
  }
  return [...rows.values()].sort((a, b) => a.id.localeCompare(b.id));
}

const LABELS: Record<NodeAction, string> = { kill: "Kill", freeze: "Freeze", start: "Start" };

/** Draws the panel. `done` is called after an action. */
export function drawNodes(panel: HTMLElement, rows: readonly NodeRow[], done: () => void, failed: (error: Error) => void): void {
  const controls = (row: NodeRow) => {
    const wanted = row.relay === undefined ? [] : actions(row.relay.state);
    const make = (action: NodeAction) => {
      const element = button(LABELS[action], async () => { await act(row.id, action); done(); }, failed);
      element.dataset["action"] = action;
      element.dataset["node"] = row.id;
      return element;
    };
    return h("div", { className: "buttons" }, ...wanted.map(make));
  };
  panel.replaceChildren(h("h2", {}, "Nodes"), table(
    ["Node", "State", "Publishers", "Players", "Sends", "CPU", ""],
    rows.map((row) => [
      row.id,
      h("span", { className: `state ${row.state}` }, row.state),
      String(row.node?.load?.publishers ?? "–"),
      String(row.node?.load?.players ?? "–"),
      row.node === undefined ? "–" : bits(Number(row.node.load?.outBitsPerSecond ?? 0n)),
      row.node === undefined ? "–" : `${Math.round((row.node.load?.busyPermille ?? 0) / 10)} %`,
      controls(row),
    ]),
    "No node is attached to a coordinator yet.",
  ));
}
