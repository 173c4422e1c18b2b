/**
 * A cluster as a client's machine sees it, with a fake clock: one coordinator that can be away, and nodes that die and
 * come back as another life. It does what the machine wants, a few milliseconds later.
 *
 * Invariant: what was opened and not closed is counted here from the outputs and the world's own events alone.
 */

import {
  Client, nodeText, streamKeyText,
  type Input, type Node, type Output, type Settings, type StreamEntry, type Told,
} from "../../src/sdk/machine";

/** From one sign of life of a session to the next. */
const BEAT_MS = 100;

type Session = { readonly node: string; readonly action: "publish" | "play" };

/** Opened and closed so far. */
export class Tally {
  opened = 0;
  closed = 0;

  open(): number {
    return this.opened - this.closed;
  }
}

export class World {
  readonly client: Client;
  readonly connections = new Tally();
  readonly sessions = new Tally();
  readonly lines = new Tally();
  /** The last state of each room, publisher and player. */
  readonly states = new Map<string, string>();
  /** How often something was said. */
  readonly heard = new Map<string, number>();
  now = 0;
  readonly #used = new Map<string, string>();
  readonly #queue: { readonly at: number; readonly act: () => void }[] = [];
  readonly #lives = new Map<string, bigint>([["a", 1n], ["b", 1n], ["c", 1n]]);
  readonly #dead = new Set<string>();
  readonly #sessions = new Map<number, Session>();
  readonly #lines = new Map<string, Node>();
  #connection: number | undefined;
  #coordinatorAway = false;
  #revision = 1n;
  #streams: readonly StreamEntry[] = [{ stream: "mic", user: "ann", session: "s2", epoch: 1n }];

  constructor(settings: Settings) {
    this.client = new Client(settings);
  }

  /** The nodes that publishers and players say they use. */
  usedNodes(): ReadonlySet<string> {
    return new Set(this.#used.values());
  }

  /** Time passes, and everything that is due happens. */
  advance(to: number): void {
    for (;;) {
      const due = Math.max(this.now, this.client.pollTimeout() ?? Infinity);
      const first = this.#queue[0]?.at ?? Infinity;
      if (Math.min(due, first) > to) break;
      this.now = Math.min(due, first);
      if (first <= due) this.#queue.shift()?.act();
      else this.input({ kind: "timeout" });
    }
    this.now = to;
  }

  input(input: Input): void {
    this.client.handle(input, this.now);
    for (let output = this.client.pollOutput(); output !== undefined; output = this.client.pollOutput()) {
      this.#output(output);
    }
  }

  /** The connection to the coordinator breaks, and for so long none can be made. */
  coordinatorGoes(ms: number): void {
    this.#coordinatorAway = ms > 0;
    this.#after(ms, () => (this.#coordinatorAway = false));
    if (this.#connection !== undefined) this.#connectionLost(this.#connection);
  }

  /** A node's process dies, and comes back after so long. */
  nodeDies(id: string, ms: number): void {
    this.#dead.add(id);
    for (const node of this.#lines.values()) {
      if (node.node.id === id) this.#after(1, () => this.#lineLost(node, "broken"));
    }
    this.#after(ms, () => {
      this.#dead.delete(id);
      this.#lives.set(id, (this.#lives.get(id) ?? 0n) + 1n);
      this.#tell({ kind: "nodes", nodes: this.#nodes() });
    });
  }

  /** A node ends the sessions of one kind that it holds. */
  nodeCloses(id: string, action: Session["action"]): void {
    for (const [attempt, session] of [...this.#sessions]) {
      if (session.node !== id || session.action !== action) continue;
      this.input({ kind: "failed", attempt, failure: { kind: "closed", detail: "by the node" } });
    }
  }

  /** Another's stream comes and goes again. */
  streamsChange(): void {
    const guest: StreamEntry = { stream: "guest", user: "bob", session: `s${this.#revision}`, epoch: this.#revision };
    for (const kind of ["streamAdded", "streamDeleted"] as const) {
      this.#revision += 1n;
      this.#tell({ kind: "roomChange", room: "hall", revision: this.#at(), deltas: [{ kind, stream: guest }] });
    }
  }

  #after(ms: number, act: () => void): void {
    const at = this.now + ms;
    const place = this.#queue.findIndex((later) => later.at > at);
    this.#queue.splice(place === -1 ? this.#queue.length : place, 0, { at, act });
  }

  #later(ms: number, input: Input): void {
    this.#after(ms, () => this.input(input));
  }

  #tell(told: Told): void {
    if (this.#connection !== undefined) this.input({ kind: "told", connection: this.#connection, told });
  }

  #at(): { storeId: string; number: bigint } {
    return { storeId: "x", number: this.#revision };
  }

