/**
 * What a player's app gets: one media stream, whose tracks are those of the session in use.
 *
 * Invariant: the stream is the same object for the player's whole life; tracks are swapped in one go, so that an element
 * that plays it never finds it empty.
 */

import type { GapEvent, Kind, NodeRef, PlayOptions } from "../api";
import { now } from "../clock";
import { type Claim, compareClaim } from "../machine/ids";
import type { Duration, Instant } from "../machine/time";
import type { AttemptId } from "../machine/trial";
import { GapMeter } from "./gap";
import type { Session } from "./session";

const KINDS: readonly Kind[] = ["video", "audio"];

/** After so long without a look, what came in between may not have been seen. */
const BLIND_MS: Duration = 80;

/** A session that has carried media and is idle for longer is muted. */
const MUTED_MS: Duration = 500;

/** A new session is idle until its publisher, who may have lost the same node, sends to another one: as long as an attempt takes. */
const STARTS_MS: Duration = 2_000;

/** A player's end of its sessions. */
export class Inlet {
  readonly media = new MediaStream();
  readonly #meter = new GapMeter();
  #lookedAt: Instant = -Infinity;
  #used: Session | undefined;
  /** The last media of each kind that came of the session before it was used: nobody saw it. */
  readonly #unseen = new Map<Kind, Instant>();
  #idleSince: Instant | undefined;
  /** Whether the session in use has carried media. */
  #carried = false;
  /** Of the publish that media was last known to come from. */
  #claim: Claim | undefined;
  /** When the stream was last known to be muted. */
  #mutedAt: Instant = -Infinity;

  constructor(private readonly options: PlayOptions) {}

  /** Prepares a session. */
  attach(peer: RTCPeerConnection): void {
    for (const kind of ["audio", "video"] as const) {
      if (this.options[kind] !== false) peer.addTransceiver(kind, { direction: "recvonly" });
    }
  }

  /** Uses this session from now on. */
  use(session: Session): void {
    this.#used = session;
    this.#idleSince = undefined;
    this.#carried = false;
    for (const kind of KINDS) this.#unseen.set(kind, session.lastMedia(kind) ?? -Infinity);
    const old = this.media.getTracks();
    const next = session.tracks().filter((track) => !old.includes(track));
    const gone = old.filter((track) => !session.tracks().includes(track));
    const of = (kind: Kind, tracks: readonly MediaStreamTrack[]) => tracks.filter((track) => track.kind === kind);
    // Firefox shows a video track that is added only if it shows none then; the sound keeps the stream from being empty.
    for (const track of of("audio", next)) this.media.addTrack(track);
    for (const track of of("video", gone)) this.media.removeTrack(track);
    for (const track of of("video", next)) this.media.addTrack(track);
    for (const track of of("audio", gone)) this.media.removeTrack(track);
  }

  /** Looks at when media last came. Tells of the gap that it ended. */
  look(): GapEvent | undefined {
    const session = this.#used;
    if (session === undefined) return undefined;
    const node: NodeRef = session.dial.node.node;
    const at = now();
    if (at - this.#lookedAt > BLIND_MS) this.#meter.blind(at);
    this.#lookedAt = at;
    this.#idleSince = session.phase === "idle" ? this.#idleSince ?? at : undefined;
    if (this.#idleSince !== undefined && at - this.#idleSince > (this.#carried ? MUTED_MS : STARTS_MS)) this.#mutedAt = at;
    const before = this.#claim;
    this.#claim = session.claim ?? before;
    if (before !== undefined && this.#claim !== undefined && compareClaim(before, this.#claim) < 0) this.#meter.moved(at);
    const gap = this.#ended(session, node, at);
    // A stream that its publisher has muted has no gap.
    return gap === undefined || this.#mutedAt > at - gap.ms ? undefined : gap;
  }

  #ended(session: Session, node: NodeRef, at: Instant): GapEvent | undefined {
    for (const kind of KINDS) {
      const last = session.lastMedia(kind);
      const isSeen = last !== undefined && last > (this.#unseen.get(kind) ?? -Infinity);
      this.#carried ||= isSeen;
      const gap = isSeen ? this.#meter.media(kind, node, last) : undefined;
      if (gap !== undefined) return gap;
    }
    return this.#meter.tick(at);
  }

  /** A session has ended. Its last frame stays until another session is used. */
  leave(attempt: AttemptId): void {
    if (this.#used?.dial.attempt === attempt) this.#used = undefined;
  }

  /** The player has ended. */
  end(): void {
    this.#used = undefined;
    for (const track of this.media.getTracks()) this.media.removeTrack(track);
  }
}
