/** A small typed emitter. A listener that throws hinders no other: its error is reported as an uncaught one. */

/** Something whose events can be listened to. */
export interface EventSource<Events> {
  /** Calls `listener` with each such event. The returned function ends that. */
  on<Name extends keyof Events>(name: Name, listener: (event: Events[Name]) => void): () => void;
  /** The next such event. */
  once<Name extends keyof Events>(name: Name): Promise<Events[Name]>;
}

/** Keeps listeners and calls them, in the order in which they came. */
export class Emitter<Events> implements EventSource<Events> {
  readonly #listeners = new Map<keyof Events, Set<(event: never) => void>>();

  on<Name extends keyof Events>(name: Name, listener: (event: Events[Name]) => void): () => void {
    // The same function given twice is two listeners.
    const own = (event: Events[Name]) => listener(event);
    let listeners = this.#listeners.get(name);
    if (listeners === undefined) this.#listeners.set(name, (listeners = new Set()));
    listeners.add(own);
    return () => listeners.delete(own);
  }

  once<Name extends keyof Events>(name: Name): Promise<Events[Name]> {
    return new Promise((resolve) => {
      const off = this.on(name, (event) => {
        off();
        resolve(event);
      });
    });
  }

  /** Tells every listener that is there now. */
  protected emit<Name extends keyof Events>(name: Name, event: Events[Name]): void {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) {
      try {
        (listener as (event: Events[Name]) => void)(event);
      } catch (error) {
        queueMicrotask(() => { throw error; });
      }
    }
  }
}
