/**
 * Time and timers. A hidden tab slows timers of the page down to one a second; those of a worker go on, so the timers
 * live in one, and only their ends come to the page.
 *
 * Invariant: after `stop`, nothing is called any more.
 */

import type { Instant } from "./machine/time";

/** A step of the wall clock against the other one that is taken for sleep of the device. */
const SLEEP_MS = 2_000;

/** How far the wall clock had run ahead of the page's when it was last looked at, and how much of it was sleep. */
let lead = Date.now() - performance.now();
let slept = 0;

/** Milliseconds on a clock that never goes back, and that counts the time for which the device slept. */
export function now(): Instant {
  const page = performance.now();
  const ahead = Date.now() - page;
  if (ahead - lead > SLEEP_MS) slept += ahead - lead;
  lead = ahead;
  return page + slept;
}

/** A time of the browser's reports, in milliseconds since 1970, on the clock of `now`. The same report gives the same time. */
export function instantOf(report: number): Instant {
  now(); // It notices sleep.
  return report - performance.timeOrigin + slept;
}

/** What the worker does: `[id, delay]` starts a timer, `[id]` ends it; the answer is its id. */
const WORKER = `
const timers = new Map();
onmessage = ({ data: [id, delay] }) => {
  clearTimeout(timers.get(id));
  timers.delete(id);
  if (delay !== undefined) timers.set(id, setTimeout(() => { timers.delete(id); postMessage(id); }, delay));
};`;

interface Backend {
  start(id: number, delayMs: number): void;
  cancel(id: number): void;
  stop(): void;
}

function inWorker(fired: (id: number) => void, failed: () => void): Backend {
  const url = URL.createObjectURL(new Blob([WORKER], { type: "text/javascript" }));
  const worker = new Worker(url);
  URL.revokeObjectURL(url);
  worker.onmessage = ({ data }: MessageEvent<number>) => fired(data);
  worker.onerror = failed;
  return {
    start: (id, delayMs) => worker.postMessage([id, delayMs]),
    cancel: (id) => worker.postMessage([id]),
    stop: () => worker.terminate(),
  };
}

function inPage(fired: (id: number) => void): Backend {
  const timers = new Map<number, ReturnType<typeof setTimeout>>();
  const cancel = (id: number) => {
    clearTimeout(timers.get(id));
    timers.delete(id);
  };
  return {
    cancel,
    start: (id, delayMs) => timers.set(id, setTimeout(() => { timers.delete(id); fired(id); }, delayMs)),
    stop: () => { for (const id of [...timers.keys()]) cancel(id); },
  };
}

/** A timer that has not come to its end. */
interface Pending {
  readonly at: Instant;
  readonly call: () => void;
}

/** Timers of one client. */
export class Timers {
  readonly #pending = new Map<number, Pending>();
  #backend: Backend;
  #last = 0;

  constructor() {
    this.#backend = typeof Worker === "undefined" ? this.#inPage() : inWorker((id) => this.#fired(id), () => this.#fallBack());
  }

  /** Calls `call` once, after that many milliseconds. The returned function prevents that. */
  after(delayMs: number, call: () => void): () => void {
    this.#last += 1;
    const id = this.#last;
    this.#pending.set(id, { at: now() + delayMs, call });
    this.#backend.start(id, Math.max(0, delayMs));
    return () => {
      if (this.#pending.delete(id)) this.#backend.cancel(id);
    };
  }

  stop(): void {
    this.#pending.clear();
    this.#backend.stop();
  }

  #fired(id: number): void {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    pending?.call();
  }

  #inPage(): Backend {
    return inPage((id) => this.#fired(id));
  }

  /** The page's content security policy forbids such a worker: its own timers, slow in a hidden tab, must do. */
  #fallBack(): void {
    this.#backend.stop();
    this.#backend = this.#inPage();
    for (const [id, { at }] of this.#pending) this.#backend.start(id, Math.max(0, at - now()));
  }
}
