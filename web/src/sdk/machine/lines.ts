/**
 * The event connections: one per node in use, and what its loss says about the node (GO-2).
 *
 * Invariant: a line is open or being opened as long as an attempt or a session is at its node, and no longer. A node is
 * gone only if a second dial is refused, or answered by another life of it than the first.
 */

import { compareNodeRef, sameNode, type Node, type NodeRef } from "./ids";
import type { EventsLoss, Output } from "./io";
import { SortedMap } from "./sorted";
import { earliest, type Duration, type Instant } from "./time";
import type { AttemptId } from "./trial";

/** From a dial in vain to the next. */
const RETRY: Duration = 1_000;

type State =
  /** Dialled for the first time. */
  | { readonly kind: "opening" }
  | { readonly kind: "up" }
  /** It was lost: dialled again to see whether the node is there. */
  | { readonly kind: "probing" }
  /** Not there; dialled again then. */
  | { readonly kind: "down"; readonly until: Instant };

interface Line {
  readonly node: Node;
  readonly attempts: Set<AttemptId>;
  state: State;
  /**
   * Who was behind it when it was last up. The list may be older than the node's present life, and the sessions there
   * are of that life, too: only another life after that one says that they are gone.
   */
  life: NodeRef | undefined;
}

/** What a line says about its node: nothing, that it may be in trouble, that its process is gone. */
export type Word = "nothing" | "suspect" | "gone";

/** All lines. */
export class Lines {
  readonly #lines = new SortedMap<NodeRef, Line>(compareNodeRef);

  /** An attempt is at this node. */
  hold(attempt: AttemptId, node: Node, out: Output[]): void {
    const held = this.#lines.get(node.node);
    if (held !== undefined) {
      held.attempts.add(attempt);
      return;
    }
    this.#lines.set(node.node, { node, attempts: new Set([attempt]), state: { kind: "opening" }, life: undefined });
    out.push({ kind: "openEvents", node });
  }

  /** It is not any more. */
  release(attempt: AttemptId, node: NodeRef, out: Output[]): void {
    const line = this.#lines.get(node);
    line?.attempts.delete(attempt);
    if (line?.attempts.size === 0) {
      this.#lines.delete(node);
      out.push({ kind: "closeEvents", node });
    }
  }

  /** A line is up, and `life` is behind it. */
  up(node: NodeRef, life: NodeRef): Word {
    const line = this.#lines.get(node);
    if (line === undefined) return "nothing";
    const before = line.life;
    line.state = { kind: "up" };
    line.life = life;
    return before !== undefined && !sameNode(before, life) ? "gone" : "nothing";
  }

  /** A line is not there. */
  lost(node: NodeRef, loss: EventsLoss, out: Output[], now: Instant): Word {
    const line = this.#lines.get(node);
    switch (line?.state.kind) {
      case undefined:
        return "nothing";
      case "up":
        this.#probe(line, out);
        return "nothing";
      case "opening":
        line.state = { kind: "down", until: now + RETRY };
        return "nothing";
      case "probing":
      case "down":
        line.state = { kind: "down", until: now + RETRY };
        return loss === "refused" ? "gone" : "suspect";
    }
  }

  /** Dials again where it is time to. */
  timeout(out: Output[], now: Instant): void {
    for (const line of this.#lines.values()) {
      if (line.state.kind === "down" && now >= line.state.until) this.#probe(line, out);
    }
  }

  pollTimeout(): Instant | undefined {
    return earliest(...this.#lines.values().map(({ state }) => (state.kind === "down" ? state.until : undefined)));
  }

  #probe(line: Line, out: Output[]): void {
    line.state = { kind: "probing" };
    out.push({ kind: "openEvents", node: line.node });
  }
}
