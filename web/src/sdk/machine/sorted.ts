/**
 * A map that is read in the order of its keys, so that what comes out never hangs on the order in which it went in.
 *
 * Invariant: entries are sorted, each key once.
 */

import type { Compare } from "./ids";

/** The map. Looking up halves; adding and removing shift, which is quick for the few hundreds that a client holds. */
export class SortedMap<K, V> {
  readonly #compare: Compare<K>;
  #entries: (readonly [K, V])[] = [];

  constructor(compare: Compare<K>) {
    this.#compare = compare;
  }

  get size(): number {
    return this.#entries.length;
  }

  get(key: K): V | undefined {
    const place = this.#place(key);
    return place.kind === "at" ? place.value : undefined;
  }

  has(key: K): boolean {
    return this.#place(key).kind === "at";
  }

  set(key: K, value: V): void {
    const place = this.#place(key);
    this.#entries.splice(place.index, place.kind === "at" ? 1 : 0, [key, value]);
  }

  /** Takes it out and gives it back; `undefined` if it is not there. */
  delete(key: K): V | undefined {
    const place = this.#place(key);
    if (place.kind === "before") return undefined;
    this.#entries.splice(place.index, 1);
    return place.value;
  }

  /** Takes the first one out. */
  deleteFirst(): void {
    this.#entries.shift();
  }

  clear(): void {
    this.#entries = [];
  }

  /** Drops what is not to be kept. */
  retain(keep: (key: K, value: V) => boolean): void {
    this.#entries = this.#entries.filter(([key, value]) => keep(key, value));
  }

  /** As they are now: what changes the map meanwhile does not change them. */
  entries(): readonly (readonly [K, V])[] {
    return [...this.#entries];
  }

  keys(): readonly K[] {
    return this.#entries.map(([key]) => key);
  }

  values(): readonly V[] {
    return this.#entries.map(([, value]) => value);
  }

  /** Where the key is, or before which index it belongs. */
  #place(key: K): { kind: "at"; index: number; value: V } | { kind: "before"; index: number } {
    let [low, high] = [0, this.#entries.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      const entry = this.#entries[middle];
      if (entry === undefined) break;
      const order = this.#compare(entry[0], key);
      if (order === 0) return { kind: "at", index: middle, value: entry[1] };
      if (order < 0) low = middle + 1;
      else high = middle;
    }
    return { kind: "before", index: low };
  }
}
