/** What the tests of the machines say in one word: nodes, and a walk that is asked what it wants. */

import { Shared } from "../../src/sdk/machine/hedge";
import { nodeText, type Health, type Node, type NodeRef } from "../../src/sdk/machine/ids";
import type { Duration, Instant } from "../../src/sdk/machine/time";
import { outcomeText } from "../../src/sdk/machine/trial";
import { Walk, type WalkInput, type WalkOutput } from "../../src/sdk/machine/walk";

export function ref(id: string, incarnation = 1n): NodeRef {
  return { id, incarnation };
}

export function node(id: string, incarnation = 1n, health: Health = "healthy"): Node {
  return { node: ref(id, incarnation), httpUrl: `http://${id}`, region: "", health };
}

/** A walk beside the client's shared things, whose outputs are told in words. */
export class Walker {
  readonly shared: Shared;
  readonly walk: Walk;

  constructor(retryTime: Duration, shared = new Shared(1n, "on")) {
    this.shared = shared;
    this.walk = new Walk(retryTime, 0);
  }

  /** Feeds an input in, and tells what came out. */
  tell(input: WalkInput, now: Instant): readonly string[] {
    this.walk.handle(input, this.shared, now);
    return this.drain();
  }

  /** A coordinator answers. */
  coordinator(now: Instant): readonly string[] {
    this.shared.evidence.coordinator(now);
    return this.tell({ kind: "networkAnswered" }, now);
  }

  /** The clock jumps to the time that the walk asks for. */
  wait(): { readonly now: Instant; readonly said: readonly string[] } {
    const now = this.walk.pollTimeout();
    if (now === undefined) throw new Error("the walk waits for nothing");
    return { now, said: this.tell({ kind: "timeout" }, now) };
  }

  drain(): readonly string[] {
    const said: string[] = [];
    for (let output = this.walk.pollOutput(); output !== undefined; output = this.walk.pollOutput()) {
      said.push(text(output));
    }
    return said;
  }
}

function text(output: WalkOutput): string {
  switch (output.kind) {
    case "dial": return `dial ${output.attempt} ${nodeText(output.node.node)} ${output.standing}`;
    case "use": return `use ${output.attempt} ${output.standing}`;
    case "hang": return `hang ${output.attempt}`;
    case "ask": return "ask";
    case "tried": return `tried ${output.trial.attempt} ${outcomeText(output.trial.outcome)}`;
    case "interrupted": return "interrupted";
    case "ended": return `ended ${output.ending}`;
  }
}
