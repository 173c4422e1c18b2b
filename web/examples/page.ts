/** What the example pages share: words from their address, a token from the app's server, and a list of what happened. */

/** The value of a word in the page's address, such as `?room=demo`. */
export function parameter(name: string, otherwise: string): string {
  return new URLSearchParams(location.search).get(name) ?? otherwise;
}

/** A user token. Signing is the business of the app's server, which knows who is logged in to the app. */
export async function userToken(room: string, user: string): Promise<string> {
  const response = await fetch(`/token?${new URLSearchParams({ room, user })}`);
  if (!response.ok) throw new Error(`no token: ${response.status} ${await response.text()}`);
  return response.text();
}

/** An element that the page has. */
export function element<Name extends keyof HTMLElementTagNameMap>(name: Name, id: string): HTMLElementTagNameMap[Name] {
  const found = document.querySelector<HTMLElementTagNameMap[Name]>(`${name}#${id}`);
  if (found === null) throw new Error(`the page has no ${name}#${id}`);
  return found;
}

/** Adds a line to the list of what happened. */
export function say(text: string): void {
  element("ol", "log").append(Object.assign(document.createElement("li"), { textContent: text }));
}
