/** Where tokens come from: the development server, or the person who pasted one. */

import { type DevInfo, devToken } from "./dev";
import { byId, field, h } from "./ui/dom";

/** How the page gets at the cluster. */
export interface Access {
  /** Addresses of coordinators. */
  coordinators: readonly string[];
  /** A user token that is good for this room. */
  token(room: string, user: string): Promise<string>;
}

/** Name of the pasted token in the tab's own storage. */
const STORED_TOKEN = "waystation-token";

/** The access of the page that `waystation dev` serves. */
export function devAccess(info: DevInfo): Access {
  return { coordinators: info.coordinators, token: devToken };
}

/** The access of a page that a coordinator serves: the person pastes a user token. */
export function pastedAccess(changed: () => void): Access {
  const input = h("input", { type: "password", autocomplete: "off", value: sessionStorage.getItem(STORED_TOKEN) ?? "" });
  input.onchange = () => {
    sessionStorage.setItem(STORED_TOKEN, input.value.trim());
    changed();
  };
  const panel = byId("access");
  panel.hidden = false;
  panel.append(
    h("h2", {}, "Access"),
    h("p", {}, "Paste a user token. `waystation token --room ROOM --user USER --publish --play --observe` prints one."),
    field("User token", input),
  );
  return {
    coordinators: [location.origin],
    token: async () => {
      const token = input.value.trim();
      if (token === "") throw new Error("a user token is needed: paste one under Access");
      return token;
    },
  };
}
