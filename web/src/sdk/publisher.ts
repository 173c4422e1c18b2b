/** An app's handle of a published stream. */

import type {
  AttemptEvent, GapEvent, Kind, Publisher, PublisherEvents, PublisherState, PublishOptions, Quality,
} from "./api";
import { Emitter } from "./emitter";
import type { PublisherStateUpdate } from "./machine/event";
import type { StreamKey } from "./machine/ids";
import { Outlet } from "./media/outlet";
import { NOT_PUBLISHED, publisherState } from "./state";

/** A publisher; see `Publisher`. */
export class PublisherHandle extends Emitter<PublisherEvents> implements Publisher {
  readonly outlet: Outlet;
  #state: PublisherState = NOT_PUBLISHED;
  #quality: Quality | null = null;

  constructor(
    readonly key: StreamKey,
    tracks: ReadonlyMap<Kind, MediaStreamTrack>,
    options: PublishOptions,
    private readonly asksToStop: () => void,
  ) {
    super();
    this.outlet = new Outlet(tracks, options, (kind) => this.emit("trackEnded", { kind }));
  }

  get room(): string {
    return this.key.room;
  }

  get stream(): string {
    return this.key.stream;
  }

  get state(): PublisherState {
    return this.#state;
  }

  get quality(): Quality | null {
    return this.#quality;
  }

  track(kind: Kind): MediaStreamTrack | null {
    return this.outlet.track(kind);
  }

  replaceTrack(kind: Kind, track: MediaStreamTrack | null): Promise<void> {
    return this.outlet.replace(kind, track);
  }

  mute(kind: Kind, muted: boolean): void {
    this.outlet.mute(kind, muted);
  }

  muted(kind: Kind): boolean {
    return this.outlet.muted(kind);
  }

  stop(): void {
    this.asksToStop();
  }

  /** The machine tells a state. */
  tellState(update: PublisherStateUpdate): void {
    this.#state = publisherState(update, this.#state);
    if (this.#state.number === 0) {
      this.#quality = null;
      this.outlet.end();
    }
    this.emit("state", this.#state);
  }

  tellAttempt(event: AttemptEvent): void {
    this.emit("attempt", event);
  }

  tellGap(gap: GapEvent): void {
    this.emit("gap", gap);
  }

  tellQuality(quality: Quality): void {
    this.#quality = quality;
    this.emit("quality", quality);
  }
}
