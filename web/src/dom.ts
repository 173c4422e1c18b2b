/** Small helpers to build the page. Text is always set as text, never as markup. */

type Child = Node | string;

/** An element with properties and children. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Partial<HTMLElementTagNameMap[K]> = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** The element that the page's markup promises. */
export function byId(id: string): HTMLElement {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`the page has no #${id}`);
  return element;
}

/** A table with a header line; no rows show `empty`. */
export function table(head: string[], rows: Child[][], empty: string): HTMLElement {
  if (rows.length === 0) return h("p", { className: "empty" }, empty);
  const cells = (row: Child[]) => row.map((cell) => h("td", {}, cell));
  return h("div", { className: "scroll" }, h("table", {},
    h("thead", {}, h("tr", {}, ...head.map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, ...rows.map((row) => h("tr", {}, ...cells(row)))),
  ));
}

/** A button that is disabled while its work runs; a failure is handed to `failed`. */
export function button(text: string, work: () => Promise<void> | void, failed: (error: Error) => void): HTMLButtonElement {
  const element = h("button", { type: "button" }, text);
  element.onclick = async () => {
    element.disabled = true;
    try {
      await work();
    } catch (error) {
      failed(error as Error);
    } finally {
      element.disabled = false;
    }
  };
  return element;
}

/** A labelled control. */
export function field(label: string, control: HTMLElement): HTMLLabelElement {
  return h("label", {}, h("span", {}, label), control);
}
