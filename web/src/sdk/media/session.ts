/**
 * One session at a node: a peer connection and a WHIP or WHEP resource, named by the attempt that made it.
 *
 * Invariant: a session that is closed, at whatever point of its setup, ends at the node too, and reports nothing more.
 */

import type { Kind } from "../api";
import { instantOf, now } from "../clock";
import type { Action, Claim, Node, StreamKey } from "../machine/ids";
import type { Phase } from "../machine/io";
import type { Instant } from "../machine/time";
import type { AttemptId, Failure } from "../machine/trial";
import { end, open } from "../node/http";
import { type Digest, digest } from "./digest";

/** A session to open. */
export interface Dial {
  readonly attempt: AttemptId;
  readonly key: StreamKey;
  readonly action: Action;
  readonly node: Node;
  readonly nodeToken: string;
  /** Under this move a publish is the active one at once. */
  readonly moved: number | undefined;
}

/** What a session tells its owner. */
export interface Reports {
  /** The node has taken it, under this name. */
  answered(session: string): void;
  /** ICE and DTLS are up. */
  up(): void;
  /** The first media has come (plays). */
  media(): void;
  /** Something authentic came from the node at that time. */
  heard(at: Instant): void;
  failed(failure: Failure): void;
}

/** Where a session stands. */
type Stage =
  | { readonly kind: "opening" }
  | { readonly kind: "open"; readonly url: string; readonly session: string }
  | { readonly kind: "closed" };

/** A session. */
export class Session {
  readonly peer = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
  /** When something was heard last. */
  heardAt: Instant | undefined;
  /** What the node last said of it. */
  phase: Phase | undefined;
  /** Under which claim the publish comes that it carries, as the node last said. */
  claim: Claim | undefined;
  #stage: Stage = { kind: "opening" };
  #first: Digest | undefined;
  #last: Digest | undefined;
  #looking = false;
  /** Whatever is said to others and still awaited: the POST and the DELETE. */
  #said: Promise<unknown> = Promise.resolve();

  /** Adds transceivers in `prepare`, and dials. */
  constructor(readonly dial: Dial, prepare: (peer: RTCPeerConnection) => void, private readonly reports: Reports) {
    try {
      prepare(this.peer);
    } catch (error) {
      this.peer.close();
      throw error;
    }
    this.peer.onconnectionstatechange = () => this.#connectionChanged();
    for (const { receiver } of this.peer.getTransceivers()) {
      receiver.track.onunmute = () => { if (dial.action === "play") reports.media(); };
    }
    this.#said = this.#open();
  }

  /** The session's name at its node, once it has taken it. */
  get name(): string | undefined {
    return this.#stage.kind === "open" ? this.#stage.session : undefined;
  }

  /** What the browser first said of it, and last. */
  get digests(): { readonly first: Digest; readonly last: Digest } | undefined {
    return this.#first === undefined || this.#last === undefined ? undefined : { first: this.#first, last: this.#last };
  }

  #connectionChanged(): void {
    switch (this.peer.connectionState) {
      case "connected": return this.reports.up();
      case "failed": return this.reports.failed({ kind: "down" });
      case "new": case "connecting": case "disconnected": case "closed": return;
    }
  }

  async #open(): Promise<void> {
    try {
      // Candidates of ours are not waited for: the node is ICE-lite and answers whoever passes its checks.
      await this.peer.setLocalDescription();
      const offer = this.peer.localDescription?.sdp ?? "";
      const outcome = this.#stage.kind === "closed" ? undefined : await open({ ...this.dial, offer });
      if (outcome === undefined) return;
      if (outcome.kind === "failed") return this.#fail(outcome.failure);
      if (this.#closed()) return await end(outcome.url, this.dial.nodeToken);
      this.#stage = { kind: "open", url: outcome.url, session: outcome.session };
      this.reports.answered(outcome.session);
      await this.peer.setRemoteDescription({ type: "answer", sdp: outcome.answer });
    } catch (error) {
      this.#fail({ kind: "refused", detail: `unusable answer: ${error instanceof Error ? error.message : String(error)}` });
    }
  }

  // A call of its own, since the compiler does not see that others change the stage while we wait.
  #closed(): boolean {
    return this.#stage.kind === "closed";
  }

  #fail(failure: Failure): void {
    if (!this.#closed()) this.reports.failed(failure);
  }

  /** Looks at the browser's statistics. What they show of the node is reported. */
  async look(): Promise<void> {
    if (this.#looking || this.#closed() || this.peer.connectionState !== "connected") return;
    this.#looking = true;
    try {
      const seen = digest(await this.peer.getStats());
      if (!this.#closed()) this.#saw(seen);
    } catch {
      // A peer connection that is being closed has none.
    } finally {
      this.#looking = false;
    }
  }

  #saw(seen: Digest): void {
    const before = this.#last;
    this.#first ??= seen;
    this.#last = seen;
    // A browser that does not count what comes cannot tell silence either.
    if (seen.received === null) return this.reports.heard(now());
    if (before !== undefined && seen.received <= (before.received ?? 0)) return;
    // Something came between the two looks; the browser may know more exactly when.
    const latest = Math.min(now(), instantOf(seen.at));
    const earliest = before === undefined ? latest : Math.min(latest, instantOf(before.at));
    const told = seen.lastReceivedAt === null ? latest : instantOf(seen.lastReceivedAt);
    this.heardAt = Math.min(latest, Math.max(earliest, told));
    this.reports.heard(this.heardAt);
  }

  /** When a frame of that kind last reached the app, on the clock of `now`. */
  lastMedia(kind: Kind): Instant | undefined {
    const receivers = this.peer.getReceivers().filter(({ track }) => track.kind === kind);
    const played = receivers.flatMap((receiver) => receiver.getSynchronizationSources()).map(({ timestamp }) => timestamp);
    // Audio that no element plays is received all the same.
    const received = kind === "audio" ? this.#last?.flows.get(kind)?.lastPacketAt ?? null : null;
    const latest = Math.max(...played, received ?? 0);
    return latest > 0 ? instantOf(latest) : undefined;
  }

  /** Tracks that the node sends. */
  tracks(): MediaStreamTrack[] {
    const received = this.peer.getTransceivers().filter(({ currentDirection }) => currentDirection === "recvonly");
    return received.map(({ receiver }) => receiver.track);
  }

  /** Ends it, here and at the node. Resolves when the node was told. */
  close(): Promise<unknown> {
    const stage = this.#stage;
    if (stage.kind === "closed") return this.#said;
    this.#stage = { kind: "closed" };
    this.peer.onconnectionstatechange = null;
    for (const { receiver } of this.peer.getTransceivers()) receiver.track.onunmute = null;
    this.peer.close();
    if (stage.kind === "open") this.#said = Promise.all([this.#said, end(stage.url, this.dial.nodeToken)]);
    return this.#said;
  }
}
