/** Small helpers to build the page. Text is always set as text, never as markup. */

type Child = Node | string;
type Properties<Tag extends keyof HTMLElementTagNameMap> = Partial<Omit<HTMLElementTagNameMap[Tag], "dataset" | "style">> & {
  data?: Readonly<Record<string, string>>;
  aria?: Readonly<Record<string, string>>;
};

/** An element with properties, data and ARIA attributes, and children. */
export function h<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  properties: Properties<Tag> = {},
  ...children: Child[]
): HTMLElementTagNameMap[Tag] {
  const { data = {}, aria = {}, ...rest } = properties;
  const element = Object.assign(document.createElement(tag), rest);
  for (const [name, value] of Object.entries(data)) element.dataset[name] = value;
  for (const [name, value] of Object.entries(aria)) element.setAttribute(`aria-${name}`, value);
  element.append(...children);
  return element;
}

/** The element that the page's markup promises. */
export function byId(id: string): HTMLElement {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`the page has no #${id}`);
  return element;
}

/** Sets a text, and touches nothing if it is there already: readers are not told twice. */
export function say(element: HTMLElement, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** Sets or takes away a data attribute. */
export function mark(element: HTMLElement, name: string, value: string | null): void {
  if (value === null) delete element.dataset[name];
  else if (element.dataset[name] !== value) element.dataset[name] = value;
}

/** Children that belong to items by key: those that stay keep their element, and with it focus and selection. */
export class Keyed<Item, Part extends { readonly element: HTMLElement }> {
  readonly #parts = new Map<string, Part>();

  constructor(
    private readonly parent: HTMLElement,
    private readonly keyOf: (item: Item) => string,
    private readonly make: (item: Item) => Part,
    private readonly update: (part: Part, item: Item) => void,
  ) {}

  /** Shows these items, in this order. */
  show(items: readonly Item[]): void {
    const wanted = new Set(items.map(this.keyOf));
    for (const [key, part] of this.#parts) {
      if (wanted.has(key)) continue;
      part.element.remove();
      this.#parts.delete(key);
    }
    items.forEach((item, index) => {
      const key = this.keyOf(item);
      let part = this.#parts.get(key);
      if (part === undefined) this.#parts.set(key, (part = this.make(item)));
      this.update(part, item);
      const there = this.parent.children[index];
      if (there !== part.element) this.parent.insertBefore(part.element, there ?? null);
    });
  }
}

/** A button that does nothing more while its work runs, yet keeps the focus; a failure is handed to `failed`. */
export function button(
  text: string,
  work: () => Promise<void> | void,
  failed: (error: Error) => void,
  properties: Properties<"button"> = {},
): HTMLButtonElement {
  const element = h("button", { type: "button", ...properties }, text);
  element.onclick = async () => {
    if (element.ariaBusy === "true") return;
    element.ariaBusy = "true";
    try {
      await work();
    } catch (error) {
      failed(error instanceof Error ? error : new Error(String(error)));
    } finally {
      element.ariaBusy = "false";
    }
  };
  return element;
}

/** A labelled control. */
export function field(label: string, control: HTMLElement): HTMLLabelElement {
  return h("label", { className: "field" }, h("span", {}, label), control);
}

/** A select with these options: value and label. */
export function select(options: readonly (readonly [string, string])[], properties: Properties<"select"> = {}): HTMLSelectElement {
  const element = h("select", properties);
  fill(element, options);
  return element;
}

/** Gives a select other options, and keeps what was chosen if it is still there. */
export function fill(element: HTMLSelectElement, options: readonly (readonly [string, string])[]): void {
  const chosen = element.options.length === 0 ? null : element.value;
  element.replaceChildren(...options.map(([value, label]) => h("option", { value }, label)));
  if (chosen !== null && options.some(([value]) => value === chosen)) element.value = chosen;
}

/** A term and its value, for a description list. The returned element holds the value. */
export function fact(list: HTMLElement, term: string): HTMLElement {
  const value = h("dd", {}, "–");
  list.append(h("div", {}, h("dt", {}, term), value));
  return value;
}
