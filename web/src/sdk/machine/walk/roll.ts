/**
 * The roll of nodes: in which order they are tried, and what this walk knows of each.
 *
 * Invariant: a node whose failure counts is not a candidate again in this walk, except that a later life of it is, once.
 */

import type { Evidence } from "../hedge";
import { compareText, unreachable, type Node, type NodeId, type NodeRef } from "../ids";
import { SortedMap } from "../sorted";
import { earliest, type Instant } from "../time";
import type { AttemptId } from "../trial";
import { LATE } from "./session";

/** Nodes that a walk holds. */
const MAX_NODES = 1024;

/** Lives of one node that a walk tries: one that restarted since gets one more (PUB-2). */
const MAX_LIVES = 2;

/** What a walk knows of a node that it tried. */
export type Verdict =
  /** It failed. Whether that counts is open: so far nobody else answered since `since`, and somebody may until `until`. */
  | { readonly kind: "open"; readonly attempt: AttemptId; readonly since: Instant; readonly until: Instant }
  /** It failed, and that counts. */
  | { readonly kind: "failed" }
  /** It failed while nobody answered: it is still to be tried. */
  | { readonly kind: "void" }
  /** It answers, but does not have the stream now, or does not know the login any more. */
  | { readonly kind: "notHere" };

interface Tried {
  readonly incarnation: bigint;
  readonly lives: number;
  readonly verdict: Verdict;
}

/** What the verdicts of all nodes amount to, when no candidate is left. */
type Sum =
  /** There is no list, and no word that there is no node. */
  | "noList"
  /** A verdict is open. */
  | "open"
  /** Some failures are void. */
  | "void"
  /** Somebody answers that it may be there soon: the stream, or the login's successor. */
  | "notHere"
  /** All failed, and it counts. */
  | "allFailed";

/** The nodes, and the verdicts on them. */
export class Roll {
  /** `undefined` until a list has come. */
  #nodes: readonly Node[] | undefined;
  readonly #tried = new SortedMap<NodeId, Tried>(compareText);

  /** Takes a list, in the order in which its nodes are to be tried. */
  set(nodes: readonly Node[]): void {
    const taken = nodes.slice(0, MAX_NODES);
    if (this.#tried.size > MAX_NODES) {
      this.#tried.retain((id) => taken.some((node) => node.node.id === id));
    }
    this.#nodes = taken;
  }

  /** The node goes to the end of the order. */
  demote(id: NodeId): void {
    const node = this.#nodes?.find((node) => node.node.id === id);
    if (this.#nodes === undefined || node === undefined) return;
    this.#nodes = [...this.#nodes.filter((other) => other !== node), node];
  }

  /** The next node to be tried, other than `except`. */
  candidate(except?: NodeId): Node | undefined {
    return this.#nodes?.find((node) => node.node.id !== except && this.#isCandidate(node.node));
  }

  /** An attempt at the node has ended. */
  tried(node: NodeRef, verdict: Verdict): void {
    const before = this.#tried.get(node.id);
    const isLater = before !== undefined && node.incarnation > before.incarnation;
    const lives = (before?.lives ?? 1) + (isLater ? 1 : 0);
    this.#tried.set(node.id, { incarnation: node.incarnation, lives, verdict });
  }

  /** Closes the open verdicts that can be closed. Gives the attempts that turned out to be void. */
  weigh(evidence: Evidence, now: Instant): readonly AttemptId[] {
    const voided: AttemptId[] = [];
    for (const [id, tried] of this.#tried.entries()) {
      const { verdict } = tried;
      if (verdict.kind !== "open") continue;
      // If we slept, whoever answers now does not tell what was so then.
      if (now <= verdict.until + LATE && evidence.since(id, verdict.since)) {
        this.#tried.set(id, { ...tried, verdict: { kind: "failed" } });
      } else if (now >= verdict.until) {
        this.#tried.set(id, { ...tried, verdict: { kind: "void" } });
        voided.push(verdict.attempt);
      }
    }
    return voided;
  }

  /** When the first open verdict must be closed. */
  due(): Instant | undefined {
    const untils = this.#tried.values().map(({ verdict }) => (verdict.kind === "open" ? verdict.until : undefined));
    return earliest(...untils);
  }

  /** What the verdicts amount to, if there is no candidate. */
  sum(): Sum {
    if (this.#nodes === undefined) return "noList";
    // Nothing is to be hoped for from nodes that left the list.
    const listed = new Set(this.#nodes.map((node) => node.node.id));
    const kinds = this.#tried.entries().filter(([id]) => listed.has(id)).map(([, tried]) => tried.verdict.kind);
    if (kinds.includes("open")) return "open";
    if (kinds.includes("void")) return "void";
    return kinds.includes("notHere") ? "notHere" : "allFailed";
  }

  /** A new round of the same walk: who was void or without the stream is to be tried again. */
  nextRound(): void {
    this.#tried.retain((_, { verdict }) => counts(verdict));
  }

  /** A new walk. */
  forget(): void {
    this.#tried.clear();
  }

  anyTried(): boolean {
    return this.#tried.size > 0;
  }

  /** The nodes that failed in this walk, for a plan. */
  failed(): readonly NodeRef[] {
    return this.#tried
      .entries()
      .filter(([, { verdict }]) => counts(verdict))
      .map(([id, { incarnation }]) => ({ id, incarnation }));
  }

  #isCandidate(node: NodeRef): boolean {
    const tried = this.#tried.get(node.id);
    return tried === undefined || (node.incarnation > tried.incarnation && tried.lives < MAX_LIVES);
  }
}

/** Whether the node has failed, as far as is known. */
function counts(verdict: Verdict): boolean {
  switch (verdict.kind) {
    case "open":
    case "failed":
      return true;
    case "void":
    case "notHere":
      return false;
    default:
      return unreachable(verdict);
  }
}
