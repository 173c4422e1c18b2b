/** An app's handle of a played stream. */

import type { AttemptEvent, GapEvent, Player, PlayerEvents, PlayerState, PlayOptions, Quality } from "./api";
import { Emitter } from "./emitter";
import type { PlayerStateUpdate } from "./machine/event";
import type { StreamKey } from "./machine/ids";
import { Inlet } from "./media/inlet";
import { NOT_PLAYED, playerState } from "./state";

/** A player; see `Player`. */
export class PlayerHandle extends Emitter<PlayerEvents> implements Player {
  readonly inlet: Inlet;
  #state: PlayerState = NOT_PLAYED;
  #idle = false;
  #quality: Quality | null = null;

  constructor(readonly key: StreamKey, options: PlayOptions, private readonly asksToStop: () => void) {
    super();
    this.inlet = new Inlet(options);
  }

  get room(): string {
    return this.key.room;
  }

  get stream(): string {
    return this.key.stream;
  }

  get media(): MediaStream {
    return this.inlet.media;
  }

  get state(): PlayerState {
    return this.#state;
  }

  get idle(): boolean {
    return this.#idle;
  }

  get quality(): Quality | null {
    return this.#quality;
  }

  stop(): void {
    this.asksToStop();
  }

  /** The machine tells a state. */
  tellState(update: PlayerStateUpdate): void {
    this.#state = playerState(update, this.#state);
    if (this.#state.number === 0) {
      this.#quality = null;
      this.inlet.end();
    }
    this.emit("state", this.#state);
  }

  /** Whether the session in use is idle. */
  tellIdle(idle: boolean): void {
    if (idle === this.#idle) return;
    this.#idle = idle;
    this.emit("idle", { idle });
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
