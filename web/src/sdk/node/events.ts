/**
 * The event connection to a node: one WebSocket for all sessions there (RFC 6455).
 *
 * Its end is the first sign of a node's death (GO-2), so it is pinged, and never reconnects by itself: whoever owns it
 * decides. Invariant: `lost` is the last report, and comes once; after `close` there is none.
 */

import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";

import { ClientEventSchema, type NodeEvent, NodeEventSchema, SessionPhase } from "../../gen/waystation/v1/event_pb";
import { now, type Timers } from "../clock";
import type { Claim, NodeRef } from "../machine/ids";
import type { EventsLoss, Phase } from "../machine/io";
import { claim, nodeRef, wireClaim } from "../rpc/wire";

/** From the dial to the node's welcome. */
const DIAL_TIMEOUT_MS = 1_000;

/** From one ping to the next. */
const PING_INTERVAL_MS = 1_000;

/** A node that sends nothing for this long has lost the connection. Media tells sooner; this is for sessions with none. */
const SILENCE_MS = 3_000;

/** A timer this late is no evidence of silence. */
const LATE_MS = 500;

/** What a node tells over it. */
export type NodeReport =
  | { readonly kind: "welcome"; readonly life: NodeRef }
  | { readonly kind: "session"; readonly session: string; readonly phase: Phase; readonly claim: Claim | undefined }
  | { readonly kind: "closed"; readonly session: string; readonly code: number; readonly reason: string }
  | { readonly kind: "lost"; readonly loss: EventsLoss };

/** The address of a node's event connection. */
export function eventsUrl(httpUrl: string): string {
  return `ws${httpUrl.replace(/^http/, "").replace(/\/+$/, "")}/events`;
}

/** An event connection. */
export class EventLink {
  readonly #socket: WebSocket;
  #report: ((report: NodeReport) => void) | undefined;
  #cancel: () => void;
  /** What was asked before it was up. */
  #waiting: Uint8Array<ArrayBuffer>[] = [];
  #heardAt = now();
  #pings = 0n;

  /** Dials a node. What it tells, and the end, go to `report`, but never before this has returned. */
  constructor(httpUrl: string, private readonly timers: Timers, report: (report: NodeReport) => void) {
    this.#report = report;
    this.#cancel = timers.after(DIAL_TIMEOUT_MS, () => this.#lose("noAnswer"));
    this.#socket = new WebSocket(eventsUrl(httpUrl));
    this.#socket.binaryType = "arraybuffer";
    this.#socket.onopen = () => this.#opened();
    this.#socket.onmessage = ({ data }: MessageEvent<unknown>) => this.#received(data);
    // Before it was up: nobody listens there. A page is told no more than that.
    this.#socket.onclose = () => this.#lose(this.#pings === 0n ? "refused" : "broken");
  }

  /** Asks for a session's states. */
  watch(session: string): void {
    this.#ask({ event: { case: "watch", value: { session } } });
  }

  /** Makes a publishing session the active one. */
  activate(session: string, claim: Claim): void {
    this.#ask({ event: { case: "activate", value: { session, claim: wireClaim(claim) } } });
  }

  /** Lets it go. */
  close(): void {
    this.#report = undefined;
    this.#cancel();
    this.#waiting = [];
    const socket = this.#socket;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }

  #ask(message: MessageInitShape<typeof ClientEventSchema>): void {
    const bytes = toBinary(ClientEventSchema, create(ClientEventSchema, message));
    // One that is closing will be reported as lost.
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(bytes);
    else if (this.#socket.readyState === WebSocket.CONNECTING) this.#waiting.push(bytes);
  }

  #opened(): void {
    for (const bytes of this.#waiting) this.#socket.send(bytes);
    this.#waiting = [];
    this.#heardAt = now();
    this.#cancel();
    this.#ping();
  }

  #ping(): void {
    this.#pings += 1n;
    this.#ask({ event: { case: "ping", value: { id: this.#pings } } });
    const due = now() + PING_INTERVAL_MS;
    this.#cancel = this.timers.after(PING_INTERVAL_MS, () => {
      // What came while the page stood still may not have been looked at yet: one more interval for it.
      if (now() - due > LATE_MS) this.#heardAt = Math.max(this.#heardAt, now() - SILENCE_MS + PING_INTERVAL_MS);
      if (now() - this.#heardAt > SILENCE_MS) this.#lose("noAnswer");
      else this.#ping();
    });
  }

  #received(data: unknown): void {
    this.#heardAt = now();
    try {
      const told = data instanceof ArrayBuffer ? read(fromBinary(NodeEventSchema, new Uint8Array(data))) : undefined;
      if (told !== undefined) this.#report?.(told);
    } catch {
      // It speaks something else.
      this.#lose("broken");
    }
  }

  #lose(loss: EventsLoss): void {
    const report = this.#report;
    this.close();
    report?.({ kind: "lost", loss });
  }
}

/** What a message says; `undefined` if nothing that matters here. */
function read({ event }: NodeEvent): NodeReport | undefined {
  switch (event.case) {
    case "welcome":
      return { kind: "welcome", life: nodeRef(event.value.node) };
    case "state": {
      const phase = phaseOf(event.value.phase);
      if (phase === undefined) return undefined;
      const under = event.value.claim === undefined ? undefined : claim(event.value.claim);
      return { kind: "session", session: event.value.session, phase, claim: under };
    }
    case "closed":
      return { kind: "closed", session: event.value.session, code: event.value.code, reason: event.value.reason };
    // A pong has done its work by arriving; an event of a later version says nothing to this one.
    case "pong":
    case undefined:
      return undefined;
  }
}

/** `undefined` for one of a later version. */
function phaseOf(phase: SessionPhase): Phase | undefined {
  switch (phase) {
    case SessionPhase.CONNECTING: return "connecting";
    case SessionPhase.IDLE: return "idle";
    case SessionPhase.FLOWING: return "flowing";
    case SessionPhase.ORIGIN_LOST: return "originLost";
    case SessionPhase.STANDBY: return "standby";
    default: return undefined;
  }
}
