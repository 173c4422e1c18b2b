/** A list of nodes to choose from that follows the cluster. */

import { h } from "../dom";
import type { NodeRow } from "./nodes";

/** Tells its selects when the nodes change. */
export class NodeChoice {
  readonly #selects = new Set<HTMLSelectElement>();
  #rows: readonly NodeRow[] = [];

  /** Keeps a select's options true until {@link NodeChoice.remove}. */
  add(select: HTMLSelectElement): void {
    this.#selects.add(select);
    this.#fill(select);
  }

  /** Forgets a select that left the page. */
  remove(select: HTMLSelectElement): void {
    this.#selects.delete(select);
  }

  /** Takes a new list. */
  update(rows: readonly NodeRow[]): void {
    const key = (list: readonly NodeRow[]) => list.map((row) => `${row.id} ${row.url}`).join("\n");
    const same = key(rows) === key(this.#rows);
    this.#rows = rows;
    if (!same) for (const select of this.#selects) this.#fill(select);
  }

  /** The id of the node at an address. */
  idOf(url: string): string {
    return this.#rows.find((row) => row.url === url)?.id ?? url;
  }

  #fill(select: HTMLSelectElement): void {
    const chosen = select.value;
    select.replaceChildren(...this.#rows.map((row) => h("option", { value: row.url }, row.id)));
    if (this.#rows.some((row) => row.url === chosen)) select.value = chosen;
  }
}

/** A select that follows the choice. */
export function nodeSelect(choice: NodeChoice): HTMLSelectElement {
  const select = h("select");
  choice.add(select);
  return select;
}
