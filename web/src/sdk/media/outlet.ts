/**
 * A publisher's tracks, and the sessions that carry them.
 *
 * Invariant: a session carries media from the moment it is used, or from its beginning if it was dialled to be the active
 * one, until it is hung up; any other session of the publisher sends nothing (PUB-6). A muted kind is sent by none: its
 * sender stays, without a track, so that the session goes on (PUB-1).
 */

import type { Kind, Media, PublishOptions } from "../api";
import type { AttemptId } from "../machine/trial";

interface Carrier {
  readonly senders: ReadonlyMap<Kind, RTCRtpSender>;
  carries: "nothing" | "media";
}

/** The tracks of what an app gives. */
export function tracksOf(media: Media): Map<Kind, MediaStreamTrack> {
  const given = media instanceof MediaStream
    ? { audio: media.getAudioTracks()[0], video: media.getVideoTracks()[0] }
    : media;
  const tracks = new Map<Kind, MediaStreamTrack>();
  for (const kind of ["audio", "video"] as const) {
    const track = given[kind];
    if (track == null) continue;
    if (track.kind !== kind) throw new TypeError(`the ${kind} track is of kind ${track.kind}`);
    tracks.set(kind, track);
  }
  return tracks;
}

/** A publisher's end of its sessions. */
export class Outlet {
  readonly #tracks: Map<Kind, MediaStreamTrack | null>;
  readonly #muted = new Set<Kind>();
  readonly #carriers = new Map<AttemptId, Carrier>();
  readonly #listening = new Map<MediaStreamTrack, () => void>();

  constructor(
    tracks: ReadonlyMap<Kind, MediaStreamTrack>,
    private readonly options: PublishOptions,
    /** The browser has ended a track. */
    private readonly trackEnded: (kind: Kind) => void,
  ) {
    this.#tracks = new Map(tracks);
    for (const [kind, track] of tracks) this.#listen(kind, track);
  }

  #listen(kind: Kind, track: MediaStreamTrack): void {
    const ended = () => this.trackEnded(kind);
    track.addEventListener("ended", ended);
    this.#listening.set(track, () => track.removeEventListener("ended", ended));
  }

  #ignore(track: MediaStreamTrack): void {
    this.#listening.get(track)?.();
    this.#listening.delete(track);
  }

  /** Prepares a session: one sender for each kind. `active`: it is to carry media at once. */
  attach(attempt: AttemptId, peer: RTCPeerConnection, active: boolean): void {
    const senders = new Map<Kind, RTCRtpSender>();
    for (const kind of this.#tracks.keys()) {
      const maxBitrate = kind === "video" ? this.options.maxBitrate : this.options.maxAudioBitrate;
      const init: RTCRtpTransceiverInit = { direction: "sendonly" };
      if (maxBitrate !== undefined) init.sendEncodings = [{ maxBitrate }];
      const track = active ? this.#sent(kind) : null;
      const transceiver = peer.addTransceiver(track ?? kind, init);
      if (kind === "video") this.#prefer(transceiver);
      senders.set(kind, transceiver.sender);
    }
    this.#carriers.set(attempt, { senders, carries: active ? "media" : "nothing" });
  }

  #prefer(transceiver: RTCRtpTransceiver): void {
    const { codecs: wanted, degradation } = this.options;
    if (wanted !== undefined) {
      const known = RTCRtpSender.getCapabilities("video")?.codecs ?? [];
      transceiver.setCodecPreferences(preferred(known, wanted));
    }
    if (degradation !== undefined) {
      const { sender } = transceiver;
      // A browser that does not know the wish does without.
      void sender.setParameters({ ...sender.getParameters(), degradationPreference: degradation }).catch(() => undefined);
    }
  }

  /** What is sent of a kind. */
  #sent(kind: Kind): MediaStreamTrack | null {
    return this.#muted.has(kind) ? null : this.track(kind);
  }

  async #send(kind: Kind): Promise<void> {
    const carriers = [...this.#carriers.values()].filter(({ carries }) => carries === "media");
    await Promise.all(carriers.map(({ senders }) => senders.get(kind)?.replaceTrack(this.#sent(kind))));
  }

  /** Media goes to this session from now on; its first frame is a keyframe, since its encoder is new. */
  use(attempt: AttemptId): void {
    const carrier = this.#carriers.get(attempt);
    if (carrier === undefined || carrier.carries === "media") return;
    carrier.carries = "media";
    for (const [kind, sender] of carrier.senders) void sender.replaceTrack(this.#sent(kind)).catch(() => undefined);
  }

  /** A session has ended. */
  leave(attempt: AttemptId): void {
    this.#carriers.delete(attempt);
  }

  /** The publisher has ended. */
  end(): void {
    this.#carriers.clear();
    for (const track of [...this.#listening.keys()]) this.#ignore(track);
  }

  track(kind: Kind): MediaStreamTrack | null {
    return this.#tracks.get(kind) ?? null;
  }

  async replace(kind: Kind, track: MediaStreamTrack | null): Promise<void> {
    const old = this.#tracks.get(kind);
    if (old === undefined) throw new TypeError(`there is no ${kind} in this publisher: stop it, and publish again with ${kind}`);
    if (track !== null && track.kind !== kind) throw new TypeError(`the track is of kind ${track.kind}, not ${kind}`);
    if (old !== null) this.#ignore(old);
    if (track !== null) this.#listen(kind, track);
    this.#tracks.set(kind, track);
    await this.#send(kind);
  }

  mute(kind: Kind, muted: boolean): void {
    if (muted) this.#muted.add(kind);
    else this.#muted.delete(kind);
    void this.#send(kind).catch(() => undefined);
  }

  muted(kind: Kind): boolean {
    return this.#muted.has(kind);
  }
}

/** Codecs in the order of the wish; what repairs losses stays, other codecs go. */
export function preferred<Codec extends { readonly mimeType: string }>(known: readonly Codec[], wanted: readonly string[]): Codec[] {
  const names = wanted.map((name) => `video/${name}`.toLowerCase());
  const chosen = names.flatMap((name) => known.filter(({ mimeType }) => mimeType.toLowerCase() === name));
  const repair = known.filter(({ mimeType }) => /^video\/(rtx|red|ulpfec|flexfec-03)$/i.test(mimeType));
  // None of them is known: the browser's own order is better than nothing.
  return chosen.length === 0 ? [] : [...chosen, ...repair];
}