  #nodes(): readonly Node[] {
    return [...this.#lives].map(([id, incarnation]) => ({
      node: { id, incarnation }, httpUrl: `http://${id}`, region: "", health: this.#dead.has(id) ? "suspect" : "healthy",
    }));
  }

  #output(output: Output): void {
    switch (output.kind) {
      case "connect":
        this.connections.opened += 1;
        this.#after(2, () => this.#connected(output.connection));
        break;
      case "disconnect":
        if (this.#connection === output.connection) this.#connection = undefined;
        this.connections.closed += 1;
        break;
      case "login":
        this.#after(2, () => this.#roomUp(output.connection));
        break;
      case "beat":
        this.#after(2, () => this.#beaten(output.connection));
        break;
      case "plan":
        this.#later(3, {
          kind: "planned", request: output.request, answer: this.#coordinatorAway
            ? { kind: "error", failure: { kind: "failed" } }
            : { kind: "ok", value: {
              claim: output.action === "publish" ? { epoch: 1n, moved: 0 } : undefined,
              nodeToken: "node-token", tokenValid: 600_000, nodes: this.#nodes(),
            } },
        });
        break;
      case "dial":
        this.#dial(output);
        break;
      case "activate":
        this.#later(2, { kind: "phase", attempt: output.attempt, phase: "flowing", claim: output.claim });
        break;
      case "hang":
        this.sessions.closed += 1;
        this.#sessions.delete(output.attempt);
        break;
      case "openEvents":
        this.#openLine(output.node);
        break;
      case "closeEvents":
        if (this.#lines.delete(nodeText(output.node))) this.lines.closed += 1;
        break;
      case "emit":
        this.#emitted(output);
        break;
      case "use":
      case "logout":
      case "renewToken":
      case "endStream":
      case "report":
        break;
    }
  }

  #emitted({ event }: Extract<Output, { kind: "emit" }>): void {
    if (event.kind !== "room" && event.kind !== "publisher" && event.kind !== "player") return;
    const machine = `${event.kind} ${event.kind === "room" ? event.room : streamKeyText(event.key)}`;
    this.states.set(machine, event.state);
    const node = event.kind === "room" ? undefined : event.node;
    if (node === undefined) this.#used.delete(machine);
    else this.#used.set(machine, nodeText(node));
    const what = `${event.kind} ${event.state} ${event.code}`;
    this.heard.set(what, (this.heard.get(what) ?? 0) + 1);
  }

  #connected(connection: number): void {
    if (this.#coordinatorAway) return this.#connectionLost(connection);
    this.#connection = connection;
    this.#tell({ kind: "welcome", coordinators: ["http://c1", "http://c2"], beatInterval: 5_000 });
    this.#roomUp(connection);
    this.#tell({ kind: "nodes", nodes: this.#nodes() });
  }

  #connectionLost(connection: number): void {
    if (this.#connection === connection) this.#connection = undefined;
    this.connections.closed += 1;
    this.input({ kind: "connectionLost", connection });
  }

  #roomUp(connection: number): void {
    if (this.#connection !== connection || !this.client.hasRoom("hall")) return;
    const snapshot = { session: "s1", revision: this.#at(), users: [], streams: this.#streams };
    this.#tell({ kind: "roomUp", room: "hall", snapshot });
  }

  #beaten(connection: number): void {
    if (this.#connection === connection) {
      this.input({ kind: "beatAnswered", connection, answer: { kind: "ok", value: [] } });
    }
  }

  #dial({ attempt, node, action }: Extract<Output, { kind: "dial" }>): void {
    const { id } = node.node;
    this.sessions.opened += 1;
    if (this.#dead.has(id)) {
      this.#later(1, { kind: "failed", attempt, failure: { kind: "unreachable", detail: "connection refused" } });
      return;
    }
    this.#sessions.set(attempt, { node: id, action });
    this.#later(2, { kind: "answered", attempt });
    this.#later(10, { kind: "up", attempt });
    if (action === "play") this.#later(12, { kind: "media", attempt });
    this.#after(BEAT_MS, () => this.#beat(attempt, this.#lives.get(id)));
  }

  /** A session beats while the life of the node that holds it lasts. */
  #beat(attempt: number, life: bigint | undefined): void {
    const session = this.#sessions.get(attempt);
    if (session === undefined || this.#dead.has(session.node) || this.#lives.get(session.node) !== life) return;
    this.input({ kind: "heard", attempt, at: this.now });
    this.#after(BEAT_MS, () => this.#beat(attempt, life));
  }

  #openLine(node: Node): void {
    const name = nodeText(node.node);
    if (this.#lines.has(name)) throw new Error(`the line to ${name} is opened twice`);
    this.#lines.set(name, node);
    this.lines.opened += 1;
    this.#after(1, () => {
      if (!this.#lines.has(name)) return;
      if (this.#dead.has(node.node.id)) return this.#lineLost(node, "refused");
      const incarnation = this.#lives.get(node.node.id) ?? 0n;
      this.input({ kind: "eventsUp", node: node.node, life: { id: node.node.id, incarnation } });
    });
  }

  #lineLost(node: Node, loss: "broken" | "refused"): void {
    if (!this.#lines.delete(nodeText(node.node))) return;
    this.lines.closed += 1;
    this.input({ kind: "eventsLost", node: node.node, loss });
  }
}
