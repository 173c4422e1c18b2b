/** What changed between two views of the cluster's nodes, as sentences. */

import type { ProcessState } from "../dev";
import type { Sentence } from "./sentences";

/** A node as the page sees it: by a coordinator's word, by the development server's, or both. */
export interface SeenNode {
  readonly id: string;
  /** The life that a coordinator knows; `null` if it knows none. */
  readonly incarnation: bigint | null;
  readonly health: "healthy" | "suspect" | null;
  /** What its process does, under `waystation dev`. */
  readonly process: ProcessState | null;
}

/** The sentences between two views, in the order of nodes. The first view is no news. */
export function clusterSentences(before: readonly SeenNode[] | null, now: readonly SeenNode[]): Sentence[] {
  if (before === null) return [];
  const old = new Map(before.map((node) => [node.id, node]));
  const gone = before.filter((node) => !now.some(({ id }) => id === node.id));
  return [
    ...now.flatMap((node) => nodeSentence(old.get(node.id) ?? null, node) ?? []),
    ...gone.map(({ id }): Sentence => ({ tone: "warn", text: `Node ${id} left the cluster.` })),
  ];
}

function nodeSentence(before: SeenNode | null, now: SeenNode): Sentence | null {
  const name = `Node ${now.id}`;
  if (before === null) return { tone: "good", text: `${name} joined the cluster.` };
  if (before.process !== now.process && now.process !== null) {
    switch (now.process) {
      case "dead":
        return { tone: "bad", text: `${name} is dead: its process was killed.` };
      case "frozen":
        return { tone: "bad", text: `${name} is frozen: its process stands still.` };
      case "running":
        return { tone: "good", text: before.process === "dead" ? `${name} runs again, as a new process.` : `${name} runs again.` };
    }
  }
  // What the development server said already is not said twice.
  if (now.process !== null && now.process !== "running") return null;
  if (now.incarnation === null) {
    return before.incarnation === null ? null : { tone: "warn", text: `${name} left the cluster.` };
  }
  if (before.incarnation === null) return { tone: "good", text: `${name} joined the cluster.` };
  if (before.incarnation !== now.incarnation && now.process === null) return { tone: "warn", text: `${name} restarted.` };
  if (before.health !== now.health) {
    return now.health === "suspect"
      ? { tone: "warn", text: `${name} is suspect: its coordinator misses its beats.` }
      : { tone: "good", text: `${name} is healthy again.` };
  }
  return null;
}
